"""The standing of policies beside a live process: a table that is drawn again, or lines for a pipe."""

from __future__ import annotations

from rich.console import Console, Group
from rich.text import Text

from lib_usm.pb.usm.v1 import admin_pb2
from usmd.ctl.status_view import format_duration
from usmd.ctl.tables import Cell, fitted
from usmd.text_output import printable

ITSELF = "the process itself"
TITLES = ("POLICY", ">ACCESSES", ">MISSES", ">MISS RATIO", ">LAST", ">VS LIVE", ">µs/ACCESS")
LEFT_OUT = (">µs/ACCESS", ">ACCESSES", ">MISSES", ">LAST")
"""What a narrow terminal does without."""
DEAR = 0.1
"""Share of the daemon's time above which a way to spend less is shown."""


def heading(report: admin_pb2.ShadowReport) -> list[Text]:
    """What is looked at, and what there is to know of it."""
    sample = f", one page in {report.sample:,}" if report.sample > 1 else ""
    name = printable(report.process_name)
    found = [
        Text(
            f"shadow of process {report.process_id} {name}, policy {printable(report.live_policy)}; each ghost has "
            f"{report.frames:,} frames{sample}"
        )
    ]
    if report.faults_only:
        found.append(
            Text(
                "real memory: ghosts see only the faults of the policy in force and first writes to clean pages, and "
                "their numbers do not tell how they would do",
                style="bold red",
            )
        )
    return found


def picture(console: Console, report: admin_pb2.ShadowReport) -> Group:
    """All of a report, for a terminal."""
    rows: list[tuple[Cell, ...]] = [
        (ITSELF, f"{report.accesses:,}", f"{report.live_misses:,}", f"{report.live_miss_ratio:.4f}", "", "", "")
    ]
    best = min((each.miss_ratio for each in report.ghosts if not each.stopped), default=0.0)
    for number, ghost in enumerate(report.ghosts):
        style = "dim" if ghost.stopped else "bold green" if ghost.accesses and ghost.miss_ratio == best else ""
        rows.append(
            (
                Text(_label(number, ghost), style),
                f"{ghost.accesses:,}",
                f"{ghost.misses:,}",
                Text(f"{ghost.miss_ratio:.4f}", style),
                f"{ghost.recent_miss_ratio:.4f}",
                f"{ghost.difference:+.4f}" if number else "",
                f"{ghost.microseconds_an_access:.2f}",
            )
        )
    table, _, missing = fitted(console, TITLES, rows, LEFT_OUT)
    return Group(*heading(report), Text(), table, missing, *_remarks(report))


def lines(report: admin_pb2.ShadowReport) -> list[Text]:
    """A report for a pipe: a line for the process and one for each ghost, and what is wrong."""
    time = f"{report.seconds:8.1f} s  "
    labels = [_label(number, ghost) for number, ghost in enumerate(report.ghosts)]
    width = max(len(each) for each in (ITSELF, *labels))
    found = [
        Text(
            f"{time}{ITSELF:<{width}}  {report.accesses:>12,} accesses  {report.live_misses:>10,} misses  "
            f"{report.live_miss_ratio:.4f}"
        )
    ]
    for number, ghost in enumerate(report.ghosts):
        against = f"  {ghost.difference:+.4f}" if number else ""
        wrong = f"  {printable(ghost.problem)}" if ghost.problem else ""
        found.append(
            Text(
                f"{time}{labels[number]:<{width}}  {ghost.accesses:>12,} accesses  {ghost.misses:>10,} misses  "
                f"{ghost.miss_ratio:.4f}  last {ghost.recent_miss_ratio:.4f}{against}{wrong}"
            )
        )
    return [*found, *(Text(time).append_text(each) for each in _remarks(report, problems=False))]


def _label(number: int, ghost: admin_pb2.Ghost) -> str:
    return f"{printable(ghost.policy)}{'' if number else ' (in force)'}"


def _remarks(report: admin_pb2.ShadowReport, *, problems: bool = True) -> list[Text]:
    """What it costs, and what is wrong."""
    dear = report.wall_share > DEAR and report.sample == 1
    found = [
        Text(
            f"{format_duration(report.seconds)}; cost: {report.microseconds_an_access:.2f} µs an access, "
            f"{report.wall_share:.1%} of the daemon's time{'; --sample 1/8 costs less' if dear else ''}"
        )
    ]
    if report.dropped:
        found.append(
            Text(
                f"{report.dropped:,} of {report.accesses:,} accesses were lost for want of time; take fewer policies, "
                "or a sample such as --sample 1/8",
                style="bold red",
            )
        )
    if report.ghosts and report.live_policy != report.ghosts[0].policy:
        found.append(Text(f"the process has {printable(report.live_policy)} by now"))
    for number, ghost in enumerate(report.ghosts):
        if ghost.problem and problems:
            found.append(Text(f"{_label(number, ghost)}: {printable(ghost.problem)}", style="red"))
    if report.ended:
        found.append(Text(f"the process ended: {printable(report.ended)}"))
    return found

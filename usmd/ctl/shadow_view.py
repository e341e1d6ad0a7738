"""The results of `usmctl shadow`: a table that is redrawn, or lines in a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.text import Text

from usmd.ctl.record_view import are_sampled, others_seen
from usmd.ctl.status_view import format_duration
from usmd.ctl.tables import Cell, fitted
from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

ITSELF = "the process itself"
TITLES = ("POLICY", ">ACCESSES", ">MISSES", ">MISS RATIO", ">LAST", ">VS LIVE", ">µs/ACCESS")
LEFT_OUT = (">µs/ACCESS", ">ACCESSES", ">MISSES", ">LAST")
"""Columns that a narrow terminal omits, the least important first."""
DEAR = 0.1
"""Share of the daemon's time above which a cheaper sample is suggested."""


def heading(report: admin_pb2.ShadowReport) -> list[Text]:
    """The process, the simulations' size, and a warning about real memory."""
    sample = f", one page in {report.sample:,}" if report.sample > 1 else ""
    name = printable(report.process_name)
    found = [
        Text(
            f"shadow of process {report.process_id} {name}, policy {printable(report.live_policy)}; each simulation "
            f"has {report.frames:,} frames{sample}"
        )
    ]
    if report.faults_only:
        sampled = are_sampled(report.sampling)
        blind = "" if sampled else "; their numbers do not tell how they would do"
        found.append(
            Text(
                "real memory: simulations see the faults of the policy in force, first writes to clean pages, and "
                f"{others_seen(report.sampling)}{blind}",
                style="yellow" if sampled else "bold red",
            )
        )
    return found


def picture(console: Console, report: admin_pb2.ShadowReport) -> Group:
    """All of a report, for a terminal."""
    rows: list[tuple[Cell, ...]] = [
        (ITSELF, f"{report.accesses:,}", f"{report.live_misses:,}", f"{report.live_miss_ratio:.4f}", "", "", "")
    ]
    best = min((each.miss_ratio for each in report.simulations if not each.stopped), default=0.0)
    for number, each in enumerate(report.simulations):
        style = "dim" if each.stopped else "bold green" if each.accesses and each.miss_ratio == best else ""
        rows.append(
            (
                Text(_label(number, each), style),
                f"{each.accesses:,}",
                f"{each.misses:,}",
                Text(f"{each.miss_ratio:.4f}", style),
                f"{each.recent_miss_ratio:.4f}",
                f"{each.difference:+.4f}" if number else "",
                f"{each.microseconds_an_access:.2f}",
            )
        )
    table, _, missing = fitted(console, TITLES, rows, LEFT_OUT)
    return Group(*heading(report), Text(), table, missing, *_remarks(report))


def lines(report: admin_pb2.ShadowReport) -> list[Text]:
    """A report for a pipe: a line for the process, one for each simulation, and remarks."""
    time = f"{report.seconds:8.1f} s  "
    labels = [_label(number, each) for number, each in enumerate(report.simulations)]
    width = max(len(each) for each in (ITSELF, *labels))
    found = [
        Text(
            f"{time}{ITSELF:<{width}}  {report.accesses:>12,} accesses  {report.live_misses:>10,} misses  "
            f"{report.live_miss_ratio:.4f}"
        )
    ]
    for number, each in enumerate(report.simulations):
        against = f"  {each.difference:+.4f}" if number else ""
        wrong = f"  {printable(each.problem)}" if each.problem else ""
        found.append(
            Text(
                f"{time}{labels[number]:<{width}}  {each.accesses:>12,} accesses  {each.misses:>10,} misses  "
                f"{each.miss_ratio:.4f}  last {each.recent_miss_ratio:.4f}{against}{wrong}"
            )
        )
    return [*found, *(Text(time).append_text(each) for each in _remarks(report, problems=False))]


def _label(number: int, simulation: admin_pb2.ShadowSimulation) -> str:
    return f"{printable(simulation.policy)}{'' if number else ' (in force)'}"


def _remarks(report: admin_pb2.ShadowReport, *, problems: bool = True) -> list[Text]:
    """The cost, and problems."""
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
    if report.simulations and report.live_policy != report.simulations[0].policy:
        found.append(Text(f"the process has {printable(report.live_policy)} by now"))
    for number, each in enumerate(report.simulations):
        if each.problem and problems:
            found.append(Text(f"{_label(number, each)}: {printable(each.problem)}", style="red"))
    if report.ended:
        found.append(Text(f"the process ended: {printable(report.ended)}"))
    return found

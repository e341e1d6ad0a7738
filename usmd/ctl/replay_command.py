"""`usmctl replay`: runs a trace through any policies; prints a table or JSON, or draws a miss-ratio curve.

replay_view prints, curve_plot draws, and usmd/lab replays. No daemon is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from usmd.command_line import Format
from usmd.ctl import completion, curve_plot, replay_view
from usmd.ctl.as_json import write_document
from usmd.ctl.command import FAILED, INTERRUPTED
from usmd.ctl.console import make_console
from usmd.ctl.options import FormatOption, chosen_format, listed
from usmd.ctl.progress import Advance, progress_bar
from usmd.ctl.replay_arguments import columns_of, frames_of, page_size_of, specifications_of
from usmd.errors import InvalidArgument
from usmd.lab.hint_file import read_hints
from usmd.lab.loading import Trace, load
from usmd.lab.miss_ratio_curve import WorkerLost, curves
from usmd.lab.replay import Replay, Row, Setup
from usmd.lab.traces.reading import AUTO, FORMATS, open_trace
from usmd.lab.traces.time_units import UNITS
from usmd.text_output import complain

POINTS = 16
DEFAULT_EVICT = "lru,sieve,s3_fifo,arc"
DEFAULT_ALLOC = "first_fit"
EPILOG = """Examples:

usmctl replay trace.txt --frames 1000,10% --evict 'lru,s3_fifo(small=0.2),belady'

usmctl replay app.usm --mrc --evict lru,arc -o app

valgrind --tool=lackey --trace-mem=yes ls 2>&1 >/dev/null | usmctl replay - --frames 16"""

TraceArgument = Annotated[
    str,
    typer.Argument(
        metavar="TRACE",
        help="File, or - for standard input; plain or compressed by gzip, zstd, xz, bzip2 or lz4. Formats: "
        + ", ".join(FORMATS)
        + " (detected).",
        show_default=False,
    ),
]
FramesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--frames",
        metavar="N[,N...]",
        help="Memory in frames, as a share of the trace's distinct pages such as 10%, or as a size such as 64MiB. "
        "Default: 10%; with --mrc: --points sizes from 0.1 % to all.",
        show_default=False,
    ),
]
EvictOption = Annotated[
    list[str] | None,
    typer.Option(
        "--evict",
        metavar="SPEC[,SPEC...]",
        autocompletion=completion.policies("evict"),
        help="Evict policies: names, with parameters in parentheses, or path/to/file.py:Class; belady is the optimum. "
        f"Default: {DEFAULT_EVICT}.",
        show_default=False,
    ),
]
AllocOption = Annotated[
    list[str] | None,
    typer.Option(
        "--alloc",
        metavar="SPEC[,SPEC...]",
        help=f"Alloc policies. Default: {DEFAULT_ALLOC}.",
        show_default=False,
        autocompletion=completion.policies("alloc"),
    ),
]
HintsOption = Annotated[
    Path | None,
    typer.Option(
        "--hints",
        metavar="FILE",
        help="Hints, one a line: \\[@SECONDS] PAGES HINT, where PAGES is *, an id or FIRST-LAST; '-' as HINT clears.",
        show_default=False,
    ),
]
PageSizeOption = Annotated[
    str, typer.Option("--page-size", metavar="SIZE", help="Size of a page, for traces of addresses.")
]
TraceFormatOption = Annotated[
    str,
    typer.Option(
        "--trace-format",
        metavar="NAME",
        help="Format of the trace: auto, " + ", ".join(FORMATS) + ".",
        autocompletion=completion.one_of((AUTO, *FORMATS)),
    ),
]
ColumnsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="WHAT=NAME[,...]",
        help="Columns of a csv trace: time, id, address, size, op, such as id=object,op=verb; by number if there is no "
        "header: id=2; op= leaves the column out.",
        show_default=False,
    ),
]
TimeUnitOption = Annotated[
    str, typer.Option("--time-unit", metavar="NAME", help=f"Unit of a csv trace's times: auto, {', '.join(UNITS)}.")
]
CurveOption = Annotated[bool, typer.Option("--mrc", help="Compute the miss-ratio curve over many sizes, and draw it.")]
PointsOption = Annotated[
    int | None,
    typer.Option("--points", min=2, max=1000, help="Sizes of the curve. Default: 16.", show_default=False),
]
JobsOption = Annotated[
    int | None,
    typer.Option("--jobs", min=1, max=1024, help="Processes for the curve. Default: one per CPU.", show_default=False),
]
OutOption = Annotated[
    Path | None,
    typer.Option("-o", "--out", metavar="PATH", help="Curve's picture without its ending; PATH.png and PATH.svg are "
                 "written, in place of earlier ones. Default: the trace's name and -mrc, in this folder.",
                 show_default=False),
]  # fmt: skip

ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite pictures that are not usmctl's curves.")]


def replay(
    context: typer.Context,
    trace: TraceArgument,
    frames: FramesOption = None,
    evict: EvictOption = None,
    alloc: AllocOption = None,
    hints: HintsOption = None,
    page_size: PageSizeOption = "4KiB",
    trace_format: TraceFormatOption = AUTO,
    columns: ColumnsOption = None,
    time_unit: TimeUnitOption = AUTO,
    mrc: CurveOption = False,
    points: PointsOption = None,
    jobs: JobsOption = None,
    out: OutOption = None,
    force: ForceOption = False,
    output: FormatOption = None,
) -> None:
    """Replay a trace of accesses through the real core, and compare policies.

    Needs no daemon: core and policies are the daemon's, the clock is simulated, and there are no bytes.

    A recording of `usmctl record` is a trace too. Ctrl-C prints the results so far.
    """
    of_curve = {"--points": points, "--jobs": jobs, "-o": out}
    if not mrc and (given := [name for name, value in of_curve.items() if value is not None]):
        raise InvalidArgument(f"{' and '.join(given)} without --mrc, which computes and draws a curve; add that")
    if out is not None and not out.name:
        raise InvalidArgument(f"-o {out} names no file; a name such as {out / 'curve'} does")
    target = _target(trace, out)
    if mrc:
        curve_plot.check_folder(target)
        if not force:
            curve_plot.check_target(target)
    bytes_a_page = page_size_of(page_size)
    policies = [
        (one, other)
        for other in specifications_of("alloc", listed(alloc, DEFAULT_ALLOC))
        for one in specifications_of("evict", listed(evict, DEFAULT_EVICT))
    ]
    rows: list[Row] = []
    why, code = "", 0
    try:
        found = _load(trace, trace_format, bytes_a_page, columns_of(columns or ()), time_unit)
        wanted = frames_of(frames, found, bytes_a_page, points or POINTS, mrc=mrc)
        timed = [] if hints is None else read_hints(str(hints), found.numbering)
        setups = [Setup(size, one, other, bytes_a_page, timed) for size in wanted for one, other in policies]
        # Invalid setups, and hints without effect, are reported before the work begins.
        _warn_unheeded([Replay(found, each) for each in setups[: len(policies)]])
    except KeyboardInterrupt:
        complain("usmctl", "interrupted while the trace was read; nothing was replayed")
        raise typer.Exit(INTERRUPTED) from None
    try:
        with progress_bar("replaying", len(found) * len(setups)) as advance:
            if mrc:
                for row in curves(found, setups, jobs):
                    rows.append(row)
                    advance(row.accesses)
            else:
                _one_by_one(found, setups, rows, advance)
    except KeyboardInterrupt:
        why, code = "interrupted", INTERRUPTED
    except WorkerLost as error:
        why, code = str(error), FAILED
    if chosen_format(context, output) is Format.JSON:
        write_document(replay_view.as_document(found, rows, bytes_a_page, complete=not why), sys.stdout)
    else:
        replay_view.show(make_console(), found, rows, bytes_a_page, curve=mrc)
    if mrc and rows:
        _draw(found, rows, target)
    if why:
        done = sum(row.complete for row in rows)
        complain("usmctl", f"{why} after {done} of {len(setups)} replays; above is what is known so far")
        raise typer.Exit(code)


def _warn_unheeded(replays: Sequence[Replay]) -> None:
    """Warn of the hints' keys that have no effect, with the policies."""
    under: dict[tuple[str, str], list[str]] = {}
    for each in replays:
        if keys := each.unheeded():
            under.setdefault((", ".join(keys), each.setup.alloc), []).append(each.setup.evict)
    for (unused, alloc), names in under.items():
        where = f"--alloc is {alloc} and --evict {' or '.join(names)}"
        complain("usmctl", f"no policy acts on {unused} of the hints where {where}")


def _one_by_one(trace: Trace, setups: Sequence[Setup], rows: list[Row], advance: Advance) -> None:
    """Replay each setup and append its row, also of the one that is interrupted."""
    for setup in setups:
        replay = Replay(trace, setup)
        before = 0
        try:
            for done in replay.run():
                advance(done - before)
                before = done
        finally:
            if replay.row().accesses:
                rows.append(replay.row())


def _load(path: str, form: str, page_size: int, columns: dict[str, str], time_unit: str) -> Trace:
    with open_trace(path, form, page_size, columns, time_unit) as source:
        with progress_bar(f"reading {source.name}", source.size, of_bytes=True) as advance:
            position = 0

            def moved() -> None:
                nonlocal position
                advance(source.position - position)
                position = source.position

            found = load(source, moved)
        if source.skipped:
            complain("usmctl", f"lines of {source.name} without an access, skipped: {source.skipped:,}")
        if source.truncated:
            complain("usmctl", f"the last record of {source.name} was cut off and left out")
    return found


def _target(trace: str, out: Path | None) -> Path:
    """Path of the picture without its suffix."""
    name = "stdin" if trace == "-" else Path(trace).name
    target = out or Path(f"{name.partition('.')[0] or 'trace'}-mrc")
    return target.with_suffix("") if target.suffix in (".png", ".svg") else target


def _draw(trace: Trace, rows: Sequence[Row], target: Path) -> None:
    try:
        written = curve_plot.draw(trace, rows, target)
    except ImportError:
        complain("usmctl", "no picture, because matplotlib is not installed: pip install 'usmd[plot]'")
    else:
        complain("usmctl", f"drawn to {' and '.join(map(str, written))}")

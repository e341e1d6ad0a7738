"""`usmctl replay`: its options. replay_work does what they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usmd.command_line import Format
from usmd.ctl import completion
from usmd.ctl.options import FormatOption, chosen_format, listed
from usmd.lab.traces.formats import AUTO, FORMATS
from usmd.lab.traces.time_units import UNITS

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
    typer.Option(
        "--jobs",
        metavar="N",
        min=1,
        max=1024,
        help="Processes that replay at the same time. Default: 1; with --mrc: one per CPU.",
        show_default=False,
    ),
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
    from usmd.ctl.replay_work import replay_and_show  # the core, and the readers of traces

    replay_and_show(
        trace=trace, frames=frames, evict=listed(evict, DEFAULT_EVICT),
        alloc=listed(alloc, DEFAULT_ALLOC), hints=hints, page_size=page_size,
        trace_format=trace_format, columns=columns, time_unit=time_unit, mrc=mrc, points=points, jobs=jobs, out=out,
        force=force, as_json=chosen_format(context, output) is Format.JSON,
    )  # fmt: skip

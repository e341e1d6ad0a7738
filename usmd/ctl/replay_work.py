"""What `usmctl replay` does: runs a trace through any policies; prints a table or JSON, or draws a miss-ratio curve.

replay_view prints, curve_plot draws, and usmd/lab replays. No daemon is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer

from usmd.ctl import curve_plot, replay_view
from usmd.ctl.as_json import write_document
from usmd.ctl.command import FAILED, INTERRUPTED
from usmd.ctl.console import make_console
from usmd.ctl.progress import Advance, progress_bar
from usmd.ctl.replay_arguments import columns_of, frames_of, page_size_of, specifications_of
from usmd.errors import InvalidArgument
from usmd.lab.hint_file import read_hints
from usmd.lab.loading import Trace, load
from usmd.lab.miss_ratio_curve import WorkerLost, curves
from usmd.lab.replay import Replay, Row, Setup
from usmd.lab.traces.reading import open_trace
from usmd.text_output import complain

POINTS: Final = 16
"""Sizes of a curve, unless --points says how many."""


def replay_and_show(
    *,
    trace: str,
    frames: list[str] | None,
    evict: str,
    alloc: str,
    hints: Path | None,
    page_size: str,
    trace_format: str,
    columns: list[str] | None,
    time_unit: str,
    mrc: bool,
    points: int | None,
    jobs: int | None,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Do what the options of `usmctl replay` ask for; they have the names of its options.

    Raises what the arguments and the trace are wrong for, and Exit with the code of work that was not completed.
    """
    of_curve = {"--points": points, "-o": out}
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
        (one, other) for other in specifications_of("alloc", alloc) for one in specifications_of("evict", evict)
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
            if mrc or (jobs or 1) > 1:
                for row in curves(found, setups, jobs):
                    rows.append(row)
                    advance(row.accesses)
            else:
                _one_by_one(found, setups, rows, advance)
    except KeyboardInterrupt:
        why, code = "interrupted", INTERRUPTED
    except WorkerLost as error:
        why, code = str(error), FAILED
    place = {(each.frames, each.evict, each.alloc): number for number, each in enumerate(setups)}
    rows.sort(key=lambda row: place[row.frames, row.evict, row.alloc])  # processes end in any order
    if as_json:
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

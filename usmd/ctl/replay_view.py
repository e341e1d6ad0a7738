"""Prints the results of `usmctl replay`: a table with a line per replay, a curve as a table, or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from rich.console import Console
from rich.text import Text

from usmd.ctl.console import has_blocks
from usmd.ctl.tables import show_table
from usmd.lab.loading import Trace
from usmd.lab.replay import Row
from usmd.sizes import format_size
from usmd.text_output import printable

BAR = 12
"""Characters of the bar that shows a miss ratio."""
BAR_TITLE = " "
LEFT_OUT = (BAR_TITLE, ">FAULTS/1000", ">ACCESSES/S", ">OF PAGES", ">WRITE-BACKS", ">EVICTIONS", ">HITS")
"""Columns that a narrow terminal omits, the least important first."""
SPECIFICATION = 60
"""Columns are omitted to show this many characters of a policy: if they were cut, two policies could look alike."""


class ReplayDocument(TypedDict):
    """The results of replays for programs."""

    trace: str
    trace_format: str
    accesses: int
    distinct_pages: int
    writes: int
    page_size: int
    complete: bool
    rows: list[Row]


def as_document(trace: Trace, rows: Sequence[Row], page_size: int, *, complete: bool) -> ReplayDocument:
    """The results for programs: the trace, and in `rows` one object per replay."""
    return {
        "trace": trace.name,
        "trace_format": trace.format,
        "accesses": len(trace),
        "distinct_pages": trace.distinct,
        "writes": trace.writes.count(1),
        "page_size": page_size,
        "complete": complete,
        "rows": list(rows),
    }


def show(console: Console, trace: Trace, rows: Sequence[Row], page_size: int, *, curve: bool) -> None:
    """Print the trace in one line, the table, and the errors."""
    writes = 100 * trace.writes.count(1) / len(trace)
    console.print(
        f"{printable(trace.name)} ({trace.format}): {len(trace):,} accesses, {writes:.0f}% writes, to "
        f"{trace.distinct:,} pages ({format_size(trace.distinct * page_size)} at {format_size(page_size)} a page)",
    )
    if curve:
        _show_curve(console, trace, rows)
    else:
        _show_rows(console, trace, rows)
    for row in rows:
        if row.policy_errors:
            told = (
                f"{row.policy_errors:,} answers of the policy were not used; the first: {printable(row.policy_error)}"
            )
            console.print(f"{row.evict}, {row.alloc}: {told}")
        if row.refused:
            told = f"{row.refused:,} misses found nothing that may be evicted"
            console.print(f"{row.evict} with {row.frames:,} frames: {told}")
        if not row.complete:
            console.print(f"{row.evict} with {row.frames:,} frames: the first {row.accesses:,} accesses")


def _show_rows(console: Console, trace: Trace, rows: Sequence[Row]) -> None:
    fewest = {
        frames: min(row.misses for row in rows if row.frames == frames) for frames in {row.frames for row in rows}
    }

    def marked(row: Row, text: str) -> Text:
        return Text(text, "bold green" if row.misses == fewest[row.frames] and len(rows) > 1 else "")

    columns: dict[str, list[str | Text]] = {
        ">FRAMES": [f"{row.frames:,}" for row in rows],
        ">OF PAGES": [_share(row.frames, trace) for row in rows],
        "EVICT": [marked(row, printable(row.evict)) for row in rows],
        "ALLOC": [printable(row.alloc) for row in rows],
        ">HITS": [f"{row.hits:,}" for row in rows],
        ">MISSES": [f"{row.misses:,}" for row in rows],
        ">MISS RATIO": [marked(row, f"{row.miss_ratio:.4f}") for row in rows],
        BAR_TITLE: [_bar(console, row.miss_ratio) for row in rows],
        ">EVICTIONS": [f"{row.evictions:,}" for row in rows],
        ">WRITE-BACKS": [f"{row.writebacks:,}" for row in rows],
        ">FAULTS/1000": [f"{row.faults_per_1000:.1f}" for row in rows],
        ">ACCESSES/S": [f"{row.accesses_per_s:,.0f}" for row in rows],
    }
    if len({row.alloc for row in rows}) <= 1:
        del columns["ALLOC"]
    show_table(console, list(columns), zip(*columns.values(), strict=True), "", LEFT_OUT, enough=SPECIFICATION)


def _share(frames: int, trace: Trace) -> str:
    return f"{100 * frames / trace.distinct:.1f}%"


def _show_curve(console: Console, trace: Trace, rows: Sequence[Row]) -> None:
    """One line per size, one column per policy; the best of each size is highlighted."""
    names = sorted({label(row, rows) for row in rows})
    ratios = {(row.frames, label(row, rows)): row.miss_ratio for row in rows}
    lines: list[list[str | Text]] = []
    for frames in sorted({row.frames for row in rows}):
        found = [ratios.get((frames, name)) for name in names]
        best = min(ratio for ratio in found if ratio is not None)
        cells = [
            Text("-" if ratio is None else f"{ratio:.4f}", "bold green" if ratio == best and len(names) > 1 else "")
            for ratio in found
        ]
        lines.append([f"{frames:,}", _share(frames, trace), *cells])
    columns = [">FRAMES", ">OF PAGES", *(f">{printable(name)}" for name in names)]
    show_table(console, columns, lines, "no replay has ended")


def label(row: Row, rows: Sequence[Row]) -> str:
    """A short name for a replay's policies: the evict policy, and the alloc policy if there are several."""
    return f"{row.evict}, {row.alloc}" if len({each.alloc for each in rows}) > 1 else row.evict


def _bar(console: Console, ratio: float) -> str:
    filled = round(ratio * BAR)
    full, empty = ("█", "░") if has_blocks(console) else ("#", ".")
    return full * filled + empty * (BAR - filled)

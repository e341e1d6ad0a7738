"""Hints as tables: the ranges with their counts, and each process's share of the budget, in pages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from usmd.ctl.tables import Column, page_range, show_list, show_table
from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

COLUMNS: Final[list[Column[admin_pb2.HintRange]]] = [
    Column(">HINT", lambda it: str(it.hint_id), lambda it: it.hint_id),
    Column("PROCESS", lambda it: f"{it.process_id} {printable(it.process_name)}", None, 1),
    Column("REGION", lambda it: f"{it.region_id} {printable(it.region_name)}".rstrip()),
    Column(">PAGES", page_range, lambda it: it.page_count),
    Column(">RESIDENT", lambda it: f"{it.resident_pages:,}", lambda it: it.resident_pages, 4),
    Column(">UNEVICTABLE", lambda it: f"{it.unevictable_pages:,}", lambda it: it.unevictable_pages, 3),
    Column(">FAULTS", lambda it: f"{it.faults:,}", lambda it: it.faults, 6),
    Column(">EVICTED", lambda it: f"{it.evictions:,}", lambda it: it.evictions, 5),
    Column(">ENDS IN", lambda it: _end(it), lambda it: _seconds_left(it), 2),
    Column("TEXT", lambda it: printable(it.text)),
]


def show_hints(console: Console, found: admin_pb2.ListHintsResponse) -> None:
    """Print one line per range with a hint in force, then one per process that keeps pages or has hints."""
    show_list(console, COLUMNS, found.hint_ranges, "no hints in force")
    for hint in found.hint_ranges:
        if hint.unheeded_keys:
            who = f"hint {hint.hint_id}: no policy of process {hint.process_id} {printable(hint.process_name)}".rstrip()
            console.print(Text(f"{who} acts on {unheeded(hint)}"))
    if not found.kept_pages:
        return
    console.print()
    kept = (
        (
            f"{each.process_id} {printable(each.process_name)}",
            f"{each.hint_ranges:,}",
            f"{each.unevictable_pages:,}",
            f"{each.pinned_pages:,}",
            _share(each.unevictable_pages + each.pinned_pages, each.deny_budget),
            f"{each.over_budget:,}",
        )
        for each in found.kept_pages
    )
    titles = ("PROCESS", ">RANGES", ">UNEVICTABLE", ">PINNED", ">OF ITS BUDGET", ">OVER BUDGET")
    show_table(console, titles, kept, "", (">RANGES", ">OVER BUDGET", ">PINNED", ">UNEVICTABLE"))
    total = Text(f"all processes keep {found.kept_total:,} of {found.deny_budget_total:,} frames (deny_budget_total)")
    total.append(f"; each may keep {found.deny_budget:,} (deny_budget)")
    console.print(total)


def show_cleared(console: Console, answer: admin_pb2.ClearHintsResponse) -> None:
    """Print what was removed."""
    last = answer.first_page + max(answer.page_count, 1) - 1
    ranges = "1 range" if answer.hint_ranges == 1 else f"{answer.hint_ranges:,} ranges"
    console.print(
        f"region {answer.region_id}, pages {answer.first_page}-{last}: the hints of {ranges} were removed"
        if answer.hint_ranges
        else f"region {answer.region_id}, pages {answer.first_page}-{last}: no hint was in force",
    )


def unheeded(hint: admin_pb2.HintRange) -> str:
    """The keys of a hint that no policy acts on, as text."""
    return ", ".join(printable(key) for key in hint.unheeded_keys)


def _end(hint: admin_pb2.HintRange) -> str:
    return f"{hint.expires_in_seconds:.1f} s" if hint.HasField("expires_in_seconds") else "-"


def _seconds_left(hint: admin_pb2.HintRange) -> float:
    return hint.expires_in_seconds if hint.HasField("expires_in_seconds") else math.inf


def _share(kept: int, budget: int) -> str:
    return f"{kept:,} of {budget:,} ({kept / budget:.1%})" if budget else f"{kept:,} of 0"

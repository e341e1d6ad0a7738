"""Hints as tables: the ranges with what happened on them, and who keeps how much of the budget. Pages and frames."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from lib_usm.pb.usm.v1 import admin_pb2
from usmd.ctl.tables import page_range, show_table
from usmd.text_output import printable


def show_hints(console: Console, found: admin_pb2.ListHintsResponse) -> None:
    """One line per range on which a hint is in force, then one per process that keeps pages or has hints."""
    rows = (
        (
            str(hint.hint_id),
            f"{hint.process_id} {printable(hint.process_name)}",
            f"{hint.region_id} {printable(hint.region_name)}".rstrip(),
            page_range(hint),
            f"{hint.resident_pages:,}",
            f"{hint.denied_pages:,}",
            f"{hint.faults:,}",
            f"{hint.evictions:,}",
            f"{hint.expires_in_seconds:.1f} s" if hint.HasField("expires_in_seconds") else "-",
            printable(hint.text),
        )
        for hint in found.hint_ranges
    )
    columns = (
        ">HINT", "PROCESS", "REGION", ">PAGES", ">RESIDENT", ">DENIED", ">FAULTS", ">EVICTED", ">ENDS IN", "TEXT"
    )  # fmt: skip
    show_table(console, columns, rows, "no hints in force")
    for hint in found.hint_ranges:
        if hint.unheeded_keys:
            who = f"hint {hint.hint_id}: no policy of process {hint.process_id} {printable(hint.process_name)}".rstrip()
            console.print(Text(f"{who} acts on {unheeded(hint)}"), soft_wrap=True)
    if not found.kept_pages:
        return
    console.print()
    kept = (
        (
            f"{each.process_id} {printable(each.process_name)}",
            f"{each.hint_ranges:,}",
            f"{each.denied_pages:,}",
            f"{each.pinned_pages:,}",
            _share(each.denied_pages + each.pinned_pages, found.deny_budget),
            f"{each.over_budget:,}",
        )
        for each in found.kept_pages
    )
    show_table(console, ("PROCESS", ">RANGES", ">DENIED", ">PINNED", ">OF ITS BUDGET", ">OVER BUDGET"), kept, "")
    total = Text(f"all processes keep {found.kept_total:,} of {found.deny_budget_total:,} frames (deny_budget_total)")
    total.append(f"; each may keep {found.deny_budget:,} (deny_budget)")
    console.print(total, soft_wrap=True)


def show_cleared(console: Console, answer: admin_pb2.ClearHintsResponse) -> None:
    """What was removed."""
    last = answer.first_page + max(answer.page_count, 1) - 1
    ranges = "1 range" if answer.hint_ranges == 1 else f"{answer.hint_ranges:,} ranges"
    console.print(
        f"region {answer.region_id}, pages {answer.first_page}-{last}: the hints of {ranges} were removed"
        if answer.hint_ranges
        else f"region {answer.region_id}, pages {answer.first_page}-{last}: no hint was in force",
        soft_wrap=True,
    )


def unheeded(hint: admin_pb2.HintRange) -> str:
    """The keys of a hint that no policy acts on, as text."""
    return ", ".join(printable(key) for key in hint.unheeded_keys)


def _share(kept: int, budget: int) -> str:
    return f"{kept:,} of {budget:,} ({kept / budget:.1%})" if budget else f"{kept:,} of 0"

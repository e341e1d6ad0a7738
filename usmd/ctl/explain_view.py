"""One page in sentences: where its bytes are, what keeps it, and what happened to it last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from usmd.ctl.hints_view import unheeded
from usmd.ctl.tables import page_range
from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

_STATES = {
    "ABSENT": "it was never touched, or holds only zeros; the next touch gets a page of zeros, a minor fault",
    "FILLING": "its bytes are being read into a frame; faults on it wait",
    "PRESENT": "its bytes are in a frame; a touch is not a fault",
    "EVICTING": "it is being evicted; a fault takes it back",
    "SWAPPED": "its bytes are in swap only; the next touch is a major fault",
}
_RESULTS = {
    "dropped": "its slot was still valid, so the frame was freed without I/O",
    "zero": "it held only zeros, so it took no slot",
    "swapped": "its bytes were written to swap",
    "retaken": "a fault took it back during the eviction, and it stayed",
    "write failed": "its swap device could not be written, and it stayed in memory",
    "refused": "no swap device took it, and it stayed in memory, or on the device where it was",
    "no swap slot": "no swap device had room, and it stayed in memory",
    "unmapped": "its region went away meanwhile",
    "under way": "its bytes are being compared or written",
}
_HAS_FRAME = ("PRESENT", "EVICTING")


def show_page(console: Console, page: admin_pb2.ExplainPageResponse) -> None:
    """Print all that the daemon knows about the page."""
    name = f" '{printable(page.region_name)}'" if page.region_name else ""
    heading = f"Page {page.page:,} of region {page.region_id}{name} of process {page.process_id}, at {page.address:#x}"
    console.print(Text(heading, style="bold"))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for fact, text in _facts(page):
        facts.add_row(f"  {fact}", text)
    console.print(facts)


def _facts(page: admin_pb2.ExplainPageResponse) -> list[tuple[str, str]]:
    meaning = _STATES.get(page.state)
    return [
        ("State", f"{page.state}: {meaning}" if meaning else printable(page.state)),
        ("Frame", f"{page.frame:,}" if page.HasField("frame") else "none"),
        ("Slot", _slot(page)),
        ("Eviction", _may_go(page)),
        ("Hint", _hint(page.hint) if page.HasField("hint") else "none in force"),
        ("Waiting", _waiting(page.waiting_faults)),
        ("Last eviction", _last_eviction(page)),
        ("Policies", printable(", ".join(page.policies)) or "-"),
    ]


def _slot(page: admin_pb2.ExplainPageResponse) -> str:
    if not page.HasField("slot"):
        return "none: its bytes are in the frame only" if page.HasField("frame") else "none"
    slot = page.slot
    where = f"{slot.slot:,} on device {slot.device} ({printable(slot.device_name)}), generation {slot.generation:,}"
    if not page.HasField("frame"):
        return where
    return f"{where}; the frame is {'newer (dirty)' if page.dirty else 'the same (clean)'}"


def _may_go(page: admin_pb2.ExplainPageResponse) -> str:
    if page.pinned:
        return "not allowed: its process pinned it"
    if page.held:
        return "not now: the page is held for a fault or access that is about to use it"
    if page.unevictable:
        return "not allowed: EVICTION=DENY protects it, within the budget"
    if page.state not in _HAS_FRAME:
        return "not in question: the page is not in memory"
    if page.HasField("hint") and page.hint.fields.eviction == page.hint.fields.EVICTION_DENY:
        return "allowed: its hint says EVICTION=DENY, but the budget for that is spent"
    if page.dirty and page.at_swap_max:
        return "not now: the page is dirty, and its process is at its swap_max, so it has nowhere to go"
    if page.at_memory_min:
        return "only for its own process, which has no more than its memory_min"
    if page.dirty:
        return "allowed: the page is dirty, so it would be written to swap, unless it is all zeros"
    return "allowed: the page is clean, so its frame can be freed without I/O"


def _hint(hint: admin_pb2.HintRange) -> str:
    end = f"ends in {hint.expires_in_seconds:.1f} s" if hint.HasField("expires_in_seconds") else "without end"
    text = f"{printable(hint.text)} (hint {hint.hint_id}, pages {page_range(hint)}, {end})"
    return f"{text}; no policy of the process acts on {unheeded(hint)}" if hint.unheeded_keys else text


def _waiting(faults: int) -> str:
    return f"{faults or 'no'} fault waits for it" if faults < 2 else f"{faults:,} faults wait for it"


def _last_eviction(page: admin_pb2.ExplainPageResponse) -> str:
    if page.HasField("last_eviction"):
        return _eviction(page.last_eviction)
    if page.evictions_on_record < page.eviction_records:
        return "none: the page was never evicted"
    return f"not among the last {page.eviction_records:,} of its process; earlier ones are not on record"


def _eviction(eviction: admin_pb2.Eviction) -> str:
    meaning = _RESULTS.get(eviction.result)
    result = f"{eviction.result} ({meaning})" if meaning else printable(eviction.result)
    reason = printable(eviction.reason) or "no reason given"
    return f"{eviction.seconds_ago:,.1f} s ago by {printable(eviction.policy)}: {reason}; {result}"

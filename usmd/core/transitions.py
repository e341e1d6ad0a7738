"""Every transition of a page, as a table: state before, method of `PageLife` or `Migration`, state after.

Tests check that docs/architecture.md has the same table, that no other transition happens, and that each of these does.
"""

from __future__ import annotations

from typing import Final, NamedTuple

ABSENT: Final = "ABSENT"
"""Without frame and slot: never touched, or all zero."""
SWAPPED: Final = "SWAPPED"
"""In a slot only. FILLING, PRESENT and EVICTING are states of its frame."""
FILLING: Final = "FILLING"
PRESENT: Final = "PRESENT"
EVICTING: Final = "EVICTING"
MOVING: Final = "MOVING"
"""From one swap device to another, see `PageLife.moves`: its frame is FILLING, then EVICTING."""


class Transition(NamedTuple):
    """Method `event` takes a page from state `before` to state `after`."""

    before: str
    event: str
    after: str


TRANSITIONS: Final = frozenset(
    {
        Transition(ABSENT, "zero_fill", PRESENT),
        Transition(ABSENT, "zero_fill_run", PRESENT),
        Transition(SWAPPED, "swap_in", FILLING),
        Transition(FILLING, "filled", PRESENT),
        Transition(FILLING, "filled", SWAPPED),  # the read failed
        Transition(PRESENT, "evict", EVICTING),
        Transition(PRESENT, "evict", SWAPPED),  # clean
        Transition(EVICTING, "protected", SWAPPED),  # clean, but a thread had to be woken first
        Transition(EVICTING, "protected", ABSENT),  # all zero
        Transition(EVICTING, "protected", PRESENT),  # it cannot be protected, or there is no slot
        Transition(EVICTING, "written", SWAPPED),
        Transition(EVICTING, "written", PRESENT),  # the write failed, or every device refused it
        Transition(EVICTING, "retake", PRESENT),
        Transition(SWAPPED, "begin", MOVING),
        Transition(MOVING, "arrived", PRESENT),  # a fault or a hint keeps it in memory
        Transition(MOVING, "arrived", SWAPPED),  # the read failed
        Transition(MOVING, "protected", SWAPPED),  # there is no slot on the other device
        Transition(MOVING, "protected", ABSENT),  # its client punched it out
        Transition(MOVING, "protected", PRESENT),  # it cannot be protected, or has nowhere else to go
        Transition(MOVING, "written", SWAPPED),  # on the other device; or where it was, if the write failed
        Transition(MOVING, "written", PRESENT),  # its device is retiring, and every other one refused it
        Transition(MOVING, "retake", PRESENT),
        Transition(FILLING, "discard", ABSENT),
        Transition(PRESENT, "discard", ABSENT),
        Transition(EVICTING, "discard", ABSENT),
        Transition(MOVING, "discard", ABSENT),
        Transition(SWAPPED, "discard", ABSENT),
    }
)
"""Transitions in the daemon, where I/O takes time."""
INSTANT: Final = frozenset(
    {
        Transition(ABSENT, "zero_fill", PRESENT),
        Transition(ABSENT, "zero_fill_run", PRESENT),
        Transition(SWAPPED, "swap_in", PRESENT),
        Transition(PRESENT, "evict", SWAPPED),
        Transition(PRESENT, "evict", ABSENT),  # it was never written to
        Transition(PRESENT, "discard", ABSENT),
        Transition(SWAPPED, "discard", ABSENT),
    }
)
"""Transitions in a replay, without I/O."""

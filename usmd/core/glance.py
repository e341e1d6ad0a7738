"""Whether the core's counters agree with each other: what can be looked at between any two events, in one go.

It is a sum over sessions and over reads in flight. `validate` looks at every frame, page and slot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.state import State


def disagreement(state: State, life: PageLife) -> str | None:
    """What does not agree, in words; None if all does."""
    frames = state.frames
    used = frames.count - frames.free
    owned = state.dying_frames + sum(process.resident for process in state.processes.values())
    owned += sum(1 for filling in life.filling.values() if filling.region is None)
    if used != owned:
        return f"{used} frames are in use, and {owned} belong to a session, to a region that is gone or to a read"
    for device in state.swap.devices:
        if not 0 <= device.free <= device.slots:
            return f"swap device {device.name} counts {device.free} free slots of {device.slots}"
    return None

"""What the core tells the shell to do. Commands are performed in order; the slow ones have an event as completion."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from usmd.errors import UsmdError


class Command(msgspec.Struct, frozen=True, gc=False):
    """Base of all commands."""


class Attached(Command, frozen=True):
    """Answer to Attach."""

    process_id: int


class Mapped(Command, frozen=True):
    """Answer to Map."""

    region_id: int
    address: int
    length: int
    page_count: int
    name: str


class HintSet(Command, frozen=True):
    """Answer to SetHint: the hint's number (0: it left none), its pages, and resident ones over the budget."""

    hint_id: int
    first_page: int
    page_count: int
    over_budget: int


class Accessed(Command, frozen=True):
    """Answer to Access: frames of the pages present up to the first absent one, and the absent pages of the range."""

    frames: Sequence[int]
    absent: Sequence[int]


class Ended(Command, frozen=True):
    """A session is over: its frames and slots are free, its number will not come again.

    `killed`: the daemon ended it, and `reason` is what its owner must be told.
    """

    process_id: int
    reason: str
    killed: bool


class Allocated(msgspec.Struct, frozen=True, gc=False):
    """Outcome: pages are present. `runs` holds (first page, first frame, pages)."""

    fault_id: int
    runs: Sequence[tuple[int, int, int]]
    yield_token: int = 0


class Yielded(msgspec.Struct, frozen=True, gc=False):
    """Outcome: USM_YIELD."""

    fault_id: int
    yield_token: int


class Failed(msgspec.Struct, frozen=True, gc=False):
    """Outcome: the fault failed at `page`."""

    fault_id: int
    error: UsmdError
    page: int
    yield_token: int = 0


Outcome = Allocated | Yielded | Failed


class Outcomes(Command, frozen=True):
    """Outcomes for one process, in order."""

    process_id: int
    outcomes: Sequence[Outcome]


class ZeroFill(Command, frozen=True):
    """Make these frames all zero; done before any later command."""

    frames: Sequence[int]


class Protect(Command, frozen=True):
    """Make the bytes of these frames stable and say which are all zero: Protected, at once."""

    ticket: int
    frames: Sequence[int]


class SlotPage(msgspec.Struct, frozen=True, gc=False):
    """A slot and the frame its bytes come from or go to, with what their checksum covers."""

    slot: int
    pfn: int
    process_id: int
    page: int
    generation: int


class WriteSlots(Command, frozen=True):
    """Write frames to slots of any devices: SwapOutDone, later, in any grouping."""

    pages: Sequence[SlotPage]


class ReadSlots(Command, frozen=True):
    """Read slots of any devices into frames: SwapInDone, later, in any grouping."""

    pages: Sequence[SlotPage]


class DiscardSlots(Command, frozen=True):
    """The bytes in these slots are not needed any more. They are free: a later WriteSlots may name them again."""

    slots: Sequence[int]


class GoOn(Command, frozen=True):
    """There is more to do than one event should take: GoOn, soon, after whatever else has arrived."""


class Notice(Command, frozen=True):
    """Something of note for operators: `kind` for programs, `message` for people."""

    kind: str
    process_id: int
    message: str
    fields: dict[str, str]

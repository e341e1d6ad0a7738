"""What the core tells the shell to do. Commands are performed in order; the slow ones have an event as completion."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from usmd.errors import UsmdError


class Command(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """Base of all commands. Encoded, as for the digests of an event log, one is an array that begins with its type."""


class Answer(Command, frozen=True):
    """Base of what answers the caller of an event. The shell returns it to that caller and performs nothing."""


class Attached(Answer, frozen=True):
    """Answer to Attach."""

    process_id: int


class Mapped(Answer, frozen=True):
    """Answer to Map."""

    region_id: int
    address: int
    length: int
    page_count: int
    name: str


class HintSet(Answer, frozen=True):
    """Answer to SetHint: the hint's number (0: it left none), its pages, and resident ones over the budget.

    `over_budget` is None where HintApplied tells it later. `unheeded`: its keys that no policy of the process acts on.
    """

    hint_id: int
    first_page: int
    page_count: int
    over_budget: int | None
    unheeded: Sequence[str] = ()


class HintApplied(Command, frozen=True):
    """The resident pages of a hint are in line with it, `over_budget` as in HintSet; `reply_to` is of its SetHint."""

    reply_to: int
    over_budget: int


class Pinned(Answer, frozen=True):
    """Answer to Pin: the absent pages of the range. With one of them nothing is pinned."""

    absent: Sequence[int]


class Accessed(Answer, frozen=True):
    """Answer to Access: frames of the pages present up to the first absent one, and the absent pages of the range."""

    frames: Sequence[int]
    absent: Sequence[int]


class Ended(Command, frozen=True):
    """A session is over: its frames and slots are free, its number does not come again soon.

    `killed`: the daemon ended it, and `reason` is what its owner must be told.
    """

    process_id: int
    reason: str
    killed: bool


class Allocated(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """Outcome: pages are present. `runs` holds (first page, first frame, pages)."""

    fault_id: int
    runs: Sequence[tuple[int, int, int]]
    yield_token: int = 0


class Yielded(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """Outcome: USM_YIELD."""

    fault_id: int
    yield_token: int


class Failed(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """Outcome: the fault failed at `page`."""

    fault_id: int
    error: UsmdError
    page: int
    yield_token: int = 0


Outcome = Allocated | Yielded | Failed


class Outcomes(Command, frozen=True):
    """Outcomes for one process, in order; `reply_to` is that of the `Faults` event that they answer."""

    process_id: int
    outcomes: Sequence[Outcome]
    reply_to: int = 0


class RegionsGone(Command, frozen=True):
    """Regions of a process and all their pages are gone, with what is in flight for them.

    Their owner's next touch of a page is an error. `ended`: its session is over; else it gave them back.
    """

    region_ids: Sequence[int]
    ended: bool


class Release(Command, frozen=True):
    """These pages (by their keys, as in the commands below) have left their frames: a touch of one faults again."""

    pages: Sequence[int]


class Restore(Command, frozen=True):
    """These pages stay, or may be written to from now on; whoever waits for one goes on.

    Writes to those that are not `writable` still fault, so that the core hears of the first.
    """

    pages: Sequence[int]
    writable: Sequence[bool]


class Wake(Command, frozen=True):
    """These pages are there: whoever waits for one goes on.

    One that its own client has emptied gets zeros: Punched, at once.
    """

    pages: Sequence[int]


class ZeroFill(Command, frozen=True):
    """Make these frames all zero and give them to these pages; done before any later command."""

    frames: Sequence[int]
    pages: Sequence[int]


class Poison(Command, frozen=True):
    """These pages cannot be had: a thread that waits for one, or touches it, gets SIGBUS.

    `reasons`: of each, the `reason` of the error, or empty text where its region or session went.
    """

    pages: Sequence[int]
    reasons: Sequence[str]


class Protect(Command, frozen=True):
    """Make the bytes of these frames stable and say which are all zero: Protected, at once."""

    ticket: int
    frames: Sequence[int]
    pages: Sequence[int]


class SlotPage(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A slot and the frame its bytes come from or go to, with what their checksum covers.

    `writable`: a page that comes in may be written to at once; else its first write faults.
    """

    slot: int
    pfn: int
    process_id: int
    page: int
    generation: int
    writable: bool = False


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

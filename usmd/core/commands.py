"""Commands of the core to the shell, which performs them in order. An event completes each slow one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from usmd.errors import UsmdError


class Command(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """Base of all commands. An encoded command, as in the digests of an event log, is an array: type, then fields."""


class Answer(Command, frozen=True):
    """Base of answers, which the shell returns to the caller of the event and does not perform."""


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
    """Answer to SetHint: the hint's number (0: no hint remains in force) and its pages.

    `over_budget`: resident pages that ask for EVICTION=DENY beyond the budget; None: a HintApplied follows with it.
    `unheeded`: keys of the hint that no policy of the process acts on.
    """

    hint_id: int
    first_page: int
    page_count: int
    over_budget: int | None
    unheeded: Sequence[str] = ()


class HintApplied(Command, frozen=True):
    """All resident pages of a hint are in line with it. `over_budget`: as in HintSet. `reply_to`: of its SetHint."""

    reply_to: int
    over_budget: int


class Discarded(Command, frozen=True):
    """The pages of a Discard have no frame and no slot any more, or their region is gone. `reply_to`: of the Discard.

    It comes before the Release of the last of them, which follows among the commands of the same event.
    """

    reply_to: int


class Pinned(Answer, frozen=True):
    """Answer to Pin: the absent pages of the range. If there are any, nothing was pinned."""

    absent: Sequence[int]


class Accessed(Answer, frozen=True):
    """Answer to Access: the frames of the pages up to the first absent one, and all absent pages of the range."""

    frames: Sequence[int]
    absent: Sequence[int]


class FaultsFit(Command, frozen=True):
    """The faults of a process wait for fewer pages than its `max_faults` again, so it may have more of them."""

    process_id: int


class Ended(Command, frozen=True):
    """A session is over. `killed`: the daemon ended it, and its owner must learn the `reason`."""

    process_id: int
    reason: str
    killed: bool


class Allocated(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """Outcome: the pages are present. `runs`: (first page, first frame, number of pages)."""

    fault_id: int
    runs: Sequence[tuple[int, int, int]]
    yield_token: int = 0


class PagesAllocated(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """Outcomes of faults on single pages that came in alone: fault `first_id + i` has its page on `frames[i]`."""

    first_id: int
    frames: Sequence[int]


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


Outcome = Allocated | PagesAllocated | Yielded | Failed


class Outcomes(Command, frozen=True):
    """Outcomes for one process, in order. `reply_to`: of the `Faults` events that they answer."""

    process_id: int
    outcomes: Sequence[Outcome]
    reply_to: int = 0


class RegionsGone(Command, frozen=True):
    """Regions of a process are gone, with all their pages: a touch of one is an error from now on.

    `ended`: the session is over; else the process unmapped them. Those of a session come in parts, after `Ended`.
    """

    region_ids: Sequence[int]
    ended: bool


class Release(Command, frozen=True):
    """These pages have left their frames: a touch of one faults. Pages are page keys, here and below."""

    pages: Sequence[int]


class Restore(Command, frozen=True):
    """These pages stay in memory. Wake the threads that wait for them.

    `writable`: of each page, whether it may be written to. Else the first write faults, so that the core sees it.
    """

    pages: Sequence[int]
    writable: Sequence[bool]


class Wake(Command, frozen=True):
    """These pages are present. Wake the threads that wait for them.

    A page that its client punched out gets zeros, which Punched reports at once.
    """

    pages: Sequence[int]


class MapAgain(Command, frozen=True):
    """Put these present pages back into their clients' page tables, and wake the threads that wait for them.

    `writable`: as in Restore.
    """

    pages: Sequence[int]
    writable: Sequence[bool]


class Sample(Command, frozen=True):
    """Take these present pages, in ascending order, out of their clients' page tables; their bytes stay in memory.

    The next touch of each is a MINOR fault. The shell may leave any of them in: nothing but hearing of touches depends
    on this command.
    """

    pages: Sequence[int]


class ZeroFill(Command, frozen=True):
    """Fill these frames with zeros and give them to these pages, before any later command is performed.

    Both are ranges if they are one run of neighbours that came in at once.
    """

    frames: Sequence[int]
    pages: Sequence[int]


class Poison(Command, frozen=True):
    """These pages are unavailable: a thread that waits for one, or touches it, gets SIGBUS.

    `reasons`: of each page, the `reason` of the error; empty if its region or session is gone.
    """

    pages: Sequence[int]
    reasons: Sequence[str]


class Protect(Command, frozen=True):
    """Make the bytes of these frames stable. Protected, at once, reports which are all zero."""

    ticket: int
    frames: Sequence[int]
    pages: Sequence[int]


class SlotPage(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A slot, the frame that its bytes come from or go to, and the owner and generation that their checksum covers.

    `writable`: of a page that comes in, writes do not fault; else the first one does. `moves`: it comes in only to go
    to another device, so reads that faults wait for need not wait for it.
    """

    slot: int
    pfn: int
    process_id: int
    page: int
    generation: int
    writable: bool = False
    moves: bool = False


class WriteSlots(Command, frozen=True):
    """Write frames to slots of any devices. Later events SwapOutDone, in any grouping, complete it."""

    pages: Sequence[SlotPage]


class ReadSlots(Command, frozen=True):
    """Read slots of any devices into frames. Later events SwapInDone, in any grouping, complete it."""

    pages: Sequence[SlotPage]


class DiscardSlots(Command, frozen=True):
    """These slots are free; a later WriteSlots may name them again."""

    slots: Sequence[int]


class RetirementEnded(Command, frozen=True):
    """A retiring swap device has no page any more: close it. With an error: it keeps its pages, and takes pages again.

    It comes after the discards of the device's slots.
    """

    number: int
    error: UsmdError | None


class GoOn(Command, frozen=True):
    """Deferred work remains. Send the event GoOn after the events that have already arrived."""


class Notice(Command, frozen=True):
    """A message for operators: `kind` and `fields` for programs, `message` for people."""

    kind: str
    process_id: int
    message: str
    fields: dict[str, str]

"""What the shell tells the core. One type per event; time travels beside it (`Core.handle(event, now)`)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from usmd.core.hints import Hint
from usmd.errors import UsmdError


class Event(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """Base of all events. An event log keeps one as an array: its type by name, then its fields in their order."""


class Attach(Event, frozen=True):
    """A client begins a session. Policies are specifications such as `hint_aware(fallback=lru)`.

    `memory_max`: pages that it may have in memory; None: as many as there are. `number`: what it is called by, if that
    is free; 0: the next. `swap_max`: pages that may count against it, see `Budgets`; None: no bound.
    """

    name: str
    alloc: str
    evict: str
    oom: str
    pid: int | None = None
    uid: int | None = None
    swap_device: str | None = None
    cond: str = "none"
    memory_max: int | None = None
    number: int = 0
    swap_max: int | None = None


class Detach(Event, frozen=True):
    """A session ends, by its own wish or because its client is gone; `reason` is for people."""

    process_id: int
    reason: str


class Broken(Event, frozen=True):
    """A command on memory of these processes could not be performed, so that they cannot be served any further."""

    process_ids: Sequence[int]
    reason: str


class Map(Event, frozen=True):
    """A process wants a region of `length` bytes. `number`: what it is called by, if that is free; 0: the next."""

    process_id: int
    length: int
    name: str
    number: int = 0


class Unmap(Event, frozen=True):
    """A process gives a region back."""

    process_id: int
    region_id: int


class SetHint(Event, frozen=True):
    """A process says something of a byte range; `length` None is to the end, `hint` None clears the range.

    `reply_to`: a number that HintApplied has where the pages come in line later; 0: that is not to be told.
    """

    process_id: int
    region_id: int
    offset: int
    length: int | None
    hint: Hint | None
    reply_to: int = 0


class SetPolicy(Event, frozen=True):
    """Another policy takes the place of a process's one: `kind` alloc, evict, oom or cond."""

    process_id: int
    kind: str
    specification: str


class FaultRequest(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A fault on `page_count` pages from `first_page` on; its outcomes carry `fault_id`, which is the client's."""

    fault_id: int
    region_id: int
    first_page: int
    page_count: int
    write: bool


class Faults(Event, frozen=True):
    """A batch of faults of one process, in order. `reply_to`: the process's stream that gets the outcomes.

    The core passes `reply_to` back in `Outcomes` and does not look at it.
    """

    process_id: int
    faults: Sequence[FaultRequest]
    reply_to: int = 0


class PageFault(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A real page fault on one page: a touch of a missing page, to read or to `write`.

    `protected`: it is a write to a page that is there and write-protected.
    """

    region_id: int
    page: int
    write: bool
    protected: bool = False


class PageFaults(Event, frozen=True):
    """Real page faults of one process, in order.

    Their threads wait in the kernel, and go on when the page comes or is restored; no outcome answers them.
    """

    process_id: int
    faults: Sequence[PageFault]


class Pin(Event, frozen=True):
    """A process wants `page_count` pages from `first_page` on to stay, all or none, until as many Unpin.

    `planned`: pages from `first_page` on for which there must be room in the budget, because more Pins follow; 0 is
    `page_count`.
    """

    process_id: int
    region_id: int
    first_page: int
    page_count: int
    planned: int = 0


class Unpin(Event, frozen=True):
    """The end of a Pin of the same range."""

    process_id: int
    region_id: int
    first_page: int
    page_count: int


class Access(Event, frozen=True):
    """A load or store touches `page_count` pages from `first_page` on."""

    process_id: int
    region_id: int
    first_page: int
    page_count: int
    write: bool


class Protected(Event, frozen=True):
    """Answer to Protect: which of its frames are all zero, in the order of the command.

    None: the frame cannot be protected now, and its page stays.
    """

    ticket: int
    frames: Sequence[int]
    zero: Sequence[bool | None]


class Punched(Event, frozen=True):
    """These pages, which should be there, were not, because their own client punched them; they hold zeros now."""

    pages: Sequence[int]


class SwapOutDone(Event, frozen=True):
    """Answer to WriteSlots: one error or None per slot."""

    slots: Sequence[int]
    errors: Sequence[UsmdError | None]


class SwapInDone(Event, frozen=True):
    """Answer to ReadSlots: one error or None per frame."""

    frames: Sequence[int]
    errors: Sequence[UsmdError | None]


class GoOn(Event, frozen=True):
    """Answer to GoOn: others had their turn."""


class Tick(Event, frozen=True):
    """Time has passed."""

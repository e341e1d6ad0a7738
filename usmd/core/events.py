"""Events that the shell passes to the core. Time is not part of an event: `Core.handle(event, now)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from usmd.core.hints import Hint
from usmd.core.region import DEFAULT_WEIGHT
from usmd.errors import UsmdError


class Event(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """Base of all events. An event log keeps one as an array: its type by name, then its fields in their order."""


class Quotas(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Limits of a process that are numbers; None: as for every process. `deny_budget`: pages.

    `max_faults`: pages that its faults may wait for at a time.
    """

    max_regions: int | None = None
    max_hint_ranges: int | None = None
    max_faults: int | None = None
    deny_budget: int | None = None


NO_QUOTAS: Final = Quotas()


class Attach(Event, frozen=True):
    """A client begins a session. Policies are specifications such as `hint_aware(fallback=lru)`.

    `memory_max`: pages that it may have in memory; None: no bound. `swap_max`: pages that may count against it, see
    `Budgets`; None: no bound. `number`: the process number to use if it is free; 0: the next one. `memory_min`: pages
    that are guaranteed to it, see `Guarantees`. `memory_weight`: its share under pressure, see `Givers`. `quotas`: its
    limits beside those.
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
    memory_min: int = 0
    memory_weight: int = DEFAULT_WEIGHT
    quotas: Quotas = NO_QUOTAS


class Detach(Event, frozen=True):
    """A session ends, because its client asked for it or is gone. `reason`: for people."""

    process_id: int
    reason: str


class Broken(Event, frozen=True):
    """The shell could not perform a command on memory of these processes. Their sessions end."""

    process_ids: Sequence[int]
    reason: str


class Map(Event, frozen=True):
    """A process maps a region of `length` bytes. `number`: the region number to use if it is free; 0: the next one."""

    process_id: int
    length: int
    name: str
    number: int = 0


class Unmap(Event, frozen=True):
    """A process unmaps a region."""

    process_id: int
    region_id: int


class Discard(Event, frozen=True):
    """A process gives up the bytes of `page_count` pages from `first_page` on, which are zeros from then on.

    `reply_to`: the number for Discarded.
    """

    process_id: int
    region_id: int
    first_page: int
    page_count: int
    reply_to: int


class SetHint(Event, frozen=True):
    """A process puts a hint on a byte range. `length` None: to the end of the region. `hint` None: clear the range.

    `reply_to`: the number for HintApplied, if the pages are brought in line later; 0: send no HintApplied.
    """

    process_id: int
    region_id: int
    offset: int
    length: int | None
    hint: Hint | None
    reply_to: int = 0


class SetPolicy(Event, frozen=True):
    """Replace a policy of a process. `kind`: alloc, evict, oom or cond."""

    process_id: int
    kind: str
    specification: str


class SetLimits(Event, frozen=True):
    """Replace the limits of a process; the fields are as those of Attach.

    Pages above a lower `memory_max` go in parts; those above a lower `deny_budget` lose that right in parts.
    """

    process_id: int
    memory_max: int | None
    swap_max: int | None
    memory_min: int
    memory_weight: int
    quotas: Quotas = NO_QUOTAS


class SetUserLimits(Event, frozen=True):
    """Replace the limits of a user, for all its processes together, see `Users`. None: no bound.

    Pages above a lower `memory_max` go in parts; above a lower `swap_max` they stay, and no more come. `memory_weight`:
    see `Givers`; None: its processes stand for themselves. The last three are as in `Quotas`, in sum.
    """

    uid: int
    max_sessions: int | None = None
    memory_max: int | None = None
    swap_max: int | None = None
    memory_min: int = 0
    memory_weight: int | None = None
    max_regions: int | None = None
    max_hint_ranges: int | None = None
    max_faults: int | None = None

    @property
    def empty(self) -> bool:
        """Whether it has no limit."""
        return self == SetUserLimits(self.uid)


class FaultRequest(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A fault on `page_count` pages from `first_page` on. `fault_id`: the client's number, which its outcomes carry."""

    fault_id: int
    region_id: int
    first_page: int
    page_count: int
    write: bool


class Faults(Event, frozen=True):
    """A batch of faults of one process, in order. `reply_to`: the stream for their outcomes, see `Outcomes`."""

    process_id: int
    faults: Sequence[FaultRequest]
    reply_to: int = 0


class PageBatch(Event, frozen=True):
    """As `Faults`, on single pages of a region: the fault on `pages[i]` has the number `first_id + i`."""

    process_id: int
    region_id: int
    first_id: int
    pages: Sequence[int]
    write: bool
    reply_to: int = 0


MISSING: Final = 0
"""A touch of a page that is not in the region's memory."""
PROTECTED: Final = 1
"""A write to a present, write-protected page."""
MINOR: Final = 2
"""A touch of a page that is in the region's memory, and not in the client's page table: see `Sample`."""


class PageFault(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A real page fault. `kind`: MISSING, PROTECTED or MINOR, as the kernel saw it."""

    region_id: int
    page: int
    write: bool
    kind: int = MISSING


class PageFaults(Event, frozen=True):
    """Real page faults of one process, in order.

    Each thread waits in the kernel until its page is filled or restored. There are no outcomes.
    """

    process_id: int
    faults: Sequence[PageFault]


class SetSampling(Event, frozen=True):
    """Whether the shell can take pages of a process out of its page table from now on, see the command `Sample`."""

    process_id: int
    on: bool


class Pin(Event, frozen=True):
    """A process pins `page_count` pages from `first_page` on, all or none. Each Pin needs an Unpin.

    `planned`: pages from `first_page` on that the budget must have room for, because more Pins follow; 0: `page_count`.
    """

    process_id: int
    region_id: int
    first_page: int
    page_count: int
    planned: int = 0


class Unpin(Event, frozen=True):
    """A process ends a Pin of the same range."""

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
    """Answer to Protect. `zero`: of each frame, whether it is all zero; None: it cannot be protected now."""

    ticket: int
    frames: Sequence[int]
    zero: Sequence[bool | None]


class Punched(Event, frozen=True):
    """The client of these present pages had punched them out. They now hold zeros."""

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
    """Answer to the command GoOn, after the events that had already arrived."""


class Configure(Event, frozen=True, kw_only=True):
    """An operator changes settings while the core runs: watermarks in frames, and what the names of the others say.

    Budgets of EVICTION=DENY may only grow: pages within one are kept whatever comes.
    """

    low: int
    high: int
    deny_budget: int
    deny_budget_total: int
    max_regions: int
    max_mapped: int
    policy_errors: int
    default_policies: tuple[str, str, str]


class AddDevice(Event, frozen=True):
    """A swap device is open, under a number that is free."""

    number: int
    name: str
    slots: int


class RetireDevice(Event, frozen=True):
    """Move the pages of a swap device away, which takes none from now on. A RetirementEnded follows.

    The caller has asked `Retirement.check` whether there is room for them.
    """

    number: int


class CancelRetirement(Event, frozen=True):
    """A device that is retiring takes pages again, and keeps what it still has. No RetirementEnded follows."""

    number: int


class DeviceClosed(Event, frozen=True):
    """Answer to a RetirementEnded without error: the device is closed, and its number is free."""

    number: int


class Tick(Event, frozen=True):
    """Time has passed.

    `held`: (device, share of its bytes that it holds) for swap devices whose bytes are not those of their used slots,
    if that has changed.
    """

    held: Sequence[tuple[int, float]] = ()

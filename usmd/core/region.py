"""Users, processes, their regions, and the counts of their pages."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Final

from usmd.core.counters import Counters
from usmd.core.hint_ranges import HintRanges
from usmd.core.hints import Priority
from usmd.core.page_table import PageTable
from usmd.core.pages_left import PagesLeft
from usmd.core.pin_counts import PinCounts
from usmd.core.policy_set import PolicySet
from usmd.core.pressure import Pressure, Stall
from usmd.core.write_order import WriteOrder
from usmd.errors import UsmdError
from usmd.sizes import format_size

if TYPE_CHECKING:
    from usmd.core.sampling import Sampling

PAGE_BITS: Final = 32
PAGE_MASK: Final = (1 << PAGE_BITS) - 1
MAX_REGION_ID: Final = (1 << 31) - 1

BASE_ADDRESS: Final = 0x10_0000_0000
"""First address of a process's managed address space. Low addresses stay unused, so 0 is never valid."""
MAX_ADDRESS: Final = (1 << 63) - 1

NO_MAX: Final = 1 << 62
"""A budget in pages without a bound."""
DEFAULT_WEIGHT: Final = 100
"""Share of memory of a process without a `memory_weight`."""
MOST_PATIENCE: Final = 256
"""Most dirty pages that an evict policy names in vain, see `Process.patience`."""
CLEAN_FRAMES: Final = 16
"""Frames of a process at its `swap_max` that are remembered as clean."""
EVICTION_RECORDS: Final = 256
"""Default number of evictions on record per process."""


def limit_or_none(limit: int) -> int | None:
    """A limit; None for NO_MAX."""
    return None if limit == NO_MAX else limit


def page_key(region_id: int, page: int) -> int:
    """The key of a page of any region: one positive 63-bit integer."""
    return region_id << PAGE_BITS | page


class Region:
    """A range of addresses of one process."""

    __slots__ = (
        "address",
        "along",
        "along_unused",
        "along_used",
        "evictions",
        "faults",
        "first_key",
        "hints",
        "length",
        "major_faults",
        "name",
        "page_count",
        "pinned",
        "pins",
        "process",
        "region_id",
        "resident",
        "stored",
        "swapped",
        "table",
        "unevictable",
        "unmapped",
        "unsettled",
        "write_order",
    )  # fmt: skip

    def __init__(self, region_id: int, process: Process, address: int, length: int, page_size: int, name: str) -> None:
        self.region_id = region_id
        self.first_key = page_key(region_id, 0)
        """Key of its first page; the keys of its pages are consecutive."""
        self.process = process
        self.address = address
        self.length = length
        self.name = name
        self.page_count = -(-length // page_size)
        self.table = PageTable(self.page_count)
        self.hints = HintRanges()
        self.write_order = WriteOrder()
        self.resident = 0
        """Pages with a frame."""
        self.swapped = 0
        """Pages that are in swap only."""
        self.stored = 0
        """Pages that count against the `swap_max` of its process, see `Budgets`; not counted without one."""
        self.unevictable = 0
        """Resident pages that EVICTION=DENY protects."""
        self.pinned = 0
        """Resident pages that its process pinned."""
        self.pins = PinCounts()
        self.unsettled: list[PagesLeft] = []
        """Work that still brings pages in line with the hints in force."""
        self.unmapped: UsmdError | None = None
        """As `gone`, if its process lives on."""
        self.faults = 0
        self.major_faults = 0
        self.evictions = 0
        self.along = 0
        """Pages that came in with faults on other pages, or by WILLNEED; below, those of them that were touched after
        that, as far as known, and those that were evicted without a known touch."""
        self.along_used = 0
        self.along_unused = 0

    def count_along(self, *, used: bool) -> None:
        """A page that came along is touched, or leaves memory without a known touch."""
        if used:
            self.along_used += 1
            self.process.counters.read_ahead_used += 1
        else:
            self.along_unused += 1
            self.process.counters.read_ahead_unused += 1

    @property
    def gone(self) -> UsmdError | None:
        """None, or once the region is gone, with its process or alone, the error for faults that wait for its pages.

        The hot path looks at both by itself, which takes half as long as the call of a property.
        """
        return self.process.ended or self.unmapped


class EvictionRecord:
    """An eviction for `explain`: page key, time, policy that chose the page, reason, and result."""

    __slots__ = ("page", "policy", "reason", "result", "time")

    def __init__(self, page: int, time: float, policy: str, reason: str) -> None:
        self.page = page
        self.time = time
        self.policy = policy
        self.reason = reason
        self.result = "under way"


class User:
    """A user with limits, and its processes."""

    __slots__ = (
        "max_faults", "max_hint_ranges", "max_regions", "max_sessions", "memory_max", "memory_min", "missing",
        "next_told", "processes", "refusals", "swap_excess", "swap_max", "swap_spent", "told", "uid", "untold",
        "weight",
    )  # fmt: skip

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.max_sessions = NO_MAX
        self.memory_max = NO_MAX
        self.swap_max = NO_MAX
        self.memory_min = 0
        self.weight = 0
        """Its share under pressure, for its processes together, see `Givers`; 0: each stands for itself."""
        self.max_regions = self.max_hint_ranges = self.max_faults = NO_MAX
        self.missing = 0
        """Pages that unanswered faults of its processes wait for, also of those that have ended since."""
        self.told = self.next_told = self.untold = 0
        """How often it was told that faults fit, which process hears of it next, and how many still have to."""
        self.processes: list[Process] = []
        self.refusals = 0
        """Faults that failed because of its limits."""
        self.swap_spent = False
        """No grant of swap can grow until a process of the user has less in swap."""
        self.swap_excess = 0
        """Pages that its processes had in swap above a lower `swap_max`, and still have."""

    @property
    def resident(self) -> int:
        """Pages of its processes with a frame."""
        return sum([each.resident for each in self.processes])

    @property
    def regions(self) -> int:
        """Regions of its processes."""
        return sum([len(each.regions) for each in self.processes])

    @property
    def hint_ranges(self) -> int:
        """Ranges of its processes with a hint."""
        return sum([each.hint_ranges for each in self.processes])

    @property
    def stored(self) -> int:
        """Pages of its processes that count against `swap_max`."""
        return sum([each.stored for each in self.processes])

    @property
    def is_at_limit(self) -> bool:
        """Whether its processes have all the memory, or all the swap, that they may have in sum."""
        return self.resident >= self.memory_max or self.stored >= self.swap_max

    @property
    def is_overdrawn(self) -> bool:
        """Whether grants exceed the limits, which no event may bring about."""
        memory, swap = (
            sum([each.memory_max for each in self.processes]),
            sum([each.swap_max for each in self.processes]),
        )
        of_swap = self.swap_max + self.swap_excess
        return (memory > self.memory_max < NO_MAX) or (swap > of_swap and self.swap_max < NO_MAX)

    def memory_words(self, page_size: int) -> str:
        """For an error message: its memory, and its `memory_max`."""
        return (
            f"the {len(self.processes)} sessions of user {self.uid} have {self.resident} pages in memory, its "
            f"memory_max is {self.memory_max} ({format_size(self.memory_max * page_size)})"
        )


class Process:
    """One client session: its regions, policies, counters and last evictions.

    `pid` and `uid` are the ones that the kernel vouches for, or None.
    """

    __slots__ = (
        "absent_max",
        "address",
        "clean_frames",
        "counters",
        "deny_budget",
        "ended",
        "evictions",
        "faults_limited",
        "freezes",
        "hint_ranges",
        "hints_set",
        "leaving",
        "lent",
        "lowest_priority",
        "mapped",
        "max_faults",
        "max_hint_ranges",
        "max_regions",
        "memory_max",
        "memory_min",
        "missing",
        "name",
        "order",
        "own_memory_max",
        "own_memory_min",
        "own_swap_max",
        "patience",
        "pid",
        "pinned",
        "policies",
        "pressure",
        "process_id",
        "regions",
        "resident",
        "sampling",
        "stall",
        "stored",
        "swap_device",
        "swap_max",
        "touches",
        "uid",
        "unevictable",
        "user",
        "weight",
        "work",
    )  # fmt: skip

    policies: PolicySet

    def __init__(
        self,
        process_id: int,
        name: str,
        pid: int | None,
        uid: int | None,
        swap_device: int | None,
        eviction_records: int = EVICTION_RECORDS,
    ) -> None:
        self.process_id = process_id
        self.order = 0
        """How many processes had attached when it had, itself included."""
        self.name = name
        self.pid = pid
        self.uid = uid
        self.swap_device = swap_device
        self.regions: dict[int, Region] = {}
        self.ended: UsmdError | None = None
        """None, or once its session has ended the error for faults that wait for its pages."""
        self.address = BASE_ADDRESS
        """Address of the next region."""
        self.mapped = 0
        """Bytes mapped, in whole pages."""
        self.resident = 0
        """Pages with a frame."""
        self.user: User | None = None
        """Its user, if that has limits. Its own limits are those below; in force is what its user grants of them."""
        self.own_memory_max = self.own_swap_max = NO_MAX
        self.own_memory_min = 0
        self.memory_max = NO_MAX
        """Pages that may have a frame."""
        self.memory_min = 0
        """Pages in memory up to which it loses none to others, see `Guarantees`."""
        self.weight = DEFAULT_WEIGHT
        """Its share of memory under pressure, compared with those of other processes, see `Givers`."""
        self.max_regions = self.max_hint_ranges = NO_MAX
        self.max_faults = NO_MAX
        """Pages that its faults may wait for at a time."""
        self.faults_limited = False
        """Whether it or its user may have less of them than every process, so that real faults are bounded, too."""
        self.deny_budget = NO_MAX
        """Pages that EVICTION=DENY and pins may keep; like those above a limit within that of all processes."""
        self.lent = 0
        """1 while a frame above `memory_max` is lent to it for a page from swap, see `Budgets`; else 0."""
        self.absent_max = NO_MAX
        """Pages that may have a frame once an ABSENT page has come in: `memory_max`, or one less, see `Budgets`."""
        self.swap_max = NO_MAX
        """Pages of the process that may count as `stored`, see `Budgets`."""
        self.stored = 0
        """Pages that count against `swap_max`, and would without one."""
        self.leaving = 0
        """Resident pages that are on their way out."""
        self.patience = MOST_PATIENCE
        """While there is no slot for its dirty pages: so many of them may its evict policy name before the sweep looks
        for a clean one. It halves each time the policy names too many, see `Reclaim`, and else grows slowly again."""
        self.clean_frames: dict[int, None] | None = None
        """Frames in which pages from swap came in last while it was at its `swap_max`, oldest first."""
        self.unevictable = 0
        """Resident pages that EVICTION=DENY protects."""
        self.pinned = 0
        """Resident pages that it pinned."""
        self.freezes = 0
        """How often it was frozen, see `freezing`."""
        self.work = 0
        """Hints with WILLNEED or DONTNEED that are still being done."""
        self.hint_ranges = 0
        """Ranges of its regions on which a hint is in force."""
        self.hints_set = 0
        """Number of its last hint, counted per process, so a client learns nothing of other clients' hints."""
        self.lowest_priority: int = Priority.NORMAL.value
        """The lowest that a hint of it has had; NORMAL, that of pages without a hint, if none was lower."""
        self.missing = 0
        """Pages that its unanswered faults wait for."""
        self.stall = Stall()
        """The time in which its faults wait."""
        self.pressure = Pressure()
        """What the shell makes of that."""
        self.counters = Counters()
        self.evictions: deque[EvictionRecord] = deque(maxlen=eviction_records)
        self.sampling: Sampling | None = None
        """Its pages that are in its page table, if their touches are sampled."""
        self.touches: array[int] | None = None
        """Touches since the shell last took them, for a recording or a shadow; None without one. Two entries each: the
        page key, and 0 read, 1 write, 2 read fault or 3 write fault."""

    def waits_more(self) -> None:
        """A fault waits for one more page."""
        self.missing += 1
        if self.user is not None:
            self.user.missing += 1

    def limit_faults(self, of_every_process: int) -> None:
        """The limit of its faults, or its user's, is another one."""
        of_user = self.user is not None and self.user.max_faults != NO_MAX
        self.faults_limited = of_user or self.max_faults < of_every_process

    @property
    def fault_room(self) -> int:
        """Pages that further faults may wait for."""
        own, user = self.max_faults - self.missing, self.user
        return own if user is None else min(own, user.max_faults - user.missing)

    @property
    def swapped(self) -> int:
        """Its pages that are in swap and in no frame."""
        return sum(region.swapped for region in self.regions.values())

    def region_at(self, address: int) -> Region | None:
        """The region that covers an address, or None."""
        regions = list(self.regions.values())  # in order of address, because addresses only grow
        index = bisect_right(regions, address, key=lambda region: region.address) - 1
        if index < 0:
            return None
        region = regions[index]
        return region if address < region.address + region.length else None

"""What a policy is: four small base classes, and the types that they speak in.

A policy suggests and the core decides. It sees memory through a read-only `MemoryView`, owns its own lists, and may be
wrong: an exception or a bad answer is counted, reported, and answered by the default policy instead; state is never
harmed. Only what is essential is abstract; the other hooks do nothing unless a policy wants them.

A policy's constructor takes the view first and then keyword parameters with defaults, which the configuration sets as
`name(parameter=value)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, Final

import msgspec

from usmd.core.allocation import USM_YIELD, Allocation, AsyncRequest, Fault, UsmYield
from usmd.core.view import MemoryView

__all__ = [
    "ANY_EXTRA",
    "NO_HINTS",
    "USM_YIELD",
    "AllocPolicy",
    "Allocation",
    "AsyncRequest",
    "ConditionalPolicy",
    "EvictPolicy",
    "Fault",
    "OomPolicy",
    "Policy",
    "Requests",
    "UsmYield",
    "alloc_policy",
    "cond_policy",
    "evict_policy",
    "heeded_by_all",
]


NO_HINTS: Final[frozenset[str]] = frozenset()
"""What a policy heeds that looks at no hint."""
ANY_EXTRA: Final = "X_"
"""What a policy heeds that looks at free-form keys of any name."""


class Policy:
    """Base of the four kinds.

    `builds_on`: parameters that are specifications of policies of the same kind. `heeds`: the hint keys that the policy
    acts on (`PRIORITY`, `FHP`, `ACCESS`, free-form ones by name, or `X_` for all of those), so that an application is
    told of a key that no policy of its process acts on. None: the policy does not say, and nothing is told.
    """

    builds_on: ClassVar[tuple[str, ...]] = ()
    heeds: ClassVar[frozenset[str] | None] = None

    def __init__(self, memory: MemoryView) -> None:
        self.memory = memory

    def heeded_keys(self) -> frozenset[str] | None:
        """The hint keys that it acts on, also through policies that it builds on; None: not known.

        A class that does not set `heeds` itself says nothing, whatever its base says: it may look at more.
        """
        return vars(type(self)).get("heeds")


class AllocPolicy(Policy, ABC):
    """How many pages, which frames, now or later (USM: `usm_alloc`).

    `single_page`: the policy always answers `Allocation(fault.page)`, so that a replay need not ask it.
    """

    single_page: ClassVar[bool] = False

    @abstractmethod
    def allocate(self, fault: Fault, async_rq: AsyncRequest) -> Allocation | UsmYield:
        """An allocation to make now, or USM_YIELD after handing one to `async_rq`."""


class EvictPolicy(Policy, ABC):
    """Which victims (USM: `usm_evict_fallback`, `cond_swap_out`), among the evictable pages of one process.

    The policy hears of every page that becomes evictable (`page_filled`) and of every one that ceases to be
    (`page_evicted`, or `page_left`: freed, pinned, or under EVICTION=DENY), so what it knows is what it may name. The
    priority of a page is the same at `page_filled` and when it leaves unless `hint_changed` came between.

    A page that is not present is missed (`page_missed`), then a victim is chosen if memory is full, then it is filled.
    That fill is the access; `page_accessed` tells of the ones after it.
    """

    @property
    def hears_accesses(self) -> bool:
        """Whether `page_accessed` does anything; asked once, so that a policy that does not listen costs nothing."""
        return type(self).page_accessed is not EvictPolicy.page_accessed

    @property
    def hears_misses(self) -> bool:
        """Whether `page_missed` does anything; asked once."""
        return type(self).page_missed is not EvictPolicy.page_missed

    @abstractmethod
    def page_filled(self, pfn: int) -> None:
        """A page of the process came to be in this frame and may be evicted."""

    @abstractmethod
    def page_left(self, pfn: int) -> None:
        """The page in this frame was freed, or may no longer be evicted; also evicted, without a `page_evicted`."""

    @abstractmethod
    def choose_victims(self) -> Iterable[int]:
        """Frames to evict, best first, each at most once; the core takes as many as it needs.

        A generator is asked for the next one after the last was evicted (`page_evicted`) or passed over, because it is
        pinned; so it may look at its lists as it goes, and move its hand. What it has not been asked for must not
        change. A frame that is not the process's, unevictable, or empty is an error of the policy.
        """

    def page_evicted(self, pfn: int) -> None:
        """The page in this frame is evicted: the place to remember it (`memory.page(pfn)`), for policies that do."""
        self.page_left(pfn)

    def page_missed(self, page: int) -> None:
        """A page that is in no frame was asked for; `page` is its number, as of `memory.page`. Victims come next."""

    def page_accessed(self, pfn: int, write: bool) -> None:
        """The page in this frame was touched (only where the mechanism sees accesses)."""

    def hint_changed(self, pfn: int, priority_before: int) -> None:
        """Another hint is in force on the page in this frame; `memory.priority(pfn)` was `priority_before`."""

    def swap_device(self, pfn: int) -> int | None:
        """Number of the swap device that this victim should go to; None leaves it to the configuration."""
        del pfn
        return None

    def reason(self, pfn: int) -> str:
        """Why this frame is a victim, for `usmctl explain`; asked before `page_left`."""
        del pfn
        return "chosen by the policy"


def heeded_by_all(policies: Iterable[Policy]) -> frozenset[str] | None:
    """The hint keys that any of several policies acts on; None where one of them does not say."""
    heeded: frozenset[str] = NO_HINTS
    for policy in policies:
        keys = policy.heeded_keys()
        if keys is None:
            return None
        heeded |= keys
    return heeded


class OomPolicy(Policy, ABC):
    """What then: no frame is free, and none can be freed (USM: `usm_oom`)."""

    @abstractmethod
    def choose(self, fault: Fault) -> int | None:
        """Number of the process that loses its session, or None: the fault is refused."""


class Requests(msgspec.Struct, frozen=True, gc=False):
    """What a conditional policy requests to be done now; the core does as much as it can, and owes nothing.

    `trim`: evict so many pages of the process, which its evict policy names. `swap_in`: pages to bring back while more
    frames are free than the high watermark, and nobody waits for one. `demote`: (page, device) pairs, pages in swap
    that shall be on another device; each needs a free frame for a moment. Pages are numbers as of `memory.page`. Of
    each kind the core looks at `CoreSettings.cond_batch` at most. A page that is on its way already, or whose hint says
    otherwise, is passed over; one that is not in swap, or not the process's, is an error of the policy.
    """

    trim: int = 0
    swap_in: Iterable[int] = ()
    demote: Iterable[tuple[int, int]] = ()


class ConditionalPolicy(Policy, ABC):
    """What to do when nobody asks (USM: `cond_swap_out`, `cond_swap_in`), for one process.

    It hears of every page of the process that is in swap: `page_swapped` when it went there, `page_returned` when it is
    no longer to be requested. What it knows between the two is what it may name.
    """

    @abstractmethod
    def turn(self) -> Requests | None:
        """What shall be done now; asked about every `CoreSettings.cond_interval` seconds. None: nothing."""

    def page_swapped(self, page: int, device: int) -> None:
        """A page is on this swap device now, and in no frame; also one known already, which was on another device."""

    def page_returned(self, page: int) -> None:
        """A page is in memory again, or its region is gone, or swap cannot give it back; also one never heard of."""


def alloc_policy(memory: MemoryView, specification: str) -> AllocPolicy:
    """Another alloc policy for the same process, by name, to build upon."""
    policy = memory.make("alloc", specification)
    if not isinstance(policy, AllocPolicy):
        raise TypeError(f"{specification} is no alloc policy")
    return policy


def evict_policy(memory: MemoryView, specification: str, elsewhere: Callable[[], int] | None = None) -> EvictPolicy:
    """Another evict policy for the same process, by name, to build upon.

    `elsewhere` says how many pages of the process it will not hear of, where several share them.
    """
    policy = memory.make("evict", specification, elsewhere)
    if not isinstance(policy, EvictPolicy):
        raise TypeError(f"{specification} is no evict policy")
    return policy


def cond_policy(memory: MemoryView, specification: str) -> ConditionalPolicy:
    """Another conditional policy for the same process, by name, to build upon."""
    policy = memory.make("cond", specification)
    if not isinstance(policy, ConditionalPolicy):
        raise TypeError(f"{specification} is no cond policy")
    return policy

"""The interface of policies: four base classes, and the types of their questions and answers.

A policy suggests and the core decides. It sees memory through a read-only `MemoryView` and owns its lists. An exception
or an invalid answer is counted and reported, and the core uses its default instead; state is never harmed. Only the
essential methods are abstract; the other hooks do nothing by default.

A policy's constructor takes the view first and then keyword parameters with defaults, which the configuration sets as
`name(parameter=value)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, Final

from mypy_extensions import mypyc_attr

from usmd.core.allocation import USM_YIELD, Allocation, AsyncRequest, Fault, Requests, UsmYield
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
"""`heeds` of a policy that looks at no hint."""
ANY_EXTRA: Final = "X_"
"""In `heeds` of a policy that looks at free-form keys of any name."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Policy:
    """Base of the four kinds.

    `builds_on`: parameters that are specifications of policies of the same kind. `heeds`: the hint keys that the policy
    acts on (`PRIORITY`, `FHP`, `ACCESS`, free-form ones by name, or `X_` for all of those), so that an application
    learns which of its keys no policy acts on. None: the policy does not say, so the application learns nothing.
    `sizes`: parameters in bytes, which may be written as sizes ("64K"). `essential`: the methods that a policy of the
    kind must define.
    """

    builds_on: ClassVar[tuple[str, ...]] = ()
    sizes: ClassVar[tuple[str, ...]] = ()
    heeds: ClassVar[frozenset[str] | None] = None
    essential: ClassVar[tuple[str, ...]] = ()

    def __init__(self, memory: MemoryView) -> None:
        self.memory = memory

    def heeded_keys(self) -> frozenset[str] | None:
        """The hint keys that it acts on, also through policies that it builds on; None: unknown.

        None for a class that does not set `heeds` itself, whatever its base sets: it may look at more keys.
        """
        return vars(type(self)).get("heeds")


def _takes_the_place(policy: type[Policy], quick: str, plain: str) -> bool:
    """Whether a class defines `quick`, and no subclass of that one has changed `plain` alone."""
    for each in policy.__mro__:
        if quick in vars(each):
            return each is not EvictPolicy and each is not AllocPolicy
        if plain in vars(each):
            return False
    return False


@mypyc_attr(allow_interpreted_subclasses=True)
class AllocPolicy(Policy, ABC):
    """Decides how many pages to bring in, on which frames, now or in the background (USM: `usm_alloc`).

    `single_page`: the policy always answers `Allocation(fault.page)`, so a replay may take a shorter way.
    """

    single_page: ClassVar[bool] = False
    essential = ("allocate",)

    @abstractmethod
    def allocate(self, fault: Fault, async_rq: AsyncRequest) -> Allocation | UsmYield:
        """An allocation to make now, or USM_YIELD after handing one to `async_rq`."""

    @property
    def answers_batches(self) -> bool:
        """Whether `come_alone` takes the place of `allocate` for a batch: not if a subclass has changed the latter.

        Read once.
        """
        return _takes_the_place(type(self), "come_alone", "allocate")

    def come_alone(self, region_id: int, pages: list[int]) -> int:
        """How many of these pages, from the first on, come in alone, each on any frame.

        The core asks this about a batch of faults, in their order, on different ABSENT pages without a hint. The policy
        takes note of those that it counts, to which `allocate` would answer `Allocation(page)`; the core asks
        `allocate` about the others. A policy need not define it: it is for those that can do this faster for many.
        """
        del region_id, pages
        return 0


@mypyc_attr(allow_interpreted_subclasses=True)
class EvictPolicy(Policy, ABC):
    """Chooses victims among the evictable pages of one process (USM: `usm_evict_fallback`, `cond_swap_out`).

    The core calls `page_filled` for each page that becomes evictable, and for each that ceases to be `page_evicted`, or
    `page_left` if it was freed, pinned, or put under EVICTION=DENY. So the policy may name exactly the pages it knows.
    The priority of a page does not change in between without a call of `hint_changed`.

    A fault on a page without a frame calls `page_missed`; then a victim is chosen if memory is full; then the page is
    filled. The fill counts as the first access; `page_accessed` reports the later ones.
    """

    essential = ("choose_victims", "page_filled", "page_left")

    @property
    def hears_accesses(self) -> bool:
        """Whether `page_accessed` does anything. Read once, so a policy without it costs nothing."""
        return type(self).page_accessed is not EvictPolicy.page_accessed

    @property
    def hears_misses(self) -> bool:
        """Whether `page_missed` does anything. Read once."""
        return type(self).page_missed is not EvictPolicy.page_missed

    @property
    def hears_runs(self) -> bool:
        """Whether `pages_filled` takes the place of `page_filled` for a run: not if a subclass has changed the latter.

        Read once.
        """
        return _takes_the_place(type(self), "pages_filled", "page_filled")

    @property
    def hears_access_runs(self) -> bool:
        """Whether `pages_accessed` takes the place of `page_accessed` for a run, as `hears_runs`. Read once."""
        return self.hears_accesses and _takes_the_place(type(self), "pages_accessed", "page_accessed")

    @property
    def names_first_victim(self) -> bool:
        """Whether `first_victim` takes the place of `choose_victims` for one victim, as `hears_runs`. Read once."""
        return _takes_the_place(type(self), "first_victim", "choose_victims")

    @abstractmethod
    def page_filled(self, pfn: int) -> None:
        """The page in this frame may be evicted from now on."""

    def pages_filled(self, frames: range) -> None:
        """As `page_filled` for each of these frames, whose pages have one hint, or none. If it raises, nothing changed.

        A policy need not define it: it is for those that can do this faster for many frames.
        """
        for pfn in frames:
            self.page_filled(pfn)

    @abstractmethod
    def page_left(self, pfn: int) -> None:
        """The page in this frame was freed, or may no longer be evicted. The default `page_evicted` calls this, too."""

    @abstractmethod
    def choose_victims(self) -> Iterable[int]:
        """Frames to evict, best first, each at most once; the core takes as many as it needs.

        The core asks a generator for the next frame after it evicted the last one (`page_evicted`) or passed it over,
        for example because it is held. So the generator may look at its lists as it goes, and move its hand, but must
        not change the state of frames that it has not yielded. A frame that is not present, not the process's,
        unevictable or pinned is an error of the policy.
        """

    def first_victim(self) -> int:
        """The frame that `choose_victims` would name first now, or -1 if it would name none.

        A policy need not define it: it is for those that can do this faster than by an iterator.
        """
        for pfn in self.choose_victims():
            return pfn
        return -1

    def page_evicted(self, pfn: int) -> None:
        """The page in this frame is evicted. A policy with a ghost list remembers `memory.page(pfn)` here."""
        self.page_left(pfn)

    def page_missed(self, page: int) -> None:
        """A fault on a page that has no frame, before victims are chosen for it. `page`: as of `memory.page`."""

    def page_accessed(self, pfn: int, write: bool) -> None:
        """The page in this frame was touched; only if the mechanism sees accesses."""

    def pages_accessed(self, frames: list[int]) -> None:
        """As `page_accessed` for each of these frames, in this order, reads and writes alike. A frame may be repeated.

        A policy need not define it: it is for those that can do this faster for many touches, and neither distinguish
        writes nor give up a page at a touch. The call comes before anything else that changes what the policy knows.
        """
        for pfn in frames:
            self.page_accessed(pfn, write=False)

    def hint_changed(self, pfn: int, priority_before: int) -> None:
        """Another hint is in force on the page in this frame; `memory.priority(pfn)` was `priority_before`."""

    def swap_device(self, pfn: int) -> int | None:
        """Number of the swap device for this victim; None leaves the choice to the configuration."""
        del pfn
        return None

    def reason(self, pfn: int) -> str:
        """Why this frame is a victim, for `usmctl explain`. Called before `page_evicted`."""
        del pfn
        return "chosen by the policy"


def heeded_by_all(policies: Iterable[Policy]) -> frozenset[str] | None:
    """The hint keys that at least one of several policies acts on; None if one of them does not say."""
    heeded: frozenset[str] = NO_HINTS
    for policy in policies:
        keys = policy.heeded_keys()
        if keys is None:
            return None
        heeded |= keys
    return heeded


MOST_PATIENCE: Final = 3600.0
"""Most seconds that a fault may wait for memory."""


@mypyc_attr(allow_interpreted_subclasses=True)
class OomPolicy(Policy, ABC):
    """Decides what to do if no frame is free and none can be freed (USM: `usm_oom`)."""

    essential = ("choose",)

    @abstractmethod
    def choose(self, fault: Fault) -> int | None:
        """Number of the process whose session ends, or None to refuse the fault."""

    def patience(self, fault: Fault) -> float:
        """Seconds that a fault which `choose` refuses waits for memory before it fails; 0: it fails at once.

        At most MOST_PATIENCE. Other processes go on meanwhile.
        """
        del fault
        return 0.0


@mypyc_attr(allow_interpreted_subclasses=True)
class ConditionalPolicy(Policy, ABC):
    """Requests evictions, swap-ins and moves without a fault, for one process (USM: `cond_swap_out`, `cond_swap_in`).

    The core calls `page_swapped` for each page of the process that is in swap, and `page_returned` when the policy may
    no longer request it. Between the two calls the policy may name the page.
    """

    essential = ("turn",)

    @property
    def promotes(self) -> bool:
        """Whether a page that a fault brings in from a later swap device than the first gives up its slot there.

        So it is stored on the first device with room when it is evicted again, which costs a write. Read once.
        """
        return False

    @abstractmethod
    def turn(self) -> Requests | None:
        """The requests to do now, or None. Called about every `CoreSettings.cond_interval` seconds."""

    def page_swapped(self, page: int, device: int) -> None:
        """A page is on this swap device, and in no frame. Also called for a known page that changed devices."""

    def page_returned(self, page: int) -> None:
        """A page is in memory again, its region is gone, or its read failed. Also called for unknown pages."""


def alloc_policy(memory: MemoryView, specification: str) -> AllocPolicy:
    """Another alloc policy for the same process, by name, to build upon."""
    policy = memory.make("alloc", specification)
    if not isinstance(policy, AllocPolicy):
        raise TypeError(f"{specification} is not an alloc policy")
    return policy


def evict_policy(memory: MemoryView, specification: str, elsewhere: Callable[[], int] | None = None) -> EvictPolicy:
    """Another evict policy for the same process, by name, to build upon.

    `elsewhere` returns how many pages of the process other policies have, if several policies divide them.
    """
    policy = memory.make("evict", specification, elsewhere)
    if not isinstance(policy, EvictPolicy):
        raise TypeError(f"{specification} is not an evict policy")
    return policy


def cond_policy(memory: MemoryView, specification: str) -> ConditionalPolicy:
    """Another conditional policy for the same process, by name, to build upon."""
    policy = memory.make("cond", specification)
    if not isinstance(policy, ConditionalPolicy):
        raise TypeError(f"{specification} is not a cond policy")
    return policy

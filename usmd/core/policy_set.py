"""The interface through which the core calls the policies of one process. `guard.GuardedPolicies` implements it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usmd.core.allocation import Allocation, Fault
    from usmd.core.blame import Blame
    from usmd.core.hints import Hint
    from usmd.core.pages_left import Steps
    from usmd.core.running import Call


class PolicySet(ABC):
    """The alloc, evict and oom policy, and the conditional one if there is one. No method raises a policy's exception.

    The hooks `on_…` are methods of the policies themselves, for the hot path, or None. Their caller passes what they
    raise to `raised`, and marks the call in `State.running` as `evict_call` if a watch may look.
    `by_priority`: whether the evict policy may heed PRIORITY. `promotes`: what the conditional policy says of that.
    """

    specifications: dict[str, str]
    blame: Blame
    by_priority: bool
    evict_call: Call
    on_access: Callable[[int, bool], None] | None
    on_accesses: Callable[[list[int]], None] | None
    on_miss: Callable[[int], None] | None
    on_evict: Callable[[int], None] | None
    on_fill: Callable[[int], None] | None
    on_swapped: Callable[[int, int], None] | None
    on_returned: Callable[[int], None] | None
    promotes: bool

    @property
    @abstractmethod
    def hands_over(self) -> bool:
        """Whether a hand-over to a new evict policy is under way, so that it does not know all pages."""

    @abstractmethod
    def raised(self, kind: str, what: str, error: BaseException, when: str = "") -> None:
        """Record the exception that ended a call of a policy, while it is handled."""

    @abstractmethod
    def record_error(self, kind: str, what: str) -> None:
        """Count an answer that was not used."""

    @abstractmethod
    def allocate(self, fault: Fault) -> tuple[Allocation, bool]:
        """The pages to bring in for a fault, and whether to answer USM_YIELD."""

    @abstractmethod
    def come_alone(self, region_id: int, pages: list[int]) -> int:
        """How many of these pages, from the first on, come in alone."""

    @abstractmethod
    def out_of_memory(self, fault: Fault) -> int | None:
        """Number of a process to end, or None to refuse the fault."""

    @abstractmethod
    def patience(self, fault: Fault) -> float:
        """Seconds that a refused fault waits for memory before it fails."""

    @abstractmethod
    def page_filled(self, pfn: int) -> None:
        """A page may be evicted."""

    @abstractmethod
    def pages_filled(self, frames: range) -> None:
        """Pages with one hint, or none, may be evicted."""

    @abstractmethod
    def page_left(self, pfn: int) -> None:
        """A page may no longer be evicted."""

    @abstractmethod
    def page_evicted(self, pfn: int) -> None:
        """A page is evicted."""

    @abstractmethod
    def page_accessed(self, pfn: int, *, write: bool) -> None:
        """A present page was touched."""

    @abstractmethod
    def pages_accessed(self, frames: list[int]) -> None:
        """Present pages were touched, in this order; only if there is `on_accesses`."""

    @abstractmethod
    def page_missed(self, page: int) -> None:
        """A fault on a page that has no frame."""

    @abstractmethod
    def hint_changed(self, pfn: int, priority_before: int) -> None:
        """Another hint is in force on a page."""

    @abstractmethod
    def page_swapped(self, page: int, device: int) -> None:
        """A page is on a swap device now."""

    @abstractmethod
    def page_returned(self, page: int) -> None:
        """A page is no longer in swap."""

    @abstractmethod
    def candidates(self, limit: int) -> Generator[int, None, None]:
        """At most `limit` frames that the evict policy names. The caller closes it."""

    @abstractmethod
    def first_victim(self) -> int:
        """The frame that the evict policy names first, or -1."""

    @abstractmethod
    def reason(self, pfn: int) -> str:
        """Why the evict policy chose a frame."""

    @abstractmethod
    def swap_device(self, pfn: int) -> int | None:
        """The device that the evict policy wants for a victim, or None."""

    @abstractmethod
    def turn(self, limit: int) -> tuple[int, list[int], list[tuple[int, int]]]:
        """The requests of the conditional policy, at most `limit` of each kind."""

    @abstractmethod
    def unheeded(self, hint: Hint) -> list[str]:
        """Keys of a hint that no policy of the process acts on."""

    @property
    @abstractmethod
    def single_page(self) -> bool:
        """Whether the alloc policy brings in the faulting page and nothing else."""

    @property
    @abstractmethod
    def conditional(self) -> bool:
        """Whether there is a conditional policy."""

    @abstractmethod
    def replace(self, kind: str, specification: str) -> Steps | None:
        """Replace a policy; for an evict policy, returns the steps that hand the pages over."""

    @abstractmethod
    def give_up_on(self, kind: str) -> None:
        """Use the core's own default for a kind."""

    @abstractmethod
    def ended(self) -> None:
        """The process is gone."""

"""The policies of one process, as the core calls them. `guard.GuardedPolicies` is what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from usmd.core.allocation import Allocation, Fault
    from usmd.core.blame import Blame
    from usmd.core.hints import Hint
    from usmd.core.pages_left import Steps
    from usmd.core.running import Call


class PolicySet(Protocol):
    """One alloc, one evict and one oom policy, and a conditional one if there is one; none of them ever raises.

    The hooks below, which may be None, are methods of the policies themselves, for the hot path: its caller catches
    what they raise, and hands it to `raised`. Where a watch looks, the caller also marks the call as `evict_call`
    in `State.running`.
    """

    specifications: dict[str, str]
    blame: Blame
    errors: dict[str, int]
    evict_call: Call
    on_access: Callable[[int, bool], None] | None
    on_miss: Callable[[int], None] | None
    on_swapped: Callable[[int, int], None] | None
    on_returned: Callable[[int], None] | None

    def raised(self, kind: str, what: str, error: BaseException, when: str = "") -> None:
        """Record the exception that ended a call of a policy, while it is handled."""

    def record_error(self, kind: str, what: str) -> None:
        """Count an answer that was not used."""

    def allocate(self, fault: Fault) -> tuple[Allocation, bool]:
        """What to bring in for a fault, and whether to answer USM_YIELD."""

    def out_of_memory(self, fault: Fault) -> int | None:
        """Number of a process that shall lose its memory, or None to refuse the fault."""

    def page_filled(self, pfn: int) -> None:
        """A page may be evicted."""

    def page_left(self, pfn: int) -> None:
        """A page may no longer be evicted."""

    def page_evicted(self, pfn: int) -> None:
        """A page is evicted."""

    def page_accessed(self, pfn: int, *, write: bool) -> None:
        """A page that is there was touched."""

    def page_missed(self, page: int) -> None:
        """A page that is in no frame was asked for."""

    def hint_changed(self, pfn: int, priority_before: int) -> None:
        """Another hint is in force on a page."""

    def page_swapped(self, page: int, device: int) -> None:
        """A page is on a swap device now."""

    def page_returned(self, page: int) -> None:
        """A page is in swap no longer."""

    def candidates(self, limit: int) -> Iterator[int]:
        """At most `limit` frames that the evict policy names."""

    def first_victim(self) -> int:
        """The frame that the evict policy names first, or -1."""

    def reason(self, pfn: int) -> str:
        """Why the evict policy chose a frame."""

    def swap_device(self, pfn: int) -> int | None:
        """The device that the evict policy wants for a victim, or None."""

    def turn(self, limit: int) -> tuple[int, list[int], list[tuple[int, int]]]:
        """What the conditional policy requests, at most `limit` of each kind."""

    def unheeded(self, hint: Hint) -> list[str]:
        """Keys of a hint that no policy of the process acts on."""

    @property
    def single_page(self) -> bool:
        """Whether the alloc policy brings in the faulting page and nothing else."""

    @property
    def conditional(self) -> bool:
        """Whether there is a conditional policy."""

    def replace(self, kind: str, specification: str) -> Steps | None:
        """Put another policy in the place of one; what is returned hands the pages over, part by part."""

    def give_up_on(self, kind: str) -> None:
        """Leave a kind to the core's own default."""

    def ended(self) -> None:
        """The process is gone."""

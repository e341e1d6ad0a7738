"""Several conditional policies together."""

from __future__ import annotations

from itertools import chain

from mypy_extensions import mypyc_attr

from usmd.core.policy import ConditionalPolicy, Requests, cond_policy, heeded_by_all
from usmd.core.view import MemoryView


@mypyc_attr(allow_interpreted_subclasses=True)
class AllOf(ConditionalPolicy):
    """The requests of up to three conditional policies together: `all_of(first=trim,second=swap_back)`."""

    builds_on = ("first", "second", "third")

    def __init__(self, memory: MemoryView, first: str = "none", second: str = "none", third: str = "none") -> None:
        super().__init__(memory)
        self.parts = [cond_policy(memory, each) for each in (first, second, third)]

    def heeded_keys(self) -> frozenset[str] | None:
        """The keys of its parts."""
        return heeded_by_all(self.parts)

    @property
    def promotes(self) -> bool:
        """Whether one of its parts does."""
        return any(part.promotes for part in self.parts)

    def page_swapped(self, page: int, device: int) -> None:
        """Pass it on to each part."""
        for part in self.parts:
            part.page_swapped(page, device)

    def page_returned(self, page: int) -> None:
        """Pass it on to each part."""
        for part in self.parts:
            part.page_returned(page)

    def turn(self) -> Requests | None:
        """The largest trim that a part requests, and all pages that the parts name, the first part's first."""
        requests = [each for each in [part.turn() for part in self.parts] if each is not None]
        if not requests:
            return None
        return Requests(
            trim=max(each.trim for each in requests),
            swap_in=chain.from_iterable(each.swap_in for each in requests),
            demote=chain.from_iterable(each.demote for each in requests),
        )

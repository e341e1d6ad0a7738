"""Asynchronous faults, after "Asynchronous Fault Handling for uThreads" of USM's advanced policy concepts."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from usmd.core.policy import USM_YIELD, Allocation, AllocPolicy, AsyncRequest, Fault, UsmYield, alloc_policy
from usmd.core.view import MemoryView


@mypyc_attr(allow_interpreted_subclasses=True)
class AsyncAware(AllocPolicy):
    """A fault that needs I/O is answered USM_YIELD and served in the background; every other fault is served at once.

    `regular` is the alloc policy that chooses the pages.
    """

    builds_on = ("regular",)

    def __init__(self, memory: MemoryView, regular: str = "readahead") -> None:
        super().__init__(memory)
        self.regular = alloc_policy(memory, regular)

    def heeded_keys(self) -> frozenset[str] | None:
        """The keys of the regular policy."""
        return self.regular.heeded_keys()

    @property
    def answers_batches(self) -> bool:
        """True if the regular policy's is, and no subclass has its own `allocate`."""
        return self.regular.answers_batches and super().answers_batches

    def come_alone(self, region_id: int, pages: list[int]) -> int:
        """The regular policy's answer: a page that was never stored needs no I/O."""
        return self.regular.come_alone(region_id, pages)

    def allocate(self, fault: Fault, async_rq: AsyncRequest) -> Allocation | UsmYield:
        """USM_YIELD for a swap fault, else the regular policy's answer."""
        plan = self.regular.allocate(fault, async_rq)
        if fault.swap and isinstance(plan, Allocation):
            async_rq.swap_in(plan)
            return USM_YIELD
        return plan

"""PTEMagnet: neighbours in memory for neighbours in the region (Margaritov et al., ASPLOS 2021; USM's policy).

The paper reserves groups of eight frames, so that page table entries that are used together share a cache line. This
policy reserves nothing, but prefers the frame that continues the run of the preceding page.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, Allocation, AllocPolicy, AsyncRequest, Fault


@mypyc_attr(allow_interpreted_subclasses=True)
class PteMagnet(AllocPolicy):
    """One page a fault, on the frame after that of the preceding page; if that is not free, on the lowest free one."""

    heeds = NO_HINTS

    def allocate(self, fault: Fault, async_rq: AsyncRequest) -> Allocation:
        """The faulting page, on the frame after its neighbour's."""
        del async_rq
        before = self.memory.frame(fault.region_id, fault.page - 1)
        return Allocation(fault.page, 1, None if before is None else before + 1)

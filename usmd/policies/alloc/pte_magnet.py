"""PTEMagnet: neighbours in memory for neighbours in the region (Margaritov et al., ASPLOS 2021; USM's policy).

The paper reserves groups of eight frames, so that page table entries that are used together share a cache line. Here
the frame is preferred that continues the run of the page before, and nothing is reserved.
"""

from __future__ import annotations

from usmd.core.policy import NO_HINTS, Allocation, AllocPolicy, AsyncRequest, Fault


class PteMagnet(AllocPolicy):
    """One page a fault, on the frame next to that of the page before it; where that is not free, on the lowest one."""

    heeds = NO_HINTS

    def allocate(self, fault: Fault, async_rq: AsyncRequest) -> Allocation:
        """The faulting page, beside its neighbour."""
        del async_rq
        before = self.memory.frame(fault.region_id, fault.page - 1)
        return Allocation(fault.page, 1, None if before is None else before + 1)

"""async_aware: swap faults to the background, all else at once."""

import pytest

from usmd.core.policy import USM_YIELD, Allocation, AsyncRequest, Fault
from usmd.core.view import MemoryView
from usmd.policies.alloc.async_aware import AsyncAware
from usmd.policies.alloc.first_fit import FirstFit
from usmd.policies.alloc.flexible_huge_pages import FlexibleHugePages
from usmd.policies.alloc.readahead import Readahead


class Memory(MemoryView):
    """A view that can make policies."""

    def __init__(self):
        pass

    def make(self, kind, specification, elsewhere=None):
        if specification == "flexible_huge_pages(pages=1)":
            return FlexibleHugePages(self, pages=1)
        return {"first_fit": FirstFit, "again": AsyncAware, "readahead": Readahead}[specification](self)


@pytest.mark.parametrize("regular", ["first_fit", "again"])
def test_a_swap_fault_is_handed_over_and_answered_usm_yield(regular):
    request = AsyncRequest()
    assert AsyncAware(Memory(), regular).allocate(Fault(1, 3, 9, False, True, None), request) is USM_YIELD
    assert request.plan == Allocation(3)


def test_all_else_is_what_the_regular_policy_says():
    request = AsyncRequest()
    assert AsyncAware(Memory()).allocate(Fault(1, 3, 9, True, False, None), request) == Allocation(3)
    assert request.plan is None


def test_the_default_heeds_what_hints_say_of_the_pages_beside_a_fault():
    assert AsyncAware(Memory()).heeded_keys() == {"FHP", "ACCESS"}
    assert AsyncAware(Memory(), "first_fit").heeded_keys() == frozenset()

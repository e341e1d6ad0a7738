"""What an alloc policy is asked, and what it answers."""

from usmd.core import policy
from usmd.core.allocation import USM_YIELD, Allocation, AsyncRequest, UsmYield


def test_an_allocation_is_one_page_on_any_frame_unless_it_says_more():
    assert Allocation(7) == Allocation(7, 1, None)


def test_what_is_handed_over_to_the_background_is_kept_for_the_core():
    request = AsyncRequest()
    assert request.plan is None
    request.swap_in(Allocation(3, 2))
    assert request.plan == Allocation(3, 2)


def test_policies_find_all_of_it_beside_their_bases():
    assert (policy.USM_YIELD, policy.UsmYield) == (USM_YIELD, UsmYield)
    assert repr(USM_YIELD) == "USM_YIELD"
    assert policy.Allocation is Allocation

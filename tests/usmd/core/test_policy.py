"""The base classes of policies: only what is essential is abstract."""

import pytest

from usmd.core.policy import USM_YIELD, Allocation, AllocPolicy, AsyncRequest, ConditionalPolicy, EvictPolicy, OomPolicy


@pytest.mark.parametrize(
    ("base", "essential"),
    [
        (AllocPolicy, {"allocate"}),
        (EvictPolicy, {"page_filled", "page_left", "choose_victims"}),
        (OomPolicy, {"choose"}),
        (ConditionalPolicy, {"turn"}),
    ],
)
def test_only_the_essential_is_abstract(base, essential):
    assert base.__abstractmethods__ == essential
    with pytest.raises(TypeError, match="abstract"):
        base(None)


def test_optional_hooks_do_nothing():
    class Least(EvictPolicy):
        def page_filled(self, pfn):
            """Nothing."""

        def page_left(self, pfn):
            """Nothing."""

        def choose_victims(self):
            return ()

    policy = Least(None)
    assert policy.page_accessed(1, write=True) is None
    assert policy.hint_changed(1, 0) is None
    assert policy.swap_device(1) is None
    assert policy.reason(1)

    class Still(ConditionalPolicy):
        def turn(self):
            return None

    assert (Still(None).page_swapped(1, 0), Still(None).page_returned(1)) == (None, None)


def test_a_swap_in_is_handed_over_and_usm_yield_has_a_name():
    request = AsyncRequest()
    request.swap_in(Allocation(3, 2))
    assert (request.plan, repr(USM_YIELD)) == (Allocation(3, 2), "USM_YIELD")

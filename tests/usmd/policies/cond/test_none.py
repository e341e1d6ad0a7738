"""none: nothing by itself."""

from tests.support.fake_view import fake_view
from usmd.policies.cond.none import Nothing


def test_nothing_is_requested():
    policy = Nothing(fake_view())
    policy.page_swapped(1, 0)
    assert policy.turn() is None

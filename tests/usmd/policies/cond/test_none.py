"""none: nothing by itself."""

from types import SimpleNamespace

from usmd.policies.cond.none import Nothing


def test_nothing_is_requested():
    policy = Nothing(SimpleNamespace())
    policy.page_swapped(1, 0)
    assert policy.turn() is None

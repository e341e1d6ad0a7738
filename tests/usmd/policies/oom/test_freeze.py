"""freeze: nobody loses its session, and a fault waits for as long as is said."""

import pytest

from tests.support.fake_view import fake_view
from usmd.core.policy import MOST_PATIENCE, Fault
from usmd.errors import InvalidArgument
from usmd.policies import registry
from usmd.policies.oom.freeze import Freeze

FAULT = Fault(1, 0, 1, True, False, None)


def test_a_fault_waits_for_as_long_as_is_configured_and_nobody_loses_its_session():
    assert (Freeze(fake_view()).choose(FAULT), Freeze(fake_view()).patience(FAULT)) == (None, 30.0)
    assert registry.make("oom", "freeze(seconds=2.5)", fake_view()).patience(FAULT) == 2.5
    assert Freeze(fake_view(), MOST_PATIENCE).patience(FAULT) == MOST_PATIENCE


@pytest.mark.parametrize("seconds", [0.0, -1.0, MOST_PATIENCE + 1, float("inf"), float("nan")])
def test_a_wait_without_a_bound_is_refused(seconds):
    with pytest.raises(InvalidArgument, match="allowed is more than 0 and at most 3600"):
        Freeze(fake_view(), seconds)

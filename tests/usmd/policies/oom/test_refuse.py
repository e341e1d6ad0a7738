"""refuse: nobody but the fault is touched."""

from tests.support.fake_view import fake_view
from usmd.core.policy import Fault
from usmd.policies.oom.refuse import Refuse


def test_nobody_loses_its_session():
    assert Refuse(fake_view()).choose(Fault(1, 0, 1, True, False, None)) is None

"""refuse: nobody but the fault is touched."""

from usmd.core.policy import Fault
from usmd.policies.oom.refuse import Refuse


def test_nobody_loses_its_session():
    assert Refuse(None).choose(Fault(1, 0, 1, True, False, None)) is None

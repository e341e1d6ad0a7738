"""For all tests: no example of a property fails because the machine was slow, and no test leaves policies behind."""

import signal

import pytest
from hypothesis import HealthCheck, settings

from usmd.policies import registry

settings.register_profile("usmd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("usmd")

# Where a shell runs the tests in its background SIGINT is ignored, and would be by the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def policies_as_they_were():
    """A policy from a file is listed from the time it was made; the next test does not know it."""
    before = {kind: dict(names) for kind, names in registry.TABLES.items()}
    yield
    for kind, names in registry.TABLES.items():
        names.clear()
        names.update(before[kind])

"""For all tests: properties are tried as tests.support.examples says, and no test leaves policies behind."""

import gc
import signal

import pytest

from tests.support import delays, examples, patience
from usmd.policies import registry

assert examples.FACTOR >= 0  # it has set up hypothesis
delays.inject_from_environment(delays.IN_PROCESS)
patience.be_patient()

# Where a shell runs the tests in its background SIGINT is ignored, and would be by the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup has ignored


def pytest_collection_finish():
    """Collections of garbage, of which tests ask for many, need not go through all that was imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def policies_as_they_were():
    """A policy from a file is listed from the time it was made; the next test does not know it."""
    before = {kind: dict(names) for kind, names in registry.TABLES.items()}
    yield
    for kind, names in registry.TABLES.items():
        names.clear()
        names.update(before[kind])

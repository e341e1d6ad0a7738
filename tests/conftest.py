"""For all tests: sets up hypothesis, delays and patience; after each test checks cores and restores the policies."""

import gc
import signal

import pytest

pytest.register_assert_rewrite("tests.support")  # a failed assertion there shows its values too

# What follows is rewritten.
from tests.support import delays, examples, first_run, kernel_swap, patience, shell  # noqa: E402
from usmd.policies import registry  # noqa: E402

assert examples.FACTOR >= 0  # importing it sets up hypothesis
delays.inject_from_environment(delays.IN_PROCESS)
patience.be_patient()

# A shell that runs the tests in the background ignores SIGINT, which the programs that tests interrupt would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it


def pytest_configure(config):
    """Compile all tests once."""
    first_run.compile_tests(config)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Search for garbage once, when the tests are collected; what there is then stays, and is exempt from then on."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()  # tests collect garbage often
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """Check what cores are like at the end of a test."""
    try:
        result = yield
        shell.check_at_the_end()
        return result
    finally:
        shell.forget()


def pytest_runtest_teardown():
    """Let tests begin that wait for what the kernel's swap is to be."""
    kernel_swap.release()


@pytest.fixture(autouse=True)
def policies_as_they_were():
    """Remove policies that a test loaded from a file, so that the next test does not see them."""
    before = {kind: dict(names) for kind, names in registry.TABLES.items()}
    yield
    for kind, names in registry.TABLES.items():
        names.clear()
        names.update(before[kind])

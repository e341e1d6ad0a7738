"""Victims that could not go: for how long they are passed over, and whether faults wait for them."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core.passed_over import MAX_STUCK, REFUSED_JUST_NOW, REFUSED_SECONDS, STUCK_SECONDS


@pytest.fixture
def shell():
    """A shell with a dirty page on frame 0, and time that is not 0."""
    shell = Shell(make_core())
    process = shell.attach()
    shell.put(process, shell.map(process, 1), 0, b"x" * PAGE)
    shell.tick(10.0)
    return shell


def test_what_could_not_be_protected_is_passed_over_for_a_moment_in_which_faults_wait(shell):
    passed_over = shell.core.reclaim.passed_over
    assert (bool(passed_over), 0 in passed_over, passed_over.may_try) == (False, False, True)
    passed_over.could_not_protect(0)
    assert (bool(passed_over), 0 in passed_over, passed_over.may_try, passed_over.stuck) == (True, True, False, True)
    shell.tick(STUCK_SECONDS)
    assert (0 in passed_over, passed_over.may_try, passed_over.stuck) == (False, True, False)


def test_faults_do_not_wait_for_ever_for_what_is_never_protected(shell):
    passed_over = shell.core.reclaim.passed_over
    for times in range(MAX_STUCK):
        assert passed_over.stuck == (times > 0)
        shell.tick(STUCK_SECONDS)
        passed_over.could_not_protect(0)
    assert not passed_over.stuck
    passed_over.protected()
    assert passed_over.stuck


def test_a_page_that_every_device_refused_is_passed_over_while_it_would_need_a_slot(shell):
    passed_over = shell.core.reclaim.passed_over
    passed_over.could_not_store(0)
    assert (0 in passed_over, passed_over.refused_pages, passed_over.stuck) == (True, 1, False)
    shell.now += REFUSED_JUST_NOW + 0.01
    shell.tick()
    assert 0 in passed_over
    passed_over.try_refused_again()
    assert (0 in passed_over, passed_over.refused_pages) == (False, 0)
    passed_over.could_not_store(0)
    shell.now += REFUSED_SECONDS
    shell.tick()
    assert 0 not in passed_over

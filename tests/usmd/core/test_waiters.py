"""What waits for a page: two kinds behind one interface, and each hears once what became of it."""

import pytest

from tests.support.real_shell import DONE, SIGBUS, RealShell
from tests.support.shell import PAGE, make_core
from usmd.core.commands import Allocated, Failed
from usmd.core.faults import StreamWaiter
from usmd.core.real_faults import ThreadWaiter
from usmd.errors import SwapIOError


def parked():
    """A page that comes in for a thread, another thread and a call, and the shell."""
    shell = RealShell(make_core(), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 2)
    shell.put(process, region, 0, b"x" * PAGE)
    shell.evict(process, region)
    while shell.pending:
        shell.complete_io()
    shell.outcomes.clear()
    threads = [shell.touch(process, region, 0) for _ in range(2)]
    shell.fault(process, region, 0, fault_id=7)
    return shell, process, region, threads


def test_a_thread_and_a_call_wait_alike_for_a_page_that_comes_in():
    shell, process, region, _ = parked()
    (filling,) = shell.core.life.filling.values()
    assert [type(each) for each in filling.waiters] == [ThreadWaiter, ThreadWaiter, StreamWaiter]
    assert {(each.region.region_id, each.page, each.write, each.failed) for each in filling.waiters} == {
        (region, 0, False, False)
    }
    assert [each.told for each in filling.waiters] == [True, False, False]
    assert shell.core.state.processes[process].missing == 3


@pytest.mark.parametrize("error", [None, SwapIOError("the device said no")])
def test_each_waiter_hears_once_what_became_of_its_page(error):
    shell, process, _, threads = parked()
    shell.fail_read = error
    shell.complete_io()
    assert [each.state for each in threads] == [SIGBUS if error else DONE] * 2
    (outcome,) = shell.outcomes[process]
    assert isinstance(outcome, Failed if error else Allocated)
    assert outcome.fault_id == 7
    assert shell.core.state.processes[process].missing == 0

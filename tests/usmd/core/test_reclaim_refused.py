"""Reclaim where devices fail, have no room or refuse pages, and where pages cannot be protected."""

from tests.support.in_swap import fill
from tests.support.real_shell import DONE, WAITS, RealShell
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.region import page_key
from usmd.errors import NoRoom, Refused, SwapIOError

DATA = b"x" * PAGE


def test_a_device_that_failed_rests_and_another_takes_over():
    shell = Shell(make_core(frames=2, devices=(("bad", 4), ("good", 4)), write_backoff=5.0), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 3)
    fill(shell, process, region, range(2))
    shell.fault(process, region, 2)
    shell.fail_write = SwapIOError("no")
    shell.complete_io()
    shell.fail_write = None
    assert shell.core.state.swap.devices[0].rests_until == 5.0
    assert shell.core.state.swap.devices[0].free == 4
    assert shell.pending[0][1].slot >> 40 == 1  # tried again at once, on the other device
    shell.complete_io()
    assert isinstance(shell.outcomes[process][-1], commands.Allocated)
    assert [shell.bytes_of(region, page) for page in range(2)] == [DATA] * 2
    assert [notice.kind for notice in shell.notices].count("swap_error") == 1


def test_a_failed_write_keeps_the_page_and_the_device_is_tried_again_after_its_rest():
    shell = Shell(make_core(write_backoff=5.0))
    process = shell.attach()
    region = shell.map(process, 1)
    shell.put(process, region, 0, DATA)
    shell.fail_write = SwapIOError("no")
    shell.evict(process, region)
    shell.fail_write = None
    assert (shell.state_of(region, 0), shell.load(process, region, 0)) == ("PRESENT", DATA)
    shell.evict(process, region)
    assert shell.state_of(region, 0) == "PRESENT"
    shell.now = 5.0
    shell.evict(process, region)
    assert shell.state_of(region, 0) == "SWAPPED"
    assert shell.counters()["swap_write_errors"] == 1


def test_faults_wait_for_a_device_that_failed_once_and_not_for_a_dead_one():
    shell = Shell(make_core(frames=1, devices=(("bad", 4),), write_backoff=1.0), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 2)
    shell.put(process, region, 0, DATA)
    shell.fail_write = SwapIOError("no")
    shell.fault(process, region, 1, fault_id=5)
    for failures in (1, 2):
        shell.complete_io()
        assert shell.core.state.swap.devices[0].failures == failures
        assert shell.core.waiting
        shell.tick(1.1)
    shell.complete_io()
    assert [each.error.reason for each in shell.outcomes[process] if each.fault_id == 5] == ["OUT_OF_MEMORY"]
    assert [each.fields["failures"] for each in shell.notices if each.kind == "swap_error"] == ["1", "2", "3"]
    shell.fail_write = None
    shell.tick(1.1)
    shell.fault(process, region, 1, fault_id=6)
    shell.complete_io()
    assert shell.core.state.swap.devices[0].failures == 0
    assert shell.state_of(region, 1) == "PRESENT"


def test_a_fault_waits_for_the_last_page_that_could_not_be_protected_not_only_for_the_first():
    shell = RealShell(make_core(frames=2, deny_budget=2, deny_budget_total=2))
    process = shell.attach()
    region = shell.map(process, 3)
    for page in (0, 1):
        shell.touch(process, region, page, DATA)
    shell.stays = {page_key(region, 0), page_key(region, 1)}
    shell.hint(process, region, "EVICTION=DENY", page=1, count=1)
    thread = shell.touch(process, region, 2, DATA)  # page 0 is passed over from now on
    shell.tick(0.08)
    shell.hint(process, region, "", page=1, count=1)
    shell.tick()  # page 1 is as well
    shell.do(events.Pin(process, region, 0, 1))
    shell.tick(0.04)
    assert thread.state == WAITS
    shell.stays.clear()
    shell.tick(0.08)
    assert thread.state == DONE


def refusing(error, **settings):
    """A full memory of two pages, and a device that refuses every page."""
    shell = Shell(make_core(frames=2, devices=(("picky", 8),), **settings), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 4)
    fill(shell, process, region, range(2))
    shell.refuses = {0: error}
    return shell, process, region


def writes_until_idle(shell):
    """Writes that were completed until the core asked for no more."""
    count = 0
    while shell.pending:
        shell.complete_io()
        count += 1
        assert count < 20, "the core tries refused pages again and again"
    return count


def test_pages_that_no_device_takes_end_in_the_oom_policy_after_one_try_each():
    shell, process, region = refusing(Refused("it does not compress"))
    shell.fault(process, region, 2, fault_id=5)
    assert writes_until_idle(shell) == 2
    assert [each.error.reason for each in shell.outcomes[process] if each.fault_id == 5] == ["OUT_OF_MEMORY"]
    assert "8 of 8 swap slots free, 2 refused by every swap device)" in str(shell.outcomes[process][-1].error)
    shell.fault(process, region, 2, fault_id=6)
    assert (writes_until_idle(shell), shell.outcomes[process][-1].error.reason) == (0, "OUT_OF_MEMORY")
    assert [shell.bytes_of(region, page) for page in range(2)] == [DATA] * 2


def test_before_the_oom_policy_is_asked_again_a_refused_page_is_tried_again_since_it_may_have_changed():
    shell, process, region = refusing(Refused("it does not compress"))
    shell.fault(process, region, 2, fault_id=5)
    writes_until_idle(shell)
    shell.refuses = {}
    shell.now += 0.2
    shell.fault(process, region, 2, fault_id=6)
    assert writes_until_idle(shell) == 1
    assert isinstance(shell.outcomes[process][-1], commands.Allocated)


def test_background_reclaim_passes_refused_pages_over_for_a_second():
    shell, _, _ = refusing(Refused("it does not compress"), low=1, high=1)
    shell.tick(0.5)
    assert writes_until_idle(shell) == 2
    shell.tick(0.5)
    assert writes_until_idle(shell) == 0
    shell.tick(0.6)
    assert writes_until_idle(shell) == 2


def test_a_device_without_room_is_not_asked_again_until_a_slot_is_freed():
    shell, process, region = refusing(NoRoom("it is full"))
    shell.refuses = {}
    shell.evict(process, region, 0, 1)
    writes_until_idle(shell)
    shell.put(process, region, 2, DATA)
    shell.refuses = {0: NoRoom("it is full")}
    shell.fault(process, region, 3, fault_id=5)
    assert writes_until_idle(shell) == 1
    assert [each.error.reason for each in shell.outcomes[process] if each.fault_id == 5] == ["OUT_OF_MEMORY"]
    shell.now += 10.0
    shell.fault(process, region, 3, fault_id=6)
    assert (writes_until_idle(shell), shell.outcomes[process][-1].error.reason) == (0, "OUT_OF_MEMORY")
    shell.refuses = {}
    other = shell.map(process, 1)
    shell.do(events.Unmap(process, other))
    shell.do(events.Unmap(process, region))
    assert not shell.core.state.swap.devices[0].full

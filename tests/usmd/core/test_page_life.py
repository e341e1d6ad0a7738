"""Every transition of a page, one at a time, with the I/O in the test's hands."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.errors import DataLoss, NoRoom, Refused, SwapIOError

DATA = b"x" * PAGE


@pytest.fixture
def shell():
    return Shell(make_core(frames=4), auto_io=False)


@pytest.fixture
def process(shell):
    return shell.attach()


@pytest.fixture
def region(shell, process):
    """Four pages, of which page 0 is present and dirty."""
    region = shell.map(process, 4)
    shell.put(process, region, 0, DATA)
    return region


def begin_eviction(shell, process, region):
    shell.hint(process, region, "DONTNEED", 0, 1)
    shell.hint(process, region, "", 0, 1)
    assert shell.state_of(region, 0) == "EVICTING"


def swap_out(shell, process, region):
    begin_eviction(shell, process, region)
    shell.complete_io()
    assert shell.state_of(region, 0) == "SWAPPED"


def last_result(shell, process):
    return shell.core.state.processes[process].evictions[-1].result


def test_a_page_never_touched_is_filled_with_zeros_at_once(shell, process, region):
    shell.pool[1] = b"?" * PAGE  # what another left behind
    assert shell.fault(process, region, 1) == [commands.Allocated(1, ((1, 1, 1),))]
    assert shell.load(process, region, 1) == bytes(PAGE)


def test_an_eviction_ends_when_its_write_has_ended(shell, process, region):
    begin_eviction(shell, process, region)
    assert shell.load(process, region, 0) is None
    assert shell.core.state.frames.free == 3
    shell.complete_io()
    assert (shell.state_of(region, 0), shell.core.state.frames.free) == ("SWAPPED", 4)
    assert last_result(shell, process) == "swapped"


def test_a_swapped_page_comes_back_clean_with_its_slot(shell, process, region):
    swap_out(shell, process, region)
    assert shell.fault(process, region, 0) == []
    assert shell.state_of(region, 0) == "FILLING"
    shell.complete_io()
    assert shell.load(process, region, 0) == DATA
    assert shell.core.state.swap.free == 63
    begin = shell.counters()["swap_outs"]
    shell.evict(process, region, 0, 1)
    assert (shell.state_of(region, 0), last_result(shell, process)) == ("SWAPPED", "dropped")
    assert (shell.counters()["swap_outs"], list(shell.pending)) == (begin, [])


def test_a_store_makes_the_slot_of_a_clean_page_worthless(shell, process, region):
    swap_out(shell, process, region)
    shell.fault(process, region, 0)
    shell.complete_io()
    assert shell.store(process, region, 0, b"y" * PAGE)
    assert (shell.core.state.swap.free, shell.slots) == (64, {})


def test_a_fault_takes_back_an_eviction_under_way_and_the_write_is_forgotten(shell, process, region):
    begin_eviction(shell, process, region)
    assert shell.fault(process, region, 0) == [commands.Allocated(1, ((0, 0, 1),))]
    assert shell.store(process, region, 0, b"y" * PAGE)
    shell.complete_io()
    assert (shell.load(process, region, 0), last_result(shell, process)) == (b"y" * PAGE, "retaken")
    assert (shell.core.state.swap.free, shell.counters()["retaken"], shell.counters()["evictions"]) == (64, 1, 0)


def test_a_retaken_page_may_be_evicted_again_while_its_first_write_is_under_way(shell, process, region):
    begin_eviction(shell, process, region)
    shell.fault(process, region, 0)
    shell.store(process, region, 0, b"y" * PAGE)
    begin_eviction(shell, process, region)
    first, second = (page.slot for _, page in shell.pending)
    assert first != second
    shell.complete_io(1)
    shell.complete_io(0)
    assert shell.bytes_of(region, 0) == b"y" * PAGE
    assert list(shell.slots) == [second]


def test_an_answer_to_an_old_protect_is_ignored(shell, process, region):
    begin_eviction(shell, process, region)
    shell.fault(process, region, 0)
    begin_eviction(shell, process, region)
    pending = len(shell.pending)
    shell.do(events.Protected(1, [0], [True]))
    assert (shell.state_of(region, 0), len(shell.pending)) == ("EVICTING", pending)


def test_a_retaken_page_survives_the_failure_of_its_write(shell, process, region):
    begin_eviction(shell, process, region)
    shell.fault(process, region, 0)
    shell.fail_write = SwapIOError("no")
    shell.complete_io()
    assert (shell.load(process, region, 0), shell.core.state.swap.free) == (DATA, 64)


def test_a_failed_write_leaves_the_page_present_and_dirty(shell, process, region):
    begin_eviction(shell, process, region)
    shell.fail_write = SwapIOError("the disk is gone")
    shell.complete_io()
    assert (shell.load(process, region, 0), last_result(shell, process)) == (DATA, "write failed")
    assert shell.core.state.swap.free == 64
    assert "swap0 cannot be written: the disk is gone" in shell.notices[-1].message


@pytest.mark.parametrize(("error", "full"), [(Refused("it does not compress"), False), (NoRoom("it is full"), True)])
def test_a_refused_page_goes_to_the_next_device_at_once_and_the_one_that_refused_does_not_rest(error, full):
    shell = Shell(make_core(frames=4, devices=(("picky", 8), ("other", 8))), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 4)
    shell.put(process, region, 0, DATA)
    shell.refuses = {0: error}
    begin_eviction(shell, process, region)
    assert shell.pending[0][1].slot >> 40 == 0
    shell.complete_io()
    assert [page.slot >> 40 for _, page in shell.pending] == [1]
    shell.complete_io()
    devices = shell.core.state.swap.devices
    assert (shell.state_of(region, 0), shell.bytes_of(region, 0)) == ("SWAPPED", DATA)
    assert [(each.free, each.full, each.failures, each.rests_until) for each in devices] == [
        (8, full, 0, 0.0),
        (7, False, 0, 0.0),
    ]
    assert "swap_error" not in [notice.kind for notice in shell.notices]
    assert (shell.counters()["swap_outs"], shell.counters()["swap_write_errors"]) == (1, 0)


def test_a_page_that_every_device_refuses_stays_present_and_dirty(shell, process, region):
    shell.refuses = {0: Refused("it does not compress")}
    begin_eviction(shell, process, region)
    shell.complete_io()
    assert not shell.pending
    assert (shell.load(process, region, 0), last_result(shell, process)) == (DATA, "refused")
    assert (shell.core.state.swap.free, shell.core.life.unwritten) == (64, 0)


def test_a_retaken_page_whose_write_is_refused_stays_as_it_is(shell, process, region):
    begin_eviction(shell, process, region)
    shell.fault(process, region, 0)
    shell.refuses = {0: NoRoom("it is full")}
    shell.complete_io()
    assert not shell.pending
    assert (shell.load(process, region, 0), shell.core.state.swap.free) == (DATA, 64)
    assert shell.core.state.swap.devices[0].full


def test_a_failed_read_leaves_the_page_swapped_and_nobody_reads_zeros(shell, process, region):
    swap_out(shell, process, region)
    shell.fault(process, region, 0, fault_id=5)
    shell.fail_read = DataLoss("slot 0 does not hold what was written")
    shell.complete_io()
    shell.fail_read = None
    failed = shell.outcomes[process][-1]
    assert (failed.fault_id, failed.page, failed.error.reason) == (5, 0, "DATA_LOSS")
    assert (shell.state_of(region, 0), shell.load(process, region, 0)) == ("SWAPPED", None)
    assert shell.core.state.frames.free == 4
    shell.fault(process, region, 0)
    shell.complete_io()
    assert shell.load(process, region, 0) == DATA


def test_a_failed_read_fails_the_waiters_of_its_page_only(shell, process, region):
    shell.put(process, region, 1, DATA)
    shell.evict(process, region, 0, 2)
    shell.complete_io()
    shell.complete_io()
    before = len(shell.outcomes[process])
    for fault, page in ((1, 0), (2, 0), (3, 1)):
        shell.fault(process, region, page, fault_id=fault)
    shell.fail_read = SwapIOError("no")
    shell.complete_io(0)
    shell.fail_read = None
    shell.complete_io(0)
    told = [(type(each).__name__, each.fault_id) for each in shell.outcomes[process][before:]]
    assert told == [("Failed", 1), ("Failed", 2), ("Allocated", 3)]


def test_unmapping_during_a_fill_keeps_frame_and_slot_until_it_ends(shell, process, region):
    swap_out(shell, process, region)
    shell.fault(process, region, 0)
    shell.do(events.Unmap(process, region))
    assert shell.outcomes[process][-1].error.reason == "UNMAPPED"
    state = shell.core.state
    assert (state.frames.free, state.swap.free) == (3, 63)
    shell.complete_io()
    assert (state.frames.free, state.swap.free, shell.slots) == (4, 64, {})


def test_unmapping_during_an_eviction_frees_the_frame_now_and_the_slot_later(shell, process, region):
    begin_eviction(shell, process, region)
    shell.do(events.Unmap(process, region))
    state = shell.core.state
    assert (state.frames.free, state.swap.free) == (4, 63)
    other = shell.map(process, 1)
    shell.put(process, other, 0, b"z" * PAGE)  # on the same frame, while the old write runs
    shell.complete_io()
    assert (shell.load(process, other, 0), state.swap.free, shell.slots) == (b"z" * PAGE, 64, {})


def test_the_policy_knows_a_page_again_after_retaken_failed_write_and_deny(shell, process, region):
    policies = shell.core.state.processes[process].policies
    begin_eviction(shell, process, region)
    assert list(policies.candidates(9)) == []
    shell.fault(process, region, 0)
    assert list(policies.candidates(9)) == [0]
    shell.hint(process, region, "EVICTION=DENY")
    assert list(policies.candidates(9)) == []
    shell.hint(process, region, "PRIORITY=LOW")
    assert list(policies.candidates(9)) == [0]
    begin_eviction(shell, process, region)
    shell.fail_write = SwapIOError("no")
    while shell.pending:
        shell.complete_io()
    assert list(policies.candidates(9)) == [0]


def test_a_priority_set_during_an_eviction_holds_when_the_page_stays(shell):
    process = shell.attach(evict="hint_aware")
    region = shell.map(process, 1)
    shell.put(process, region, 0, DATA)
    shell.hint(process, region, "PRIORITY=LOW; DONTNEED")
    shell.hint(process, region, "PRIORITY=HIGH")
    shell.fault(process, region, 0)
    policies = shell.core.state.processes[process].policies
    assert policies.reason(0).startswith("PRIORITY=HIGH")
    assert (list(policies.candidates(9)), policies.blame.errors["evict"]) == ([0], 0)

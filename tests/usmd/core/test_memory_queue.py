"""Faults that wait for memory: their order, and what becomes of them when there is none."""

from collections import OrderedDict

import pytest

from tests.support.in_swap import complete_all, resident, swapped
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.commands import Allocated
from usmd.errors import NoRoom, OutOfMemory, Refused

DATA = b"x" * PAGE


def test_faults_wait_for_memory_in_order_of_arrival():
    shell, process, region = swapped(6, frames=2)
    for page in range(4):
        shell.fault(process, region, page, fault_id=page)
    complete_all(shell)
    assert [each.fault_id for each in shell.outcomes[process]] == [0, 1, 2, 3]


def test_refuse_fails_the_fault_alone_and_others_go_on():
    shell = Shell(make_core(frames=3, devices=()))
    process, other = shell.attach(), shell.attach()
    region, mine = resident(shell, process, 2), resident(shell, other, 1)
    last = shell.map(other, 1)
    failed = shell.fault(other, last, 0, fault_id=8)[0]
    assert (failed.fault_id, failed.page, failed.error.code) == (8, 0, "RESOURCE_EXHAUSTED")
    assert "all 3 are in use" in str(failed.error)
    assert shell.get(process, region, 1) == shell.get(other, mine, 0) == DATA
    shell.do(events.Unmap(process, region))
    assert isinstance(shell.fault(other, last, 0)[0], Allocated)
    assert shell.counters()["oom_refusals"] == 1


def test_kill_largest_ends_the_largest_tells_it_why_and_serves_the_fault():
    shell = Shell(make_core(frames=4, devices=()))
    large, small = shell.attach("large"), shell.attach("small", oom="kill_largest")
    resident(shell, large, 3)
    region = shell.map(small, 3)
    shell.put(small, region, 0, DATA)
    assert shell.fault(small, region, 1) == [Allocated(1, ((1, 0, 1),))]
    assert shell.ended[large] == commands.Ended(
        large, "out of memory: it held 3 of 4 frames and none was left", killed=True
    )
    assert [each.kind for each in shell.notices][-1] == "process_killed"
    assert (shell.core.state.frames.free, shell.counters()["oom_kills"]) == (2, 1)
    assert shell.get(small, region, 0) == DATA


def test_kill_largest_may_end_the_process_that_faults():
    shell = Shell(make_core(frames=2, devices=()))
    process = shell.attach(oom="kill_largest")
    region = shell.map(process, 3)
    shell.do(events.Faults(process, [events.FaultRequest(1, region, 0, 3, True)]))
    assert shell.ended[process].killed
    assert process not in shell.outcomes
    assert shell.core.state.frames.free == 2
    assert not shell.core.waiting


@pytest.mark.parametrize("error", [NoRoom("it is full"), Refused("it does not compress")])
def test_what_is_stored_can_be_read_though_memory_is_full_of_pages_that_no_device_takes(error):
    shell = Shell(make_core(frames=6, low=2, high=2, hold_budget=1))
    process = shell.attach()
    region = shell.map(process, 16)
    for page in range(7):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    shell.refuses = {0: error}
    # Both fault before the device says so.
    shell.do(events.Faults(process, [events.FaultRequest(page, region, page, 1, True) for page in (7, 8)]))
    for page in (7, 8):
        shell.store(process, region, page, bytes([page + 1]) * PAGE)
    shell.tick()
    with pytest.raises(OutOfMemory, match=r"kept for pages from swap \(1 free\)"):
        shell.put(process, region, 9, DATA)
    stored = [page for page in range(9) if shell.state_of(region, page) != "ABSENT"]
    assert [shell.get(process, region, page) for page in stored] == [bytes([page + 1]) * PAGE for page in stored]


def test_unmapping_ends_faults_that_wait_for_memory():
    shell, process, region = swapped(3, frames=1)
    for page in range(3):
        shell.fault(process, region, page, fault_id=page)
    shell.do(events.Unmap(process, region))
    assert sorted((each.fault_id, each.error.reason) for each in shell.outcomes[process]) == [
        (0, "UNMAPPED"), (1, "UNMAPPED"), (2, "UNMAPPED"),
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["unmap", "detach"])
def test_the_end_of_a_region_looks_at_the_pages_of_its_own_process_alone(end, monkeypatch):
    shell = Shell(make_core(frames=4, low=0, high=0), auto_io=False)
    owner, many, few = shell.attach("owner"), shell.attach("many"), shell.attach("few")
    resident(shell, owner, 4)
    regions = {process: shell.map(process, 64) for process in (many, few)}
    for process, pages in ((many, 64), (few, 3)):
        for page in range(pages):
            shell.fault(process, regions[process], page, fault_id=page)
    assert len(shell.core.waiting) == 67
    looked_at = []

    class Waiting(OrderedDict):
        def __iter__(self):
            for each in super().__iter__():
                looked_at.append(each)
                yield each

    queue = shell.core._memory_queue
    monkeypatch.setattr(queue, "_waiting", Waiting(queue._waiting))
    queue.unmapped(shell.core.state.processes[few])
    assert looked_at == []
    monkeypatch.undo()
    shell.do(events.Detach(few, "bye") if end == "detach" else events.Unmap(few, regions[few]))
    assert [each.waiter.region.region_id for each in shell.core.waiting] == [regions[many]] * 64
    assert {process: len(pages) for process, pages in shell.core.waiting_of.items() if pages} == {many: 64}


def test_a_page_that_comes_in_while_others_wait_for_it_is_a_touch_of_each():
    shell, process, region = swapped(3, frames=1)
    for number, page in enumerate([1, 0, 0, 0]):
        shell.fault(process, region, page, fault_id=number)
    complete_all(shell)
    assert [each.fault_id for each in shell.outcomes[process]] == [0, 1, 2, 3]
    assert shell.core.state.processes[process].missing == 0
    assert shell.counters()["swap_ins"] == 2

"""A process at its swap_max, and swap that a neighbour has filled: all that is stored can be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.budgeted import DATA, evictions, shell_of
from tests.support.examples import examples
from tests.support.real_shell import DONE, SIGBUS, RealShell
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.validate import violations
from usmd.errors import NoRoom, OutOfMemory, Refused, SwapIOError
from usmd.policies import registry


def content(page):
    return bytes([page + 1]) * PAGE


def fill(shell, process, region, pages):
    """Store to as many pages as there is room for; returns how many that were, and the error of the next."""
    for page in range(pages):
        try:
            shell.put(process, region, page, content(page))
        except OutOfMemory as error:
            return page, error
    return pages, None


def hog_of(shell, process):
    return shell.core.state.processes[process]


def test_at_its_swap_max_a_fault_on_a_new_page_fails_and_says_what_is_used_and_what_to_do():
    shell, process, region, other, kept = shell_of(4, swap_max=4)
    stored, error = fill(shell, process, region, 16)
    assert stored == 7
    assert str(error) == (
        "no frame for page 7 of region 1: hog has 3 pages in memory, its memory_max is 4 (64 B), of which one is for "
        "pages from swap, and none of them can be evicted (0 unevictable, 0 pinned, 4 pages count against its swap_max "
        "of 4 (64 B)); unmap regions, or raise swap_max of its rule"
    )
    assert (hog_of(shell, process).counters.oom_refusals, hog_of(shell, process).counters.budget_refusals) == (1, 1)
    assert (evictions(shell, other), shell.core.state.swap.free) == (0, 60)
    for page in range(8):
        shell.put(other, kept, page, DATA)
    assert evictions(shell, other) == 0


def test_what_is_stored_comes_back_and_may_be_written_as_often_as_it_likes():
    shell, process, region, _, _ = shell_of(4, swap_max=4)
    stored, _ = fill(shell, process, region, 16)
    for turn in range(3):
        for page in range(stored):
            assert shell.get(process, region, page) == bytes([page + 1 + turn]) * PAGE
            shell.put(process, region, page, bytes([page + 2 + turn]) * PAGE)
        for page in reversed(range(stored)):
            assert shell.get(process, region, page) == bytes([page + 2 + turn]) * PAGE
    with pytest.raises(OutOfMemory):
        shell.put(process, region, stored, DATA)


def test_unmapping_makes_room_at_once():
    shell, process, region, _, _ = shell_of(4, swap_max=4)
    fill(shell, process, region, 16)
    second = shell.map(process, 8)
    with pytest.raises(OutOfMemory):
        shell.put(process, second, 0, DATA)
    shell.do(events.Unmap(process, region))
    assert hog_of(shell, process).stored == 0
    assert fill(shell, process, second, 8)[0] == 7


def test_a_process_that_may_have_nothing_in_swap_has_all_its_memory():
    shell, process, region, _, _ = shell_of(4, swap_max=0)
    stored, error = fill(shell, process, region, 16)
    assert stored == 4
    assert "0 pages count against its swap_max of 0 (0 B)" in str(error)
    assert "for pages from swap" not in str(error)
    assert shell.core.state.swap.free == 64


def test_dontneed_and_policies_send_no_more_than_the_budget_to_swap():
    shell, process, region, _, _ = shell_of(6, swap_max=2)
    fill(shell, process, region, 5)
    shell.evict(process, region)
    assert (hog_of(shell, process).stored, shell.core.state.swap.free) == (2, 62)
    assert [shell.get(process, region, page) for page in range(5)] == [content(page) for page in range(5)]


def test_a_device_that_fails_or_a_fault_that_takes_a_page_back_costs_nothing_of_the_budget():
    shell, process, region, _, _ = shell_of(4, swap_max=2, auto_io=False)
    for page in range(4):
        shell.put(process, region, page, content(page))
    shell.evict(process, region, 0, 2)
    assert hog_of(shell, process).stored == 2
    shell.fault(process, region, 0)
    assert hog_of(shell, process).stored == 1
    shell.fail_write = SwapIOError("the device said no")
    while shell.pending:
        shell.complete_io()
    assert hog_of(shell, process).stored == 0
    assert [shell.get(process, region, page) for page in range(4)] == [content(page) for page in range(4)]


def test_refusals_are_reported_at_each_power_of_two():
    shell, process, region, _, _ = shell_of(4, swap_max=4)
    fill(shell, process, region, 16)
    for _ in range(4):
        shell.fault(process, region, 9, write=True)
    told = [each for each in shell.notices if each.kind == "fault_over_budget"]
    assert [each.fields["refused"] for each in told] == ["1", "2", "4"]
    assert told[0].process_id == process
    assert told[0].fields == {"refused": "1", "resident": "3", "memory_max": "4", "stored": "4", "swap_max": "4"}


def test_a_thread_at_the_swap_max_of_its_process_gets_sigbus_and_a_neighbours_thread_what_it_touches():
    shell, process, region, other, kept = shell_of(4, swap_max=4, kind=RealShell)
    threads = [shell.touch(process, region, page, content(page)) for page in range(8)]
    assert [thread.state for thread in threads] == [DONE] * 7 + [SIGBUS]
    assert [shell.touch(process, region, page).read for page in range(7)] == [content(page) for page in range(7)]
    assert shell.touch(other, kept, 6, DATA).state == DONE
    assert [shell.touch(other, kept, page).read for page in range(4)] == [DATA] * 4
    assert evictions(shell, other) == 0


def test_where_memory_is_short_for_all_the_error_names_the_swap_max_as_well():
    shell = Shell(make_core(frames=4, devices=(("swap0", 64),)))
    process = shell.attach("hog", memory_max=8, swap_max=2)
    region = shell.map(process, 16)
    stored, error = fill(shell, process, region, 16)
    assert stored == 5
    assert "none can be evicted" in str(error)
    assert "; hog keeps dirty pages because 2 pages count against its swap_max of 2 (32 B): raise it" in str(error)
    assert [shell.get(process, region, page) for page in range(stored)] == [content(page) for page in range(stored)]


def test_reclaim_looks_at_no_page_of_a_process_that_can_give_none():
    asked = []

    class Asked(registry.find("evict", "fifo")[0]):
        def choose_victims(self):
            asked.append(self)
            return super().choose_victims()

    def make(kind, specification, memory):
        return Asked(memory) if kind == "evict" else registry.make(kind, specification, memory)

    shell, process, region, _, _ = shell_of(4, swap_max=4, make_policy=make)
    fill(shell, process, region, 16)
    assert asked
    asked.clear()
    assert shell.core.reclaim.from_process(hog_of(shell, process), 1) == 0
    assert asked == []


def full_swap(kind=Shell, **settings):
    """A process at its `memory_max` of 3 with dirty pages alone and two pages in swap, which a neighbour has filled."""
    shell = kind(make_core(frames=16, devices=(("swap0", 4),), **settings))
    process, other = shell.attach("hog", memory_max=3), shell.attach("neighbour", memory_max=6)
    region, kept = shell.map(process, 16), shell.map(other, 16)
    return shell, process, region, other, kept


def test_what_is_stored_can_be_read_and_written_though_a_neighbour_has_filled_swap():
    shell, process, region, other, kept = full_swap()
    assert fill(shell, process, region, 5)[0] == 5
    assert fill(shell, other, kept, 16)[0] == 8
    assert (hog_of(shell, process).resident, shell.core.state.swap.free) == (3, 0)
    for turn in range(3):
        for page in range(5):
            assert shell.get(process, region, page) == bytes([page + 1 + turn]) * PAGE
            shell.put(process, region, page, bytes([page + 2 + turn]) * PAGE)
            with pytest.raises(OutOfMemory):
                shell.put(other, kept, 8, DATA)  # takes no slot that the hog has just given up and needs
            assert [shell.get(other, kept, page) for page in range(8)] == [content(page) for page in range(8)]
            assert hog_of(shell, process).resident <= 4
    with pytest.raises(OutOfMemory, match="its memory_max is 3"):
        shell.put(process, region, 5, DATA)
    shell.do(events.Unmap(other, kept))
    assert fill(shell, process, region, 7)[0] == 7
    assert (hog_of(shell, process).resident, hog_of(shell, process).lent) == (3, 0)
    assert shell.core.state.budgets.borrowers == []


def test_a_thread_can_read_what_is_stored_though_a_neighbour_has_filled_swap():
    shell, process, region, other, kept = full_swap(kind=RealShell)
    assert {shell.touch(process, region, page, content(page)).state for page in range(5)} == {DONE}
    assert [shell.touch(other, kept, page, DATA).state for page in range(9)] == [DONE] * 8 + [SIGBUS]
    assert [shell.touch(process, region, page).read for page in range(5)] == [content(page) for page in range(5)]
    assert {shell.touch(process, region, page, content(page + 9)).state for page in range(5)} == {DONE}
    assert [shell.touch(process, region, page).read for page in range(5)] == [content(page + 9) for page in range(5)]


@pytest.mark.parametrize("swap_max", [None, 4])
def test_what_is_stored_can_be_read_though_the_one_page_that_can_go_is_far_down_the_list(swap_max):
    shell = Shell(make_core(frames=32, devices=(("swap0", 4),), scan_limit=2))
    process = shell.attach("hog", evict="lru", memory_max=12, swap_max=swap_max)
    region = shell.map(process, 32)
    stored, _ = fill(shell, process, region, 32)
    for _ in range(2):
        assert [shell.get(process, region, page) for page in range(stored)] == list(map(content, range(stored)))


@pytest.mark.parametrize("error", [NoRoom("it is full"), Refused("it does not compress")])
def test_what_is_stored_can_be_read_though_no_device_takes_more(error):
    shell, process, region, _, _ = full_swap()
    assert fill(shell, process, region, 5)[0] == 5
    shell.refuses = {0: error}
    with pytest.raises(OutOfMemory):
        shell.put(process, region, 5, DATA)
    assert [shell.get(process, region, page) for page in range(5)] == [content(page) for page in range(5)]
    assert hog_of(shell, process).resident == 4


def test_what_was_lent_goes_with_its_process():
    shell, process, region, other, kept = full_swap()
    fill(shell, process, region, 5)
    fill(shell, other, kept, 16)
    shell.get(process, region, 0)
    shell.get(process, region, 1)
    assert [each.process_id for each in shell.core.state.budgets.borrowers] == [process]
    shell.do(events.Detach(process, "bye"))
    assert shell.core.state.budgets.borrowers == []


def test_a_process_that_keeps_all_its_pages_itself_is_lent_nothing():
    shell, process, region, other, kept = full_swap()
    fill(shell, process, region, 5)
    fill(shell, other, kept, 16)
    for page in range(5):
        if shell.state_of(region, page) == "PRESENT":
            shell.hint(process, region, "EVICTION=DENY", page, 1)
    swapped = next(page for page in range(5) if shell.state_of(region, page) == "SWAPPED")
    with pytest.raises(OutOfMemory, match="3 unevictable"):
        shell.get(process, region, swapped)


ACCESS = st.tuples(st.sampled_from(["put", "put", "get", "dontneed", "willneed", "demote"]), st.integers(0, 15))


@examples(70)
@given(
    st.lists(ACCESS, max_size=60),
    st.integers(1, 5),
    st.sampled_from([None, *range(7)]),
    st.sampled_from([(64, 64), (3, 64), (3, 2)]),
    st.booleans(),
)
def test_all_that_is_stored_can_be_read_whatever_came_before(todo, most, swap_max, slots, pairs):
    """Also by two such processes that together may have more than there are frames, or than there are swap slots."""
    fast, slow = slots
    shell = Shell(make_core(frames=6, devices=(("fast", fast), ("slow", slow)), hold_budget=1))
    hogs = [shell.attach("hog", memory_max=most, swap_max=swap_max) for _ in range(1 + pairs)]
    regions = {process: shell.map(process, 16) for process in hogs}
    model = {process: [bytes(PAGE)] * 16 for process in hogs}
    for number, (what, page) in enumerate(todo):
        process = hogs[number % len(hogs)]
        region = shell.core.state.regions[regions[process]]
        if what == "put":
            try:
                shell.put(process, region.region_id, page, bytes([number + 1]) * PAGE)
            except OutOfMemory:
                continue
            model[process][page] = bytes([number + 1]) * PAGE
        elif what == "get" and region.table[page]:
            assert shell.get(process, region.region_id, page) == model[process][page]
        elif what == "demote":
            before = hog_of(shell, process).stored
            room = shell.core.state.frames.free and shell.core.state.swap.devices[1].free
            if region.table[page] < 0 and hog_of(shell, process).resident < most and room:
                shell.core._migration.begin(region, page, 1)
                shell.tick()
                assert hog_of(shell, process).stored == before
        elif what in ("dontneed", "willneed"):
            shell.hint(process, region.region_id, what.upper(), min(page, 12), 4)
            shell.hint(process, region.region_id, "", min(page, 12), 4)
        assert violations(shell.core) == []
    for process in hogs * 2:
        for page, expected in enumerate(model[process]):
            if shell.core.state.regions[regions[process]].table[page]:
                assert shell.get(process, regions[process], page) == expected

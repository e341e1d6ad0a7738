"""Reports for operators: cells, hints, and all that is known of a page in every state."""

from itertools import chain

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events, report
from usmd.core.swap_map import SLOT_BITS
from usmd.errors import NotFound


@pytest.fixture
def shell():
    return Shell(make_core(frames=8, devices=(("swap0", 64), ("swap1", 64))))


@pytest.fixture
def slow():
    """Slow commands complete when the test says so."""
    return Shell(make_core(frames=8), auto_io=False)


def hinted(shell, region, found):
    return report.hint_report(region, found, report.hinted_frames(shell.core, region, found))


def explain(shell, region, page):
    return report.explain(shell.core, shell.core.state.regions[region], page)


# Memory


def test_a_cell_counts_frames_by_state_and_flag(shell):
    process = shell.attach()
    region = shell.map(process, 4)
    shell.fault(process, region, 0, 3)
    shell.hint(process, region, "EVICTION=DENY", 1, 1)
    cell = report.memory_cell(shell.core, 0, 8)
    assert (cell.frames, cell.free, cell.present, cell.dirty, cell.unevictable) == (8, 5, 3, 3, 1)
    assert (cell.filling, cell.evicting, cell.pinned, cell.held, cell.process_id) == (0, 0, 0, 0, process)


def test_held_and_pinned_are_two_things():
    shell = Shell(make_core(frames=8, hold_budget=4))
    process = shell.attach()
    region = shell.map(process, 4)
    shell.fault(process, region, 0, 3)  # each is held, for what faulted on it
    shell.do(events.Pin(process, region, 2, 1))
    cell = report.memory_cell(shell.core, 0, 8)
    assert (cell.pinned, cell.held) == (1, 3)
    found = [explain(shell, region, page) for page in (1, 2, 3)]
    assert [(each.pinned, each.held) for each in found] == [(False, True), (True, True), (False, False)]


def test_frames_in_flight_are_counted(slow):
    process = slow.attach()
    region = slow.map(process, 2)
    slow.put(process, region, 0, b"a" * 16)
    slow.put(process, region, 1, b"b" * 16)
    slow.hint(process, region, "DONTNEED", 0, 1)
    assert report.memory_cell(slow.core, 0, 8).evicting == 1
    slow.complete_io()
    slow.fault(process, region, 0)
    cell = report.memory_cell(slow.core, 0, 8)
    assert (cell.filling, cell.evicting, cell.present) == (1, 0, 1)


def test_the_map_has_neighbouring_cells_of_nearly_equal_size_that_cover_all_frames():
    shell = Shell(make_core(frames=10))
    for wanted in (1, 3, 7, 10, 11, 1 << 40):
        cells = list(report.memory_map(shell.core, wanted))
        assert len(cells) == min(wanted, 10)
        assert [cell.first_frame for cell in cells[1:]] == [cell.first_frame + cell.frames for cell in cells[:-1]]
        assert cells[-1].first_frame + cells[-1].frames == 10
        assert max(cell.frames for cell in cells) - min(cell.frames for cell in cells) <= 1


def test_dirty_frames_are_counted_part_by_part(monkeypatch):
    monkeypatch.setattr(report, "FRAMES_A_PART", 3)
    shell = Shell(make_core(frames=8))
    process = shell.attach()
    shell.fault(process, shell.map(process, 4), 0, 4)
    assert list(report.dirty_frames(shell.core)) == [3, 1, 0]


def test_a_cell_belongs_to_the_process_with_most_frames(shell):
    one, two = shell.attach("one"), shell.attach("two")
    shell.fault(one, shell.map(one, 4), 0, 2)
    shell.fault(two, shell.map(two, 4), 0, 3)
    assert report.memory_cell(shell.core, 0, 8).process_id == two
    shell.do(events.Detach(two, "over"))
    assert report.memory_cell(shell.core, 0, 8).process_id == one


def test_a_large_cell_with_a_single_used_frame_still_has_its_owner():
    shell = Shell(make_core(frames=1024))
    process = shell.attach()
    region = shell.map(process, 2)
    shell.fault(process, region, 0)
    shell.fault(process, region, 1)
    shell.hint(process, region, "DONTNEED", 0, 1)  # leaves frame 1 alone, which no sample of every 64th hits
    cell = report.memory_cell(shell.core, 0, 1024)
    assert (cell.free, cell.process_id) == (1023, process)
    assert report.memory_cell(shell.core, 2, 1024).process_id == 0


# Swap


def test_a_region_counts_the_pages_that_are_in_swap_only(shell):
    process = shell.attach()
    region = shell.map(process, 4)
    for page in range(3):
        shell.put(process, region, page, bytes([page + 1]) * 16)
    shell.evict(process, region)
    shell.get(process, region, 0)
    assert shell.core.state.regions[region].swapped == 2
    assert shell.core.state.swap.slots - shell.core.state.swap.free == 3


# Counters


def test_no_count_falls_while_processes_end_and_begin_in_the_middle_of_a_sum(monkeypatch):
    monkeypatch.setattr(report, "PROCESSES_A_PART", 1)
    shell = Shell(make_core(frames=16))

    def begin():
        process = shell.attach()
        region = shell.map(process, 2)
        shell.put(process, region, 0, b"x" * PAGE)
        return process

    first = [begin() for _ in range(3)]
    counted = []
    for ending in [*first, None]:
        totals = report.Totals(shell.core.state)
        steps = totals.steps()
        next(steps, None)
        if ending is not None:
            shell.do(events.Detach(ending, "bye"))
            begin()
        assert list(steps) == [None] * (len(totals.processes) - 1)
        counted.append(totals.counters.zero_fills)
    assert counted == [3, 4, 5, 6]


# Hints


def test_hints_are_listed_of_one_process_or_of_all_with_what_they_cover_now(shell):
    one, two = shell.attach("one"), shell.attach("two")
    first, second = shell.map(one, 6), shell.map(two, 4)
    shell.fault(one, first, 0, 3)
    shell.hint(one, first, "EVICTION=DENY", 2, 2)
    shell.hint(one, first, "PRIORITY=LOW", 0, 1)
    shell.hint(two, second, "PRIORITY=HIGH")
    state = shell.core.state
    mine = [hinted(shell, *each) for each in chain(*report.hint_ranges(shell.core, state.processes[one]))]
    assert [(each.region_id, each.range.first, each.range.end) for each in mine] == [(first, 0, 1), (first, 2, 4)]
    assert [(each.process_id, each.resident, each.unevictable) for each in mine] == [(one, 1, 0), (one, 1, 1)]
    everyone = chain(*report.hint_ranges(shell.core, None))
    assert [region.region_id for region, _ in everyone] == [first, first, second]


def test_a_long_range_is_counted_in_parts(shell, monkeypatch):
    monkeypatch.setattr(report, "PAGES_A_PART", 1)
    process = shell.attach()
    region = shell.map(process, 100)
    shell.hint(process, region, "PRIORITY=LOW")
    shell.hint(process, region, "EVICTION=DENY", 99, 1)
    for page in (0, 50, 97, 99):
        shell.fault(process, region, page)
    (low, _) = chain(*report.hint_ranges(shell.core, None))
    assert len(list(report.hinted_frames(shell.core, *low))) >= 3
    assert (hinted(shell, *low).resident, hinted(shell, *low).unevictable) == (3, 0)


# Regions and pages


def test_a_region_is_found_by_number_or_by_a_name_that_only_one_has(shell):
    process, other = shell.attach(), shell.attach("other")
    index, cache = shell.map(process, 1, "index"), shell.map(process, 1, "cache")
    shell.map(process, 1, "cache")
    foreign = shell.map(other, 1, "foreign")
    owner = shell.core.state.processes[process]
    assert report.find_region(owner, index, "").region_id == index
    assert report.find_region(owner, 0, "index").region_id == index
    assert report.find_region(owner, cache, "ignored").region_id == cache
    for number, name, said in ((0, "cache", "2 regions"), (0, "foreign", "no region"), (foreign, "", f"{foreign}")):
        with pytest.raises(NotFound, match=said):
            report.find_region(owner, number, name)


def test_an_absent_page_has_nothing(shell):
    process = shell.attach()
    found = explain(shell, shell.map(process, 2), 1)
    assert (found.state, found.frame, found.slot, found.generation) == ("ABSENT", None, None, 0)
    assert (found.dirty, found.pinned, found.held, found.unevictable, found.waiting) == (False, False, False, False, 0)
    assert found.last_eviction is None


def test_a_present_page_has_its_frame_flags_and_hint():
    shell = Shell(make_core(frames=8, hold_budget=4))
    process = shell.attach()
    region = shell.map(process, 2)
    shell.hint(process, region, "EVICTION=DENY; PRIORITY=HIGH")
    (outcome,) = shell.fault(process, region, 1)
    found = explain(shell, region, 1)
    assert (found.state, found.frame) == ("PRESENT", outcome.runs[0][1])
    assert (found.dirty, found.pinned, found.held, found.unevictable) == (True, False, True, True)


def test_a_swapped_page_has_its_slot_and_its_last_eviction(shell):
    process = shell.attach()
    region = shell.map(process, 1)
    shell.put(process, region, 0, b"a" * 16)
    shell.hint(process, region, "SWAP=swap1")
    shell.tick(5.0)
    shell.hint(process, region, "SWAP=swap1; DONTNEED")
    found = explain(shell, region, 0)
    assert (found.state, found.frame, found.slot >> SLOT_BITS, found.generation) == ("SWAPPED", None, 1, 1)
    record = found.last_eviction
    assert (record.time, record.policy, record.reason, record.result) == (5.0, "hint", "DONTNEED", "swapped")


def test_a_page_in_memory_and_in_swap_has_both_and_its_newest_eviction(shell):
    process = shell.attach()
    region = shell.map(process, 1)
    shell.put(process, region, 0, b"a" * 16)
    shell.evict(process, region)
    shell.get(process, region, 0)
    found = explain(shell, region, 0)
    assert (found.state, found.dirty) == ("PRESENT", False)
    assert None not in (found.frame, found.slot)
    shell.evict(process, region)
    assert explain(shell, region, 0).last_eviction.result == "dropped"


def test_pages_in_flight_say_so_and_how_many_faults_wait(slow):
    process = slow.attach()
    region = slow.map(process, 1)
    slow.put(process, region, 0, b"a" * 16)
    slow.hint(process, region, "DONTNEED")
    evicting = explain(slow, region, 0)
    assert (evicting.state, evicting.last_eviction.result) == ("EVICTING", "under way")
    slow.complete_io()
    assert explain(slow, region, 0).state == "SWAPPED"
    slow.fault(process, region, 0, fault_id=1)
    slow.fault(process, region, 0, fault_id=2)
    filling = explain(slow, region, 0)
    assert (filling.state, filling.waiting, filling.dirty) == ("FILLING", 2, False)
    assert filling.slot is not None
    slow.complete_io()


def test_faults_that_wait_for_memory_are_counted():
    shell = Shell(make_core(frames=1), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 3)
    shell.put(process, region, 0, b"a" * 16)
    shell.fault(process, region, 2, fault_id=7)
    found = explain(shell, region, 2)
    assert (found.state, found.waiting) == ("ABSENT", 1)
    assert explain(shell, region, 1).waiting == 0


# Hints and evictions


def test_those_who_keep_pages_or_have_hints_are_listed(shell):
    hinted, plain = shell.attach("hinted"), shell.attach("plain")
    region = shell.map(hinted, 2)
    shell.map(plain, 2)
    core = shell.core
    assert report.keeping_processes(core, None) == []
    shell.hint(hinted, region, "PRIORITY=LOW", 0, 1)
    assert [each.name for each in report.keeping_processes(core, None)] == ["hinted"]
    assert report.keeping_processes(core, core.state.processes[plain]) == []


def test_the_last_evictions_come_newest_first_of_all_pages_or_of_one(shell):
    process = shell.attach()
    region = shell.map(process, 4)
    for page in (0, 1, 0):
        shell.put(process, region, page, b"a" * 16)
        shell.hint(process, region, "DONTNEED", page, 1)
    owner = shell.core.state.processes[process]
    key = shell.core.state.regions[region].first_key
    assert [record.page - key for record in report.last_evictions(owner, None, 0)] == [0, 1, 0]
    assert [record.page - key for record in report.last_evictions(owner, None, 2)] == [0, 1]
    assert [record.page - key for record in report.last_evictions(owner, key + 1, 0)] == [1]
    assert report.last_evictions(owner, key + 2, 0) == []


def test_pages_that_are_on_a_device_and_in_memory_are_counted_by_device(shell, monkeypatch):
    process = shell.attach()
    region = shell.map(process, 4)
    for page, device in enumerate("0110"):
        shell.put(process, region, page, b"x" * PAGE)
        shell.hint(process, region, f"SWAP={device}; DONTNEED", page, 1)
        shell.hint(process, region, "", page, 1)
    shell.fault(process, region, 0, 3)
    for part in (1, 3, 8):
        monkeypatch.setattr(report, "FRAMES_A_PART", part)
        counts = [sum(report.pages_with_slot(shell.core, numbers)) for numbers in ([0], [1], [0, 1], [2], [])]
        assert counts == [1, 2, 3, 0, 0]

"""Sessions, regions, hints: what is allowed, what is freed, what expires."""

import pytest

from tests.support.in_swap import resident
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.hints import parse_hint
from usmd.errors import InvalidArgument, InvalidHint, LimitExceeded, NotFound, OutOfRange

DATA = b"x" * PAGE


@pytest.fixture
def shell():
    return Shell(make_core(deny_budget=3, deny_budget_total=4))


@pytest.mark.parametrize("name", ["", "a" * 65, "new\nline", "\x00"])
def test_a_process_name_is_1_to_64_printable_characters(shell, name):
    with pytest.raises(InvalidArgument, match=r"process name .* allowed are 1 to 64 printable"):
        shell.attach(name)
    assert shell.attach("a" * 64) == 1


def test_a_swap_device_that_does_not_exist_is_refused_with_those_that_do(shell):
    with pytest.raises(InvalidHint, match=r"'far' does not exist; allowed are 0 \(swap0\)"):
        shell.attach(swap_device="far")
    process = shell.attach(swap_device="swap0")
    with pytest.raises(InvalidHint, match="'9' does not exist"):
        shell.hint(process, shell.map(process, 1), "SWAP=9")


def test_regions_lie_apart_with_a_guard_page_between():
    shell = Shell(make_core())
    process = shell.attach()
    one = shell.do(events.Map(process, 1, "one"))
    two = shell.do(events.Map(process, PAGE + 1, ""))
    assert (one.page_count, two.page_count, two.address - one.address) == (1, 2, 2 * PAGE)
    assert (one.name, one.length) == ("one", 1)


def test_limits_of_maps_are_errors_that_change_nothing():
    shell = Shell(make_core(max_regions=2, max_mapped=4 * PAGE))
    process = shell.attach()
    for length in (0, -1):
        with pytest.raises(InvalidArgument, match=f"region of {length} bytes"):
            shell.do(events.Map(process, length, ""))
    with pytest.raises(InvalidArgument, match="region name"):
        shell.do(events.Map(process, 1, "\t"))
    for length in (4 * PAGE + 1, 1 << 80):
        with pytest.raises(LimitExceeded, match="may map 64 B more"):
            shell.do(events.Map(process, length, ""))
    first = shell.map(process, 1)
    shell.map(process, 1)
    with pytest.raises(LimitExceeded, match="has 2 regions"):
        shell.map(process, 1)
    shell.do(events.Unmap(process, first))
    shell.map(process, 3)


def test_an_unmapped_region_gives_frames_and_slots_back_and_is_gone(shell):
    process = shell.attach()
    region = resident(shell, process, 6)
    shell.evict(process, region, 0, 3)
    shell.do(events.Unmap(process, region))
    state = shell.core.state
    assert (state.frames.free, state.swap.free, shell.slots) == (8, 64, {})
    assert state.processes[process].mapped == 0
    with pytest.raises(NotFound, match="no region 1 in this session"):
        shell.do(events.Unmap(process, region))


def test_a_detached_session_gives_all_back_when_its_io_has_ended():
    shell = Shell(make_core(), auto_io=False)
    process = shell.attach()
    region = resident(shell, process, 3)
    shell.evict(process, region)
    shell.complete_io()
    shell.fault(process, region, 0)  # one read and two writes are under way
    shell.do(events.Detach(process, "bye"))
    assert shell.ended[process] == commands.Ended(process, "bye", False)
    state = shell.core.state
    assert (state.frames.free, state.swap.free) == (7, 61)
    while shell.pending:
        shell.complete_io()
    assert (state.frames.free, state.swap.free, shell.slots) == (8, 64, {})
    with pytest.raises(NotFound):
        shell.map(process, 1)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 0), (0, -5), (0, 33), (32, None), (31, 2), (1 << 70, 1)])
def test_a_hint_outside_its_region_is_out_of_range(shell, offset, length):
    process = shell.attach()
    region = shell.map(process, 2)
    with pytest.raises(OutOfRange, match=f"offset {offset}, length {length}; region 1 has 32 bytes"):
        shell.do(events.SetHint(process, region, offset, length, None))


def test_a_hint_covers_every_page_it_touches(shell):
    process = shell.attach()
    region = shell.map(process, 4)
    answer = shell.do(events.SetHint(process, region, PAGE - 1, 2, None))
    assert (answer.hint_id, answer.first_page, answer.page_count, answer.over_budget) == (0, 0, 2, 0)


def test_deny_has_a_budget_per_process_and_in_all(shell):
    one, two = shell.attach(), shell.attach()
    first = resident(shell, one, 4)
    assert shell.hint(one, first, "EVICTION=DENY").over_budget == 1
    second = shell.map(two, 4)
    shell.hint(two, second, "EVICTION=DENY")
    for page in range(3):
        shell.put(two, second, page, DATA)
    processes = shell.core.state.processes
    assert (processes[one].unevictable, processes[two].unevictable, shell.core.state.unevictable) == (3, 1, 4)
    assert (processes[one].counters.deny_over_budget, processes[two].counters.deny_over_budget) == (1, 2)
    told = [(each.process_id, each.fields) for each in shell.notices if each.kind == "deny_over_budget"]
    assert told == [
        (one, {"refused": "1", "kept": "3"}),
        (two, {"refused": "1", "kept": "1"}),
        (two, {"refused": "2", "kept": "1"}),
    ]
    shell.evict(two, second, 1)
    assert [shell.state_of(second, page) for page in range(3)] == ["PRESENT", "SWAPPED", "SWAPPED"]


def test_a_page_under_deny_stays_and_may_go_when_the_hint_is_cleared(shell):
    process = shell.attach()
    region = resident(shell, process, 2)
    shell.hint(process, region, "EVICTION=DENY", 0, 1)
    shell.hint(process, region, "EVICTION=DENY; DONTNEED", 0, 1)
    other = shell.map(process, 20)
    for page in range(20):
        shell.put(process, other, page, DATA)
    assert shell.state_of(region, 0) == "PRESENT"
    shell.hint(process, region, "", 0, 1)
    for page in range(20):
        shell.get(process, other, page)
    assert shell.state_of(region, 0) == "SWAPPED"
    assert shell.core.state.unevictable == 0


def test_a_hint_with_a_ttl_ends_at_the_tick_after_it(shell):
    process = shell.attach()
    region = resident(shell, process, 2)
    shell.hint(process, region, "EVICTION=DENY; TTL=2")
    shell.hint(process, region, "PRIORITY=HIGH", 1, 1)
    shell.tick(1.9)
    assert shell.core.state.unevictable == 1
    shell.tick(0.1)
    assert shell.core.state.unevictable == 0
    assert [each.first for each in shell.core.state.regions[region].hints] == [1]
    shell.hint(process, region, "DONTNEED", 0, 1)
    assert shell.state_of(region, 0) == "SWAPPED"


def test_willneed_brings_in_what_free_frames_allow_and_evicts_nothing():
    shell = Shell(make_core(frames=6, low=2, high=2))
    process = shell.attach()
    region = resident(shell, process, 4)
    shell.evict(process, region)
    evictions = shell.counters()["evictions"]
    wide = shell.map(process, 9)
    shell.hint(process, region, "WILLNEED", 0, 3)
    shell.hint(process, wide, "WILLNEED")
    assert [shell.state_of(region, page) for page in range(4)] == ["PRESENT"] * 3 + ["SWAPPED"]
    assert shell.core.state.frames.free == 2
    counters = shell.counters()
    assert (counters["evictions"], counters["read_ahead"]) == (evictions, 4)


def test_deny_cancels_an_eviction_under_way():
    shell = Shell(make_core(), auto_io=False)
    process = shell.attach()
    region = resident(shell, process, 1)
    shell.hint(process, region, "DONTNEED")
    assert shell.state_of(region, 0) == "EVICTING"
    shell.hint(process, region, "EVICTION=DENY")
    assert (shell.state_of(region, 0), shell.core.state.unevictable) == ("PRESENT", 1)
    shell.complete_io()
    assert shell.load(process, region, 0) == DATA
    assert shell.core.state.swap.free == 64


def test_pages_go_to_the_device_of_the_hint_else_of_the_process():
    shell = Shell(make_core(devices=(("a", 4), ("b", 4), ("c", 4))))
    process = shell.attach(swap_device="c")
    region = resident(shell, process, 2)
    shell.hint(process, region, "SWAP=b; DONTNEED", 0, 1)
    shell.hint(process, region, "DONTNEED", 1, 1)
    assert [device.free for device in shell.core.state.swap.devices] == [4, 3, 3]


def test_advice_that_is_done_once_leaves_the_hint_in_force():
    shell = Shell(make_core(frames=4))
    process = shell.attach()
    region = shell.map(process, 2)
    shell.put(process, region, 0, DATA)
    shell.hint(process, region, "PRIORITY=HIGH")
    done = shell.hint(process, region, "DONTNEED", 0, 1)
    assert (done.hint_id, done.page_count) == (0, 1)
    assert shell.state_of(region, 0) == "SWAPPED"
    assert [each.hint.text for each in shell.core.state.regions[region].hints] == ["PRIORITY=HIGH"]
    assert shell.hint(process, region, "WILLNEED; PRIORITY=LOW").hint_id == 2
    assert shell.state_of(region, 0) == "PRESENT"


def test_the_number_of_hinted_ranges_is_bounded_also_by_cutting_holes():
    shell = Shell(make_core(max_hint_ranges=3))
    process = shell.attach()
    region = shell.map(process, 20)
    shell.hint(process, region, "PRIORITY=HIGH")
    shell.hint(process, region, "", 4, 1)
    shell.hint(process, region, "", 8, 1)
    with pytest.raises(LimitExceeded, match=r"3 ranges .* 1 more"):
        shell.hint(process, region, "", 12, 1)
    with pytest.raises(LimitExceeded, match=r"3 ranges .* 2 more"):
        shell.hint(process, region, "PRIORITY=LOW", 12, 1)
    shell.hint(process, region, "PRIORITY=LOW", 9, 11)  # replaces one
    shell.hint(process, region, "", 9, 11)  # makes none
    shell.hint(process, region, "DONTNEED", 0, 1)
    shell.hint(process, region, "PRIORITY=LOW", 12, 1)


def test_a_hint_has_at_most_16_free_form_keys():
    assert len(parse_hint(";".join(f"X_{number}" for number in range(16))).extra) == 16
    with pytest.raises(InvalidHint, match="16"):
        parse_hint(";".join(f"X_{number}" for number in range(17)))


def test_a_region_has_the_number_that_is_asked_for_while_it_is_free(shell):
    process = shell.attach("app")
    numbers = [shell.do(events.Map(process, PAGE, "", number)).region_id for number in (77, 77, 0, 1 << 31, 78)]
    assert numbers == [77, 1, 2, 3, 78]

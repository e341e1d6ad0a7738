"""What a policy sees of memory."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.hints import parse_hint
from usmd.core.move_rate import MoveRate
from usmd.core.region import page_key
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument


@pytest.fixture
def shell():
    return Shell(make_core(frames=6, hold_budget=1))


def view_of(shell, process):
    return MemoryView(shell.core.state, shell.core.state.processes[process])


def test_memory_in_numbers(shell):
    process, other = shell.attach(), shell.attach("other")
    for each, pages in ((process, 2), (other, 1)):
        region = shell.map(each, pages)
        for page in range(pages):
            shell.put(each, region, page, b"x" * PAGE)
    shell.now = 4.5
    shell.tick()
    view = view_of(shell, process)
    assert (view.page_size, view.frame_count, view.free_frames, view.resident_pages, view.now) == (PAGE, 6, 3, 2, 4.5)
    assert [(each.process_id, each.name, each.resident_pages) for each in view.processes()] == [
        (process, "app", 2), (other, "other", 1),
    ]  # fmt: skip


def test_frames_to_spare_and_those_that_will_be_free():
    shell = Shell(make_core(frames=6, low=2, high=2, reclaim_batch=1), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 6)
    view = view_of(shell, process)
    spare = []
    for page in range(4):
        shell.put(process, region, page, b"x" * PAGE)
        spare.append(view.spare_frames)
    assert spare == [4, 3, 2, 1]
    shell.evict(process, region, 0, 2)
    assert (view.leaving_frames, view.free_frames) == (2, 2)
    shell.complete_io()
    assert (view.leaving_frames, view.free_frames, view.spare_frames) == (1, 3, 2)
    for page in (4, 5, 0):
        shell.fault(process, region, page)
    assert (view.free_frames, view.spare_frames) == (0, 0)


def test_a_frame_is_evictable_when_it_is_mine_and_neither_unevictable_nor_pinned(shell):
    process, other = shell.attach(), shell.attach()
    region, foreign = shell.map(process, 3), shell.map(other, 1)
    shell.hint(process, region, "EVICTION=DENY", 1, 1)
    for page in range(2):
        shell.put(process, region, page, b"x" * PAGE)
    shell.put(other, foreign, 0, b"x" * PAGE)
    shell.fault(process, region, 2)
    view = view_of(shell, process)
    assert [view.evictable(pfn) for pfn in range(5)] == [True, False, False, False, False]


def test_what_is_known_of_a_page(shell):
    process = shell.attach()
    region = shell.map(process, 2)
    hint = shell.hint(process, region, "PRIORITY=HIGH; X_KIND=index", 0, 1)
    for page in range(2):
        shell.put(process, region, page, b"x" * PAGE)
    view = view_of(shell, process)
    assert [view.priority_name(pfn) for pfn in (0, 1)] == ["HIGH", "NORMAL"]
    assert (view.hint(0).number, view.hint(0).hint.extra, view.hint(1)) == (hint.hint_id, {"X_KIND": "index"}, None)
    assert (view.page(1), view.dirty(1)) == (page_key(region, 1), True)
    shell.evict(process, region, 1, 1)
    shell.get(process, region, 1)
    assert not view.dirty(1)


def test_what_is_kept_is_no_part_of_the_cache(shell):
    process = shell.attach()
    region = shell.map(process, 4)
    for page in range(4):
        shell.put(process, region, page, b"x" * PAGE)
    view = view_of(shell, process)
    assert view.capacity == 6
    shell.hint(process, region, "EVICTION=DENY", 0, 3)
    assert view.capacity == 3
    shell.do(events.Pin(process, region, 0, 1))
    assert view.capacity == 3
    shell.hint(process, region, "EVICTION=ALLOW", 0, 3)
    assert view.capacity == 5


def test_what_is_given_up_goes_once_and_what_has_gone_meanwhile_is_no_error(shell):
    process = shell.attach()
    region = shell.map(process, 3)
    for page in range(3):
        shell.put(process, region, page, b"x" * PAGE)
    owner = shell.core.state.processes[process]
    view = view_of(shell, process)
    frames = [entry - 1 for _, entry in owner.regions[region].table.entries()]
    for pfn in (frames[0], frames[0], frames[1]):  # as a policy does that hears of many touches in one event
        view.give_up(pfn)
    shell.do(events.SetHint(process, region, PAGE, PAGE, parse_hint("DONTNEED")))  # goes before the other is looked at
    assert owner.regions[region].resident == 1
    assert owner.counters.policy_errors == 0
    view.give_up(99)
    shell.tick()
    assert owner.counters.policy_errors == 1


def test_processes_share_the_frames_above_the_high_watermark_by_what_each_has():
    shell = Shell(make_core(frames=20, low=1, high=2))
    one = shell.attach()
    view = view_of(shell, one)
    assert view.capacity == 18, "nobody else is there"
    two = shell.attach()
    other = view_of(shell, two)
    assert (view.capacity, other.capacity) == (18, 18), "nobody has anything"
    regions = [shell.map(each, 20) for each in (one, two)]
    for page in range(6):
        shell.put(one, regions[0], page, b"x" * PAGE)
    assert (view.capacity, other.capacity) == (18, 1), "each can have one page at least"
    for page in range(2):
        shell.put(two, regions[1], page, b"x" * PAGE)
    assert (view.capacity, other.capacity) == (18 * 6 // 8, 18 * 2 // 8)
    shell.hint(one, regions[0], "EVICTION=DENY")
    assert view.capacity == 18 * 6 // 8 - 6
    shell.do(events.Detach(one, "bye"))
    assert other.capacity == 18


def test_nobody_knows_the_future_of_a_live_memory(shell):
    view = view_of(shell, shell.attach())
    with pytest.raises(InvalidArgument, match="no known future"):
        view.next_use(1)
    shell.core.state.future = lambda page: page + 1
    assert view.next_use(page_key(1, 5)) == page_key(1, 6)


def test_the_frame_of_a_page_is_told_for_pages_of_the_process_only(shell):
    process, other = shell.attach(), shell.attach()
    region, foreign = shell.map(process, 3), shell.map(other, 1)
    shell.put(process, region, 1, b"x" * PAGE)
    shell.put(other, foreign, 0, b"x" * PAGE)
    view = view_of(shell, process)
    assert [view.frame(region, page) for page in (-1, 0, 1, 2, 3)] == [None, None, 0, None, None]
    assert [view.frame(each, 0) for each in (foreign, 99)] == [None, None]
    shell.evict(process, region)
    assert view.frame(region, 1) is None


def test_what_is_given_up_may_be_pinned_and_may_not_be_anothers_or_unevictable():
    shell = Shell(make_core(frames=6, hold_budget=2, hold_seconds=100.0))
    process, other = shell.attach(evict="lru"), shell.attach()
    region, foreign = shell.map(process, 4), shell.map(other, 1)
    shell.hint(process, region, "EVICTION=DENY", 1, 1)
    for page in (0, 1):
        shell.put(process, region, page, b"x" * PAGE)
    shell.put(other, foreign, 0, b"x" * PAGE)
    shell.fault(process, region, 2)  # pinned for a moment
    view = view_of(shell, process)
    counters = shell.core.state.processes[process].counters
    view.give_up(view.frame(region, 2))
    shell.tick()
    assert (counters.policy_errors, shell.state_of(region, 2)) == (0, "PRESENT")
    for pfn, wrong in (
        (view.frame(region, 1), "unevictable or pinned"),
        (view_of(shell, other).frame(foreign, 0), "not the process's"),
        (-1, "no frame"),
    ):
        view.give_up(pfn)
        errors = counters.policy_errors
        shell.tick()
        assert counters.policy_errors == errors + 1
        told = [each.message for each in shell.notices if each.kind == "policy_error"]
        assert errors > 1 or wrong in told[-1]
    assert [shell.state_of(each, page) for each, page in ((region, 1), (foreign, 0))] == ["PRESENT", "PRESENT"]
    view.give_up(view.frame(region, 0))
    shell.tick()
    assert shell.state_of(region, 0) == "SWAPPED"
    record = shell.core.state.processes[process].evictions[-1]
    assert record.policy == "lru"
    assert record.reason.startswith("least recently used of its process")


def test_a_dirty_page_is_given_up_in_vain_while_no_slot_is_free():
    shell = Shell(make_core(frames=4, devices=(("swap0", 1),)))
    process = shell.attach()
    region = shell.map(process, 3)
    for page in range(2):
        shell.put(process, region, page, b"x" * PAGE)
    view = view_of(shell, process)
    for page in range(2):
        view.give_up(view.frame(region, page))
    shell.tick()
    assert [shell.state_of(region, page) for page in range(2)] == ["SWAPPED", "PRESENT"]
    assert shell.counters()["policy_errors"] == 0


def test_what_a_process_gave_up_before_it_ended_is_forgotten(shell):
    process, other = shell.attach(), shell.attach()
    region = shell.map(process, 1)
    shell.put(process, region, 0, b"x" * PAGE)
    view_of(shell, process).give_up(0)
    shell.do(events.Detach(process, "bye"))
    assert shell.core.state.forced_victims == []
    foreign = shell.map(other, 1)
    shell.put(other, foreign, 0, b"x" * PAGE)
    assert shell.state_of(foreign, 0) == "PRESENT"
    assert shell.counters()["policy_errors"] == 0


def test_frames_are_ample_above_the_high_watermark_and_within_the_budget_of_the_process():
    shell = Shell(make_core(frames=64, low=4, high=16))
    process, poor = shell.attach(), shell.attach(memory_max=10)
    views = [MemoryView(shell.core.state, shell.core.state.processes[each]) for each in (process, poor)]
    assert [view.ample_frames for view in views] == [48, 10]
    region = shell.map(process, 60)
    shell.hint(process, region, "WILLNEED")
    assert [view.ample_frames for view in views] == [0, 0]
    assert views[0].missing_pages(region) == 60 - shell.core.state.regions[region].resident
    assert views[0].came_along(region) == (0, 0)
    shell.load(process, region, 0)
    assert views[0].came_along(region) == (1, 0)
    assert views[1].came_along(region) == (0, 0), "it is another's"
    assert views[1].missing_pages(region) == 0


def test_swap_devices_as_tiers_and_since_when_a_page_is_stored():
    shell = Shell(make_core(frames=6, devices=(("fast", 4), ("slow", 8))))
    process, other = shell.attach(), shell.attach("other")
    region, theirs = shell.map(process, 2), shell.map(other, 1)
    for each, number in ((process, region), (other, theirs)):
        shell.put(each, number, 0, b"x" * PAGE)
    shell.now = 4.5
    shell.evict(process, region, 0, 1)
    assert view_of(shell, process).stored_since(page_key(region, 0)) == 4.5
    shell.now = 5.0
    shell.evict(other, theirs, 0, 1)
    view = view_of(shell, process)
    fast, slow = view.swap_tiers()
    assert (fast.number, fast.name, fast.used, fast.share, fast.takes) == (0, "fast", 2, 0.5, True)
    assert (slow.number, slow.used, slow.share) == (1, 0, 0.0)
    assert view.stored_since(page_key(region, 0)) == 4.5
    assert [view.stored_since(page_key(number, page)) for number, page in ((region, 1), (region, 9), (theirs, 0))] == [
        None, None, None,
    ]  # fmt: skip


def test_pages_that_may_be_moved_are_bounded_by_spare_frames_and_by_the_rate():
    shell = Shell(make_core(frames=6, low=2, high=2, demotion_rate=10 * PAGE))
    view = view_of(shell, shell.attach())
    assert view.movable_pages == 0
    shell.now = 0.2
    shell.tick()
    assert view.movable_pages == 2
    shell.now = 60.0
    shell.tick()
    assert view.movable_pages == 2
    shell.core.state.moves = MoveRate(0)
    assert view.movable_pages == view.spare_frames == 5


def test_the_share_that_a_device_holds_is_what_the_shell_says():
    shell = Shell(make_core(devices=(("zip", 64),)))
    shell.do(events.Tick([(0, 0.75)]))
    (tier,) = view_of(shell, shell.attach()).swap_tiers()
    assert (tier.share, tier.used) == (0.75, 0)

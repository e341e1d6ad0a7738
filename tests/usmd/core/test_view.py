"""What a policy sees of memory."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.hints import parse_hint
from usmd.core.region import page_key
from usmd.core.view import MemoryView
from usmd.errors import UnknownPolicy
from usmd.policies import registry


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


def test_a_frame_is_evictable_when_it_is_mine_and_neither_denied_nor_pinned(shell):
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


def test_policies_can_be_built_upon_by_name_and_kind(shell):
    view = view_of(shell, shell.attach())
    assert type(view.evict_policy("lru")) is registry.find("evict", "lru")[0]
    assert type(view.alloc_policy("first_fit")) is registry.find("alloc", "first_fit")[0]
    assert type(view.cond_policy("trim")) is registry.find("cond", "trim")[0]
    with pytest.raises(UnknownPolicy, match="first_fit"):
        view.evict_policy("first_fit")


def test_a_maker_that_gives_another_kind_is_found_out(shell):
    view = view_of(shell, shell.attach())
    shell.core.state.make_policy = lambda kind, specification, memory: object()
    with pytest.raises(TypeError, match="lru is no evict policy"):
        view.evict_policy("lru")
    with pytest.raises(TypeError, match="x is no alloc policy"):
        view.alloc_policy("x")
    with pytest.raises(TypeError, match="x is no cond policy"):
        view.cond_policy("x")


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

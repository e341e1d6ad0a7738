"""hint_aware: LOW before NORMAL before HIGH, the fallback within, DENY never."""

import pytest

from tests.support.access_traces import SmallMemory, scans_and_hot_set, zipf
from tests.support.fake_view import fake_view
from tests.support.made_policies import Quiet
from tests.support.shell import PAGE, Shell, make_core
from usmd.policies import registry
from usmd.policies.evict.hint_aware import HintAware


@pytest.fixture
def shell():
    return Shell(make_core(frames=4))


def put(shell, process, region, pages):
    for page in pages:
        shell.put(process, region, page, b"x" * PAGE)


def test_low_goes_first_then_normal_then_high(shell):
    process = shell.attach(evict="hint_aware")
    region = shell.map(process, 9)
    shell.hint(process, region, "PRIORITY=HIGH", 0, 1)
    shell.hint(process, region, "PRIORITY=LOW", 2, 1)
    shell.hint(process, region, "EVICTION=DENY; PRIORITY=LOW", 3, 1)
    put(shell, process, region, range(4))
    gone = []
    for page in range(4, 7):
        shell.hint(process, region, "EVICTION=DENY", page, 1)
        put(shell, process, region, [page])
        gone.append([each for each in range(4) if shell.state_of(region, each) == "SWAPPED"])
    assert gone == [[2], [1, 2], [0, 1, 2]]


@pytest.mark.parametrize(("fallback", "gone"), [("fifo", 0), ("lru", 1)])
def test_the_fallback_decides_within_a_priority(shell, fallback, gone):
    process = shell.attach(evict=f"hint_aware(fallback={fallback})")
    region = shell.map(process, 5)
    put(shell, process, region, range(4))
    shell.get(process, region, 0)
    put(shell, process, region, [4])
    assert [page for page in range(4) if shell.state_of(region, page) == "SWAPPED"] == [gone]


def test_a_hint_on_resident_pages_changes_their_order(shell):
    process = shell.attach(evict="hint_aware")
    region = shell.map(process, 5)
    put(shell, process, region, range(4))
    shell.hint(process, region, "PRIORITY=LOW", 3, 1)
    put(shell, process, region, [4])
    assert shell.state_of(region, 3) == "SWAPPED"
    assert shell.core.state.processes[process].evictions[-1].reason == (
        "PRIORITY=LOW, EVICTION=ALLOW: least recently used of its process; last fault 0.0 s ago"
    )


def test_the_index_stays_and_the_cache_goes():
    shell = Shell(make_core(frames=6))
    process = shell.attach(evict="hint_aware")
    index, cache = shell.map(process, 3), shell.map(process, 20)
    shell.hint(process, index, "PRIORITY=HIGH; EVICTION=DENY")
    shell.hint(process, cache, "PRIORITY=LOW; EVICTION=ALLOW")
    put(shell, process, index, range(3))
    put(shell, process, cache, range(20))
    assert [shell.state_of(index, page) for page in range(3)] == ["PRESENT"] * 3


def test_the_fallback_hears_of_hints_and_may_choose_the_device():
    heard = []

    class Fallback(Quiet):
        def hint_changed(self, pfn, before):
            heard.append((pfn, before))

        def swap_device(self, pfn):
            return pfn + 1

    fallback = Fallback(fake_view())
    policy = HintAware(fake_view(make=lambda kind, name, elsewhere: fallback, priority=lambda pfn: 1))
    policy.hint_changed(4, 1)
    assert (heard, policy.swap_device(4)) == ([(4, 1)], 5)


def test_a_class_is_asked_for_victims_when_those_of_lower_priority_have_gone():
    asked = []

    class Fallback(Quiet):
        def choose_victims(self):
            asked.append(self)
            return [len(asked)]

    made = [Fallback(fake_view()) for _ in range(3)]
    left = iter(made)
    policy = HintAware(fake_view(make=lambda kind, name, elsewhere: next(left)))
    victims = iter(policy.choose_victims())
    assert (next(victims), asked) == (1, made[:1])
    assert list(victims) == [2, 3]


@pytest.mark.parametrize("fallback", [each for each in sorted(registry.TABLES["evict"]) if each != "belady"])
def test_without_hints_it_is_its_fallback(fallback):
    trace = [*scans_and_hot_set(64, 1500, hot=10, scan=15).tolist(), *zipf(64, 1500, 0.9).tolist()]
    seen = []
    for evict in (fallback, f"hint_aware(fallback={fallback})"):
        memory = SmallMemory(evict, 21)
        memory.touch(*trace)
        seen.append((memory.misses, memory.resident))
    assert seen[0] == seen[1]


def test_a_page_is_remembered_by_the_class_that_it_left_and_new_in_another():
    memory = SmallMemory("hint_aware(fallback=two_q)", 8)
    memory.touch(*range(10))
    low, normal, _ = memory.policy.classes
    memory.hint("PRIORITY=LOW", 1)
    memory.touch(0, 1)
    assert memory.pages(normal.a_main) == [0]
    assert memory.pages(low.a_in) == [1]


def test_a_change_within_a_priority_moves_nothing():
    memory = SmallMemory("hint_aware(fallback=fifo)", 4)
    memory.touch(0, 1, 2, 3)
    memory.hint("PRIORITY=NORMAL; X_KIND=index", 0)
    assert memory.pages(memory.policy.choose_victims()) == [0, 1, 2, 3]
    memory.hint("PRIORITY=LOW", 2)
    memory.hint("PRIORITY=LOW", 0)
    assert memory.pages(memory.policy.choose_victims()) == [2, 0, 1, 3]
    memory.hint("", 0, 4)
    assert memory.pages(memory.policy.choose_victims()) == [1, 3, 0, 2]


def test_it_may_be_its_own_fallback():
    memory = SmallMemory("hint_aware(fallback=hint_aware(fallback=lru))", 3)
    memory.hint("PRIORITY=LOW", 2)
    memory.touch(0, 1, 2)
    assert memory.touch(3) == [2]
    assert memory.reason(0) == (
        "PRIORITY=NORMAL, EVICTION=ALLOW: PRIORITY=NORMAL, EVICTION=ALLOW: least recently used of its process"
    )


def test_each_priority_has_the_memory_that_higher_ones_leave_for_the_size_of_its_cache():
    shell = Shell(make_core(frames=10))
    process = shell.attach(evict="hint_aware(fallback=two_q)")
    region = shell.map(process, 10)
    shell.hint(process, region, "PRIORITY=HIGH", 0, 3)
    shell.hint(process, region, "EVICTION=DENY", 9, 1)
    put(shell, process, region, range(10))
    low, normal, high = (each.memory for each in policy_of(shell, process).classes)
    assert (low.capacity, normal.capacity, high.capacity) == (1, 6, 9)
    shell.hint(process, region, "PRIORITY=LOW", 0, 2)
    assert (low.capacity, normal.capacity, high.capacity) == (2, 8, 9)
    shell.evict(process, region, 5, 2)
    assert (low.capacity, normal.capacity, high.capacity) == (4, 8, 9), "two frames are free for any of them"


def policy_of(shell, process):
    return shell.core.state.processes[process].policies._evict

"""hint_aware: LOW before NORMAL before HIGH, the fallback within, DENY never."""

from types import SimpleNamespace

import pytest

from tests.support.shell import PAGE, Shell, make_core
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
    fallback = SimpleNamespace(
        hint_changed=lambda pfn, before: heard.append((pfn, before)), swap_device=lambda pfn: pfn + 1
    )
    policy = HintAware(SimpleNamespace(evict_policy=lambda name: fallback, priority=lambda pfn: 1))
    policy.hint_changed(4, 1)
    assert (heard, policy.swap_device(4)) == ([(4, 1)], 5)

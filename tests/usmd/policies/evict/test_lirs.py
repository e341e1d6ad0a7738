"""lirs: pages whose last two touches were close together stay; the others pass a short queue."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.access_traces import SmallMemory, loop
from tests.support.examples import examples
from usmd.errors import InvalidArgument


def lir(memory):
    policy = memory.policy
    return sorted(memory.pages(pfn for pfn in policy.stack.values() if pfn >= 0 and policy.is_lir[pfn]))


def stack(memory):
    """Pages from the bottom up."""
    return [key & 63 for key in memory.policy.stack]


def queue(memory):
    return memory.pages(memory.policy.queue)


def filled(evict="lirs(paper=true)", frames=4):
    """All frames but one are of LIR pages, the last one is the queue's."""
    memory = SmallMemory(evict, frames)
    memory.touch(*range(frames))
    return memory


def test_memory_is_of_lir_pages_but_for_a_short_queue():
    memory = filled()
    assert (lir(memory), queue(memory), stack(memory)) == ([0, 1, 2], [3], [0, 1, 2, 3])
    memory = filled("lirs(hir=0.4)", frames=10)
    assert (lir(memory), queue(memory)) == ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9])


@pytest.mark.parametrize("paper", ["true", "false"])
def test_a_loop_over_more_pages_than_frames_keeps_most_of_its_lir_pages(paper):
    trace = loop(12, 12 * 50).tolist()
    memory = SmallMemory(f"lirs(paper={paper})", 10)
    memory.touch(*trace)
    assert memory.misses <= 12 + 49 * 4
    lru = SmallMemory("lru", 10)
    lru.touch(*trace)
    assert lru.misses == len(trace), "where LRU has no hit at all"


def test_a_scan_passes_the_queue():
    memory = filled()
    gone = [memory.touch(page) for page in range(10, 30)]
    assert gone == [[3], *([page] for page in range(10, 29))]
    assert lir(memory) == [0, 1, 2]


def test_a_page_that_the_stack_knows_becomes_lir_in_the_place_of_the_oldest():
    memory = filled()
    assert memory.touch(4) == [3]
    assert memory.touch(3) == [4], "a miss, but its last touch was not long ago"
    assert (lir(memory), queue(memory)) == ([1, 2, 3], [0])


def test_a_page_in_the_queue_that_the_stack_knows_becomes_lir_by_a_touch():
    memory = filled()
    memory.touch(3)
    assert (lir(memory), queue(memory), stack(memory)) == ([1, 2, 3], [0], [1, 2, 3])


def test_a_page_in_the_queue_that_the_stack_does_not_know_is_the_most_recent_of_both():
    memory = filled("lirs(paper=true, hir=0.4)", frames=5)  # 3 LIR, two in the queue
    memory.touch(0, 1, 2)
    assert stack(memory) == [0, 1, 2], "3 and 4 lay below the oldest LIR page"
    memory.touch(3)
    assert (lir(memory), queue(memory), stack(memory)) == ([0, 1, 2], [4, 3], [0, 1, 2, 3])
    memory.touch(3)
    assert (lir(memory), queue(memory)) == ([1, 2, 3], [4, 0])


def test_as_in_libcachesim_such_a_touch_demotes_a_lir_page_and_the_queue_has_no_room_for_it():
    memory = filled("lirs(hir=0.4)", frames=5)
    memory.touch(0, 1, 2)
    assert memory.touch(3) == [4]
    assert (lir(memory), queue(memory), stack(memory)) == ([1, 2], [3, 0], [1, 2, 3])
    assert len(memory.resident) == 4


def test_the_page_that_is_touched_is_not_given_up_itself():
    memory = filled("lirs", frames=4)
    memory.touch(0, 1, 2)
    memory.touch(3)
    assert 3 in memory.resident


def test_a_touch_of_the_oldest_lir_page_prunes_the_stack():
    memory = filled()
    memory.touch(10, 11, 12)
    assert stack(memory) == [0, 1, 2, 3, 10, 11, 12]
    memory.touch(0)
    assert stack(memory) == [1, 2, 3, 10, 11, 12, 0]
    memory.touch(1, 2)
    assert stack(memory) == [0, 1, 2]
    assert not memory.policy.gone


def test_the_stack_has_twice_as_many_entries_as_memory_frames_at_the_most():
    memory = filled()
    memory.touch(*range(10, 60))
    assert len(stack(memory)) == 8
    assert stack(memory)[:3] == [0, 1, 2]
    assert stack(memory)[-1] == 59


def test_a_lir_page_that_leaves_makes_room_for_another():
    memory = filled()
    memory.hint("DONTNEED", 0)
    assert (lir(memory), stack(memory)) == ([1, 2], [1, 2, 3])
    memory.touch(20)
    assert (lir(memory), queue(memory)) == ([1, 2, 20], [3])


def test_an_unevictable_page_takes_no_part_and_its_frame_is_not_counted():
    memory = filled()
    memory.hint("EVICTION=DENY", 0)
    assert (lir(memory), stack(memory)) == ([1, 2], [1, 2, 3])
    assert memory.touch(20) == [3]
    assert (lir(memory), queue(memory)) == ([1, 2], [20])
    memory.hint("", 0)
    assert sorted(memory.pages(memory.policy.choose_victims())) == memory.resident


@examples(60)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from([None, None, "EVICTION=DENY", ""])), max_size=120),
    st.integers(1, 8),
    st.booleans(),
)
def test_stack_queue_and_kinds_agree(steps, frames, paper):
    memory = SmallMemory(f"lirs(paper={str(paper).lower()}, hir=0.3)", frames, deny_budget=2)
    policy = memory.policy
    for page, hint in steps:
        memory.touch(page) if hint is None else memory.hint(hint, page)
        known = [pfn for pfn in policy.stack.values() if pfn >= 0]
        assert policy.lir_count == sum(policy.is_lir) == len(lir(memory)) <= max(frames - 1, 1)
        assert not any(policy.is_lir[pfn] for pfn in policy.queue)
        assert {key for key, pfn in policy.stack.items() if pfn < 0} == set(policy.gone)
        assert all(policy.memory.page(pfn) == key for key, pfn in policy.stack.items() if pfn >= 0)
        assert set(known) | set(policy.queue) == {
            memory.frame(page) for page in memory.resident if not memory.core.state.frames.flags[memory.frame(page)] & 2
        }
        assert len(policy.stack) <= 2 * frames
        if not any(hint for _, hint in steps) and len(policy.stack) > 1:  # no LIR page left by another way
            assert policy.is_lir[next(iter(policy.stack.values()))]


@pytest.mark.parametrize("hir", ["0", "1", "1.5", "-0.1"])
def test_the_queue_is_a_share_of_memory(hir):
    with pytest.raises(InvalidArgument, match="allowed is a share between 0 and 1"):
        SmallMemory(f"lirs(hir={hir})", 8)


def test_its_reasons():
    memory = filled()
    assert memory.reason(0) == "oldest of the LIR pages"
    assert memory.reason(3) == "high inter-reference recency, first of its queue"

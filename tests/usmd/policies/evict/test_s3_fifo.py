"""s3_fifo: a small queue that most pages leave soon, a main one, and the memory of what left the small one."""

import pytest

from tests.support.access_traces import SmallMemory
from usmd.errors import InvalidArgument


def queues(memory):
    return memory.pages(memory.policy.small), memory.pages(memory.policy.main)


def filled(evict="s3_fifo(small=0.25)"):
    """Eight pages: the small queue has two frames, and the main one six."""
    memory = SmallMemory(evict, 8)
    memory.touch(*range(8))
    return memory


def test_memory_fills_as_it_will_be_divided():
    assert queues(filled()) == ([0, 1], [2, 3, 4, 5, 6, 7])
    assert queues(filled("s3_fifo(small=0.5)")) == ([0, 1, 2, 3], [4, 5, 6, 7])


def test_pages_that_are_touched_once_pass_the_small_queue_and_disturb_nobody():
    memory = filled()
    gone = memory.touch(*range(8, 40))
    assert gone == [0, 1]
    assert queues(memory) == ([38, 39], [2, 3, 4, 5, 6, 7])


def test_a_page_that_is_missed_soon_after_it_left_goes_to_the_main_queue():
    memory = filled()
    memory.touch(8, 9)
    assert memory.touch(0) == [8]
    assert queues(memory) == ([9], [2, 3, 4, 5, 6, 7, 0])
    assert memory.touch(10) == [2], "the main queue has more than its share now"
    assert queues(memory) == ([9, 10], [3, 4, 5, 6, 7, 0])


def test_a_page_that_is_missed_long_after_it_left_is_new():
    memory = filled()
    memory.touch(*range(8, 17))
    assert len(memory.policy.ghost.pages) == 7, "the ghosts of nine tenths of eight frames"
    memory.touch(0)
    assert memory.pages(memory.policy.small)[-1] == 0


@pytest.mark.parametrize(("ghosts", "remembered"), [(0, 0), (0.25, 2), (2, 16)])
def test_how_many_are_remembered(ghosts, remembered):
    memory = filled(f"s3_fifo(small=0.25, ghost={ghosts})")
    memory.touch(*range(8, 40))
    assert [key & 63 for key in memory.policy.ghost.pages] == list(range(38 - remembered, 38))


@pytest.mark.parametrize(("promote_at", "touches", "stays"), [(1, 1, True), (2, 1, False), (2, 2, True), (3, 2, False)])
def test_a_page_with_enough_touches_moves_from_the_small_queue_to_the_main_one(promote_at, touches, stays):
    memory = filled(f"s3_fifo(small=0.25, promote_at={promote_at})")
    memory.touch(*[0] * touches)
    assert memory.touch(8) == [1 if stays else 0]
    assert (0 in queues(memory)[1]) == stays


def test_a_page_of_the_main_queue_has_as_many_rounds_as_touches_up_to_three():
    memory = filled()
    memory.touch(*[2] * 9)
    policy = memory.policy
    rounds = 0
    for page in range(8, 60):
        memory.touch(page)
        oldest = next(iter(policy.ghost.pages)) & 63
        memory.touch(oldest)  # it comes back, to the main queue, which gives a page for it
        if 2 not in memory.resident:
            break
        rounds = max(rounds, 3 - policy.touches[memory.frame(2)])
    assert rounds == 3
    assert 2 not in memory.resident


@pytest.mark.parametrize("parameters", ["small=0", "small=1", "ghost=-0.1", "ghost=17", "promote_at=0", "promote_at=4"])
def test_parameters_out_of_range(parameters):
    with pytest.raises(InvalidArgument, match="small between 0 and 1, ghost 0 to 16, and promote_at 1 to 3"):
        SmallMemory(f"s3_fifo({parameters})", 8)


def test_its_reasons():
    memory = filled()
    assert memory.reason(0) == "touched fewer than 2 times in the small queue"
    assert memory.reason(5) == "not touched since it last came to the head of the main queue"

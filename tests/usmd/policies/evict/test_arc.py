"""arc: pages touched once and pages touched again share memory, and misses on what either lost move the border."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.access_traces import SmallMemory
from tests.support.examples import examples
from usmd.core.region import page_key


def lists(memory):
    policy = memory.policy
    return memory.pages(policy.t1), memory.pages(policy.t2)


def remembered(memory):
    policy = memory.policy
    return [key & 63 for key in policy.b1.pages], [key & 63 for key in policy.b2.pages]


def divided():
    """Two pages touched again, two touched once, and two of those remembered."""
    memory = SmallMemory("arc", 4)
    memory.touch(0, 1, 0, 1, 2, 3, 4, 5)
    assert lists(memory) == ([4, 5], [0, 1])
    assert remembered(memory) == ([2, 3], [])
    return memory


def test_a_scan_goes_by_the_pages_that_were_touched_again():
    memory = divided()
    memory.touch(*range(10, 50))
    assert lists(memory) == ([48, 49], [0, 1])
    assert remembered(memory) == ([46, 47], [])


def test_a_miss_on_what_was_touched_once_gives_such_pages_more_room():
    memory = divided()
    assert memory.policy.target == 0
    assert memory.touch(2) == [4]
    assert (memory.policy.target, lists(memory)) == (1, ([5], [0, 1, 2]))
    assert memory.touch(3) == [0], "t1 has no more than its target"
    assert (memory.policy.target, lists(memory)) == (2, ([5], [1, 2, 3]))
    assert remembered(memory) == ([4], [0])


def test_a_miss_on_what_was_touched_again_takes_the_room_back():
    memory = divided()
    memory.touch(2, 3)
    assert memory.touch(0) == [5], "t1 is as long as its target, and gives for a page that was touched again"
    assert (memory.policy.target, lists(memory)) == (1, ([], [1, 2, 3, 0]))
    assert remembered(memory) == ([4, 5], [])


def test_a_miss_on_the_shorter_memory_moves_the_border_further():
    memory = divided()
    policy = memory.policy
    policy.b2.pages.update(dict.fromkeys(page_key(1, page) for page in range(50, 55)))
    memory.touch(2)
    assert policy.target == 5 / 2
    policy.target = 4.0
    del policy.b2.pages[page_key(1, 51)], policy.b2.pages[page_key(1, 52)], policy.b2.pages[page_key(1, 53)]
    policy.b1.pages.update(dict.fromkeys(page_key(1, page) for page in range(40, 43)))
    shorter, longer = len(policy.b2.pages), len(policy.b1.pages)
    assert shorter < longer
    memory.touch(next(iter(policy.b2.pages)) & 63)
    assert policy.target == 4 - longer / shorter


def test_a_page_that_comes_back_counts_as_touched_again_and_a_forgotten_one_does_not():
    memory = divided()
    memory.touch(2)
    assert 2 in lists(memory)[1]
    memory = divided()
    memory.touch(*range(10, 20))
    memory.touch(2)
    assert 2 in lists(memory)[0]


def test_where_t1_fills_memory_what_it_evicts_is_not_remembered():
    memory = SmallMemory("arc", 4)
    memory.touch(*range(9))
    assert lists(memory) == ([5, 6, 7, 8], [])
    assert remembered(memory) == ([], [])


@examples(60)
@given(st.lists(st.integers(0, 20), max_size=150), st.integers(1, 8))
def test_it_remembers_no_more_than_the_paper_says(trace, frames):
    memory = SmallMemory("arc", frames)
    policy = memory.policy
    for page in trace:
        memory.touch(page)
        t1, t2, b1, b2 = (len(each) for each in (policy.t1, policy.t2, policy.b1.pages, policy.b2.pages))
        assert t1 + t2 <= frames
        assert t1 + b1 <= frames
        assert t1 + t2 + b1 + b2 <= 2 * frames
        assert 0 <= policy.target <= frames
        assert not b1 + b2 or t1 + t2 == frames
        assert not policy.returning.pages
        assert not set(policy.b1.pages) & set(policy.b2.pages)


def test_its_reasons():
    memory = divided()
    memory.touch(2)
    assert memory.reason(5) == "least recently used of the 1 pages touched once (target 1)"
    assert memory.reason(0) == "least recently used of the 3 pages touched again"

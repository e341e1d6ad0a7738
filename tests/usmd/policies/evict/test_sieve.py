"""sieve: a spared page keeps its place, and the hand goes on from where it was."""

from tests.support.access_traces import SmallMemory


def filled():
    """Pages 0 and 1 are old and popular."""
    memory = SmallMemory("sieve", 4)
    memory.touch(0, 1, 2, 3, 0, 1)
    return memory


def test_the_hand_sifts_out_new_pages_before_it_comes_back_to_the_old():
    memory = filled()
    assert [memory.touch(page) for page in (4, 5, 6)] == [[2], [3], [4]]
    assert memory.pages(memory.policy.queue) == [0, 1, 5, 6], "they kept their places"
    clock = SmallMemory("clock", 4)
    clock.touch(0, 1, 2, 3, 0, 1)
    assert [clock.touch(page) for page in (4, 5, 6)] == [[2], [3], [0]]


def test_past_the_youngest_the_hand_comes_back_to_the_oldest():
    memory = filled()
    memory.touch(2, 3)
    assert memory.touch(4) == [0], "all had been touched, and the hand is round"
    memory.touch(2, 3, 4)
    assert memory.touch(5) == [1]
    assert memory.pages([memory.policy.hand]) == [2]
    assert memory.touch(6) == [5], "spared 2, 3 and 4, which lie before it"


def test_where_the_page_under_the_hand_leaves_the_next_is_under_it():
    memory = filled()
    memory.touch(4)
    assert memory.pages([memory.policy.hand]) == [3]
    memory.hint("EVICTION=DENY", 3)
    assert memory.touch(5) == [4]


def test_where_the_youngest_leaves_from_under_the_hand_it_is_at_the_oldest():
    memory = filled()
    memory.touch(4, 5)
    assert memory.pages([memory.policy.hand]) == [4]
    memory.hint("EVICTION=DENY", 4, 2)
    assert memory.policy.hand is None
    assert memory.touch(6) == [0], "its visit was used up by the first round"


def test_a_spared_page_is_named_after_those_that_were_never_touched():
    memory = filled()
    assert memory.pages(memory.policy.choose_victims()) == [2, 3, 0, 1]


def test_its_reason():
    assert filled().reason(2) == "not touched since the hand last passed it"

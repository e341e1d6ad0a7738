"""lfu: fewest touches first, and of equals the one that has had as many for longest."""

from tests.support.access_traces import SmallMemory, zipf


def test_the_page_with_fewest_touches_goes_however_recent_they_were():
    memory = SmallMemory("lfu", 3)
    memory.touch(0, 0, 0, 1, 1, 2)
    assert memory.touch(3) == [2]
    assert memory.touch(4) == [3], "a new page has one touch"
    memory.touch(4, 4, 4)
    assert memory.touch(5) == [1]


def test_of_equals_the_one_goes_that_has_had_as_many_for_longest():
    memory = SmallMemory("lfu", 3)
    memory.touch(0, 1, 2, 2, 1, 0)
    assert [memory.pages(memory.policy.choose_victims())] == [[2, 1, 0]]
    memory.touch(2, 1, 0)
    assert memory.touch(3) == [2]


def test_touches_are_forgotten_with_the_page():
    memory = SmallMemory("lfu", 2)
    memory.touch(0, 0, 0, 1, 1)
    assert memory.touch(2) == [1]
    assert memory.touch(1) == [2]
    assert memory.touch(2) == [1], "it had one touch again"


def test_the_rest_follows_by_count():
    memory = SmallMemory("lfu", 4)
    memory.touch(0, 1, 2, 3, 0, 0, 0, 1, 1, 3)
    assert memory.pages(memory.policy.choose_victims()) == [2, 3, 1, 0]
    assert [memory.reason(page) for page in (2, 0)] == [
        "least frequently used: 1 touches since it came in",
        "least frequently used: 4 touches since it came in",
    ]


def test_an_endless_run_of_touches_needs_no_endless_number_of_lists():
    memory = SmallMemory("lfu", 8)
    memory.touch(*[0] * 1000, *zipf(64, 2000, 1.0).tolist())
    policy = memory.policy
    assert len(policy.lists) + len(policy.spare) == policy.memory.links._list_numbers < 20
    assert not any(policy.spare)
    assert sum(map(len, policy.lists.values())) == 8

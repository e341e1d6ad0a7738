"""belady: the page whose next use is farthest goes, which no other policy can beat."""

from bisect import bisect_right
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.access_traces import SmallMemory, uniform
from tests.support.examples import examples
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.region import PAGE_MASK
from usmd.errors import InvalidArgument

NEVER = 1 << 62


def memory_that_knows(trace, frames):
    positions = defaultdict(list)
    for number, page in enumerate(trace):
        positions[page].append(number)

    def next_use(key):
        later = positions[key & PAGE_MASK]
        at = bisect_right(later, memory.core.state.touch)
        return later[at] if at < len(later) else NEVER

    memory = SmallMemory("lru", frames)
    memory.core.state.future = next_use
    memory.core.handle(events.SetPolicy(1, "evict", "belady"), 0.0)
    return memory


def fewest_misses(trace, frames):
    """The best that anybody could do: every choice is tried, states that are alike once."""
    states = {frozenset(): 0}
    for page in trace:
        following = {}
        for held, misses in states.items():
            if page in held:
                options = [(held, misses)]
            elif len(held) < frames:
                options = [(held | {page}, misses + 1)]
            else:
                options = [(held - {victim} | {page}, misses + 1) for victim in held]
            for after, count in options:
                following[after] = min(count, following.get(after, count))
        states = following
    return min(states.values())


def test_a_choice_that_is_broken_off_and_never_closed_loses_no_page():
    shell = Shell(make_core())
    shell.core.state.future = lambda page: page + 10
    process = shell.attach(evict="belady")
    region = shell.map(process, 4)
    for page in range(4):
        shell.put(process, region, page, b"x" * PAGE)
    policy = shell.core.state.processes[process].policies._evict
    begun = iter(policy.choose_victims())
    assert [next(begun), next(begun)] == [3, 2]
    assert list(policy.choose_victims()) == [3, 2, 1, 0]


def test_the_farthest_goes_and_what_is_never_used_again_first():
    trace = [0, 1, 2, 3, 1, 4, 0, 1, 4]
    memory = memory_that_knows(trace, 3)
    assert [memory.touch(page) for page in trace] == [[], [], [], [2], [], [3], [], [], []]


@examples(60)
@given(st.lists(st.integers(0, 6), max_size=40), st.integers(1, 4))
def test_nobody_could_have_missed_less(trace, frames):
    memory = memory_that_knows(trace, frames)
    memory.touch(*trace)
    assert memory.misses == fewest_misses(trace, frames)


def test_a_page_that_stays_long_does_not_fill_the_heap():
    trace = uniform(12, 3000).tolist()
    memory = memory_that_knows(trace, 10)
    most = 0
    for start in range(0, 3000, 100):
        memory.touch(*trace[start : start + 100])
        most = max(most, len(memory.policy.heap))
    assert most <= 4 * 10 + 65
    assert memory.policy.known == 10


def test_what_could_not_go_is_named_first_the_next_time():
    memory = memory_that_knows([0, 1, 2, 2, 1, 0], 3)
    memory.touch(0, 1, 2)
    for _ in range(2):
        named = memory.policy.choose_victims()
        assert memory.pages([next(named), next(named)]) == [0, 1]
        named.close()
    assert memory.pages(memory.policy.choose_victims()) == [0, 1, 2]
    assert memory.reason(0) == "of all pages used again last: at access 5"


def test_a_live_memory_has_no_future():
    with pytest.raises(InvalidArgument, match=r"for `usmctl replay`"):
        SmallMemory("belady", 4)

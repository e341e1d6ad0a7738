"""random: any page, each as likely as the other, and the same ones with the same seed."""

from collections import Counter

import pytest

from tests.support.access_traces import SmallMemory, uniform
from usmd.errors import InvalidArgument
from usmd.policies import registry


def test_the_seed_decides():
    def resident(evict):
        memory = SmallMemory(evict, 10)
        memory.touch(*range(64))
        return memory.resident

    seen = [resident(f"random(seed={seed})") for seed in range(8)]
    assert seen[0] == resident("random") == resident("random(seed=0)")
    assert len(set(map(tuple, seen))) == 8
    with pytest.raises(InvalidArgument, match="seed='x' is not of type int"):
        registry.find("evict", "random(seed=x)")


def test_each_page_is_as_likely_as_the_other():
    first = Counter()
    for seed in range(400):
        memory = SmallMemory(f"random(seed={seed})", 4)
        memory.touch(0, 1, 2, 3)
        first.update(memory.touch(4))
    assert sorted(first) == [0, 1, 2, 3]
    assert min(first.values()) > 70


def test_what_could_not_go_is_not_drawn_again_while_others_go():
    for seed in range(50):
        memory = SmallMemory(f"random(seed={seed})", 6)
        memory.touch(*range(6))
        policy, named = memory.policy, []
        for pfn in policy.choose_victims():
            named.append(pfn)
            if len(named) % 2 == 0:
                policy.page_evicted(pfn)
        assert sorted(named) == list(range(6))
        assert sorted(policy.pages) == sorted(policy.places) == sorted(named[::2])
        assert all(policy.pages[place] == pfn for pfn, place in policy.places.items())


def test_a_loop_hits_as_often_as_luck_has_it_where_lru_never_does():
    trace = [page for _ in range(40) for page in range(12)]
    misses = []
    for evict in ("random", "lru"):
        memory = SmallMemory(evict, 10)
        memory.touch(*trace)
        misses.append(memory.misses)
    assert misses[0] < misses[1] == len(trace)


def test_its_reason():
    memory = SmallMemory("random", 2)
    memory.touch(*uniform(2, 9).tolist())
    assert memory.reason(0) == "drawn at random"

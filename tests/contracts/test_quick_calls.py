"""Calls of a policy that stand for others, of one victim, many touches and many faults, do what the others do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.policy_memory import FRAMES, STEPS, Memory, perform
from usmd.core.policy import Allocation, AsyncRequest, Fault
from usmd.core.view import MemoryView
from usmd.policies import registry

EVICT = sorted(registry.TABLES["evict"])
EVICT_SPECIFICATIONS = [*EVICT, *(f"hint_aware(fallback={name})" for name in EVICT)]


class Quick(Memory):
    """As Memory, with the calls that stand for others: of one victim, and of many touches."""

    def __init__(self, evict):
        super().__init__(evict)
        self.run = []

    def touch(self, page, priority, frame, *, missed, refusals=()):
        pfn = self.frame_of(page)
        if pfn in self.known and self.policy.hears_access_runs:
            self.state.touch += 1
            self.run.append(pfn)
        else:
            self.tell()
            super().touch(page, priority, frame, missed=missed, refusals=refusals)

    def tell(self):
        if self.run:
            self.policy.pages_accessed(self.run[:])
            self.run.clear()

    def evict(self, wanted, refusals):
        self.tell()
        if wanted != 1 or any(refusals) or not self.policy.names_first_victim:
            super().evict(wanted, refusals)
        elif (pfn := self.policy.first_victim()) >= 0:
            self.gone(pfn)
        else:
            assert not self.known

    def fill(self, pfn, priority):
        self.tell()
        super().fill(pfn, priority)

    def hint(self, pfn, priority):
        self.tell()
        super().hint(pfn, priority)

    def leave(self, pfn, *, stays):
        self.tell()
        super().leave(pfn, stays=stays)


@pytest.mark.parametrize("evict", EVICT_SPECIFICATIONS)
@examples(12)
@given(steps=st.lists(STEPS, max_size=50))
def test_evict_does_the_same_if_it_is_told_of_runs_of_touches_and_asked_for_one_victim(evict, steps):
    usual, quick = Memory(evict), Quick(evict)
    steps = [step for step in steps if step[0] in ("miss", "access", "hint", "leave", "return", "other grows")]
    for step in [*(("miss", page, 1, 0, []) for page in range(FRAMES)), *steps]:
        perform(usual, step)
        perform(quick, step)
        usual.event_ends()
        quick.event_ends()
        assert list(quick.frames.page) == list(usual.frames.page)
    quick.tell()
    assert list(quick.policy.choose_victims()) == list(usual.policy.choose_victims())


QUICK_CALLS = {
    "hears_access_runs": {"clock", "lru", "s3_fifo", "sieve"},
    "names_first_victim": set(EVICT) - {"belady", "lirs", "random"},
}


@pytest.mark.parametrize("quick", QUICK_CALLS)
def test_evict_has_the_calls_that_stand_for_others_where_they_gain(quick):
    has = {evict for evict in EVICT if getattr(Memory(evict).policy, quick)}
    assert has - {"hint_aware"} == QUICK_CALLS[quick] - {"hint_aware"}
    through = {evict for evict in EVICT if getattr(Memory(f"hint_aware(fallback={evict})").policy, quick)}
    assert through == has


ALLOC_SPECIFICATIONS = ["first_fit", "readahead", "async_aware", "async_aware(regular=first_fit)"]
PAGES = st.lists(st.integers(0, 12) | st.integers(0, 1 << 20), max_size=30, unique=True)


def alloc_policy(specification):
    memory = Memory("fifo")
    return registry.make("alloc", specification, MemoryView(memory.state, memory.process))


@pytest.mark.parametrize("specification", ALLOC_SPECIFICATIONS)
@examples(30)
@given(batches=st.lists(PAGES, max_size=4))
def test_alloc_answers_a_batch_as_it_answers_its_faults(specification, batches):
    def asked(policy, page):
        return policy.allocate(Fault(1, page, 1 << 21, False, False, None), AsyncRequest())

    usual, quick = alloc_policy(specification), alloc_policy(specification)
    for pages in batches:
        count = quick.come_alone(1, pages)
        assert 0 <= count <= len(pages)
        assert [asked(usual, page) for page in pages[:count]] == [Allocation(page) for page in pages[:count]]
        assert [asked(quick, page) for page in pages[count:]] == [asked(usual, page) for page in pages[count:]]


def test_alloc_policies_answer_batches_where_that_gains():
    has = {each for each in registry.TABLES["alloc"] if alloc_policy(each).answers_batches}
    assert has == {"first_fit", "readahead", "async_aware"}
    assert not alloc_policy("async_aware(regular=prealloc)").answers_batches

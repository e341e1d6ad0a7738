"""Calls of an evict policy that stand for others, of one victim and of many touches, do what the others do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.policy_memory import FRAMES, STEPS, Memory, perform
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

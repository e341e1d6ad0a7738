"""The list of a process's pages that are in its page table, and when a batch of samples is due."""

import pytest

from usmd.core.frame_list import FrameLinks
from usmd.core.sampling import BATCH, Sampling


@pytest.fixture
def sampling():
    return Sampling(FrameLinks(64), 2.0)


def test_pages_are_in_the_order_in_which_they_were_last_heard_of(sampling):
    for pfn in (3, 1, 2):
        sampling.came(pfn, short=False)
    assert sampling.heard(3) is False  # it was in: only its place changes
    assert list(sampling.mapped) == [1, 2, 3]
    sampling.mapped.remove(1)
    assert sampling.heard(1) is True
    assert list(sampling.mapped) == [2, 3, 1]


def test_a_batch_is_due_once_for_the_pages_that_earned_it(sampling):
    assert [sampling.came(pfn, short=True) for pfn in range(BATCH)] == [pfn == BATCH // 2 - 1 for pfn in range(BATCH)]


def test_pages_that_come_in_while_memory_is_plenty_or_nothing_can_be_taken_out_earn_nothing(sampling):
    for pfn in range(20):
        assert not sampling.came(pfn, short=False)
    sampling.active = False
    for pfn in range(20, 40):
        assert not sampling.came(pfn, short=True)
    assert (sampling.due, len(sampling.mapped)) == (0.0, 40)

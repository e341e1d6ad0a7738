"""The list of a process's pages that are in its page table, and when a batch of samples is due."""

import pytest

from usmd.core.frame_list import FrameLinks
from usmd.core.sampling import BATCH, IN_VAIN, PART, WINDOW, Sampling


@pytest.fixture
def sampling():
    return Sampling(FrameLinks(64), 2.0)


def test_pages_are_in_the_order_in_which_they_were_last_heard_of(sampling):
    for pfn in (3, 1, 2):
        sampling.came(pfn)
    assert sampling.heard(3) is False  # it was in: only its place changes
    assert list(sampling.mapped) == [1, 2, 3]
    sampling.mapped.remove(1)
    assert sampling.heard(1) is True
    assert list(sampling.mapped) == [2, 3, 1]


@pytest.mark.parametrize(("rate", "pages"), [(2.0, BATCH // 2), (0.5, 2 * BATCH), (4.0 * BATCH, 1)])
def test_a_batch_is_due_when_enough_pages_came_in_for_it(rate, pages):
    sampling = Sampling(FrameLinks(256), rate)
    assert [sampling.came(pfn) for pfn in range(pages)] == [False] * (pages - 1) + [True]
    assert sampling.came(pages) is False  # it is due already
    assert sampling.batch() == int((pages + 1) * rate)
    assert sampling.since == 0


def test_while_no_page_is_touched_again_only_a_part_of_the_pages_is_sampled_until_some_are():
    sampling = Sampling(FrameLinks(1024), 2.0)
    sampling.took(WINDOW, WINDOW)
    assert sampling.in_vain
    for pfn in range(2 * PART):
        sampling.came(pfn)
    assert list(sampling.mapped) == [0, PART]
    for pfn in range(512, 512 + WINDOW // PART // IN_VAIN):
        assert sampling.heard(pfn)
    sampling.took(WINDOW // PART, WINDOW)
    assert not sampling.in_vain
    sampling.came(1)
    assert 1 in sampling.mapped


def test_a_few_pages_touched_again_of_many_are_enough_to_go_on_in_full(sampling):
    for pfn in range(WINDOW // IN_VAIN):
        sampling.heard(pfn)
    sampling.took(WINDOW, WINDOW)
    assert not sampling.in_vain


@pytest.mark.parametrize("in_vain", [False, True])
@pytest.mark.parametrize("came_before", [0, BATCH // 2 - 3, BATCH // 2, BATCH])
@pytest.mark.parametrize("frames", [range(0), range(3, 4), range(100, 103), range(101, 101 + 2 * BATCH)])
def test_a_run_of_pages_counts_as_its_pages_do_one_by_one(in_vain, came_before, frames):
    one_by_one, at_once = Sampling(FrameLinks(512), 2.0), Sampling(FrameLinks(512), 2.0)
    for each in (one_by_one, at_once):
        for pfn in range(300, 300 + came_before):
            each.came(pfn)
        each.in_vain = in_vain
    due = [one_by_one.came(pfn) for pfn in frames]
    assert at_once.run_came(frames) is any(due)
    assert list(at_once.mapped) == list(one_by_one.mapped)
    assert at_once.since == one_by_one.since

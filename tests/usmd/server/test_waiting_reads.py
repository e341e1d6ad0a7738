"""How waiting reads are divided among jobs, and forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from usmd.core.commands import SlotPage
from usmd.core.region import page_key
from usmd.server.waiting_reads import WaitingReads


def reads(*slots, region=1):
    return [SlotPage(slot, slot, 1, page_key(region, slot), 1) for slot in slots]


def waiting(*slots):
    found = WaitingReads()
    found.add(reads(*slots))
    return found


def slots(pages):
    return [page.slot for page in pages]


def test_a_share_is_of_the_oldest():
    found = waiting(*range(30, 0, -2))
    assert slots(found.take(4, 64)) == [30, 28, 26, 24]
    assert slots(found.take(1, 64)) == [22]
    assert len(found) == 10


def test_neighbouring_slots_stay_together_however_they_arrived():
    found = waiting(12, 40, 11, 60, 13, 10, 80)
    assert slots(found.take(2, 64)) == [10, 11, 12, 13]
    assert slots(found.take(2, 64)) == [40, 60]


def test_a_run_that_does_not_fit_is_left_to_the_next_job():
    found = waiting(5, 10, 11, 12, 13, 14, 15)
    assert slots(found.take(2, 64)) == [5]
    assert slots(found.take(2, 64)) == [10, 11, 12, 13, 14, 15]
    found = waiting(5, 10, 11)
    assert slots(found.take(64, 2)) == [5]


def test_only_a_run_that_is_longer_than_a_job_is_divided():
    found = waiting(*range(100))
    assert slots(found.take(10, 64)) == list(range(64))
    assert slots(found.take(10, 64)) == list(range(64, 100))


def test_the_reads_of_a_region_are_forgotten_and_no_others():
    found = waiting(1, 2)
    found.add(reads(3, 9, 5, region=2))
    assert slots(found.forget([2], 9)) == [3, 5, 9]
    assert found.forget([2], 9) == found.forget([7], 9) == []
    assert slots(found.take(64, 64)) == [1, 2]
    assert found.forget([1], 9) == []
    assert len(found) == 0


@given(st.lists(st.integers(0, 40), unique=True), st.integers(1, 12), st.integers(1, 12))
def test_each_read_is_taken_once_and_no_job_is_too_large(numbers, share, most):
    found = waiting(*numbers)
    jobs = []
    while found:
        jobs.append(slots(found.take(share, most)))
        assert 1 <= len(jobs[-1]) <= most
    assert sorted(slot for job in jobs for slot in job) == sorted(numbers)


def test_of_very_many_reads_of_a_region_some_are_forgotten_at_a_time():
    found = waiting(*range(10))
    parts = [len(found.forget([1], 4)) for _ in range(4)]
    assert (parts, len(found)) == ([4, 4, 2, 0], 0)


def test_reads_of_several_regions_are_forgotten_up_to_as_many_as_may_go_at_a_time():
    found = waiting(1, 2)
    found.add(reads(3, 9, 5, region=2))
    parts = [slots(found.forget([7, 2, 1], 4)) for _ in range(3)]
    assert (parts, len(found)) == ([[3, 5, 9, 1], [2], []], 0)

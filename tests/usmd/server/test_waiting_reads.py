"""How waiting reads are divided among jobs, and forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from usmd.core.commands import SlotPage
from usmd.core.region import page_key
from usmd.server.waiting_reads import QUANTUM, WaitingReads


def reads(*slots, region=1, process=1):
    return [SlotPage(slot, slot, process, page_key(region, slot), 1) for slot in slots]


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


def test_pages_that_only_move_delay_those_that_are_waited_for_by_a_turn():
    found = WaitingReads()
    moving = [SlotPage(slot, slot, 1, page_key(1, slot), 1, moves=True) for slot in range(0, 200, 2)]
    found.add(moving)
    found.add(reads(1001, 1003))
    taken = slots(found.take(QUANTUM + 2, 64))
    assert taken == [*range(0, 2 * QUANTUM, 2), 1001, 1003]
    assert len(found) == 100 - QUANTUM
    assert slots(found.forget([1], 200)) == list(range(2 * QUANTUM, 200, 2))


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


def test_a_process_with_many_reads_delays_those_of_another_by_a_turn():
    found = waiting(*range(0, 2000, 2))
    found.add(reads(*range(3000, 3010, 2), process=2))
    first = slots(found.take(64, 64))
    assert first[:QUANTUM] == list(range(0, 2 * QUANTUM, 2))
    assert first[QUANTUM : QUANTUM + 5] == list(range(3000, 3010, 2))
    assert len(first) == 64
    assert slots(found.take(64, 64)) == list(range(2 * 59, 2 * 123, 2))


def test_a_long_run_of_neighbours_is_read_at_once_and_paid_for_afterwards():
    found = waiting(*range(64), *range(100, 200, 2))
    found.add(reads(*range(1000, 1200, 2), process=2))
    assert slots(found.take(64, 64)) == list(range(64))
    after = slots(found.take(64, 64))
    assert after[:48] == list(range(1000, 1096, 2))


BACKLOGS = st.lists(st.lists(st.integers(0, 60), max_size=40, unique=True), min_size=2, max_size=4)


@given(BACKLOGS, st.integers(1, 12), st.integers(1, 12))
def test_while_processes_wait_none_is_far_ahead_of_another(backlogs, share, most):
    found = WaitingReads()
    mine = {}
    for process, numbers in enumerate(backlogs):
        mine[process] = [1000 * process + number for number in numbers]
        found.add(reads(*mine[process], region=process + 1, process=process))
    done = dict.fromkeys(mine, 0)
    while found:
        for page in found.take(share, most):
            done[page.process_id] += 1
        behind = [done[each] for each in mine if done[each] < len(mine[each])]
        ahead = max(done.values())
        assert all(ahead - each <= 2 * (QUANTUM + most) for each in behind)
    assert done == {each: len(numbers) for each, numbers in mine.items()}


def test_reads_that_are_forgotten_leave_no_turn_behind():
    found = waiting(2, 4)
    found.add(reads(6, 8, region=2, process=2))
    assert slots(found.forget([1], 9)) == [2, 4]
    assert slots(found.take(9, 9)) == [6, 8]
    found.add(reads(3, process=3))
    assert slots(found.take_all()) == [3]
    assert found.take(1, 1) == []

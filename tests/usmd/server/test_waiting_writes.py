"""How waiting writes are divided among jobs."""

from hypothesis import given
from hypothesis import strategies as st

from usmd.core.commands import SlotPage
from usmd.core.region import page_key
from usmd.server.waiting_reads import QUANTUM
from usmd.server.waiting_writes import WaitingWrites


def writes(first, count, process=1):
    return [SlotPage(slot, slot, process, page_key(process, slot), 1) for slot in range(first, first + count)]


def slots(pages):
    return [page.slot for page in pages]


def test_what_is_one_job_goes_as_it_came():
    found = WaitingWrites()
    found.add(writes(0, 3, process=2))
    found.add(writes(50, 2))
    found.add(writes(10, 3, process=2))
    assert slots(found.take(64)) == [0, 1, 2, 50, 51, 10, 11, 12]
    assert (len(found), found.take(64)) == (0, [])


def test_one_process_alone_writes_in_its_order():
    found = WaitingWrites()
    found.add(writes(0, 100))
    assert slots(found.take(64)) == list(range(64))
    found.add(writes(100, 10))
    assert slots(found.take(64)) == list(range(64, 110))


def test_a_process_with_many_writes_delays_those_of_another_by_a_turn():
    found = WaitingWrites()
    found.add(writes(0, 1000))
    assert slots(found.take(64)) == list(range(64))
    found.add(writes(5000, 20, process=2))
    taken = slots(found.take(64))
    assert [each for each in taken if each >= 5000] == list(range(5000, 5020))
    assert taken[:QUANTUM] == list(range(64, 64 + QUANTUM))
    assert len(found) == 1020 - 128


def test_a_turn_that_a_job_had_no_room_for_goes_on_in_the_next_one():
    found = WaitingWrites()
    found.add(writes(0, 3 * QUANTUM))
    found.add(writes(1000, 3 * QUANTUM, process=2))
    assert slots(found.take(QUANTUM - 2)) == list(range(QUANTUM - 2))
    assert slots(found.take(4)) == [QUANTUM - 2, QUANTUM - 1, 1000, 1001]


@given(st.lists(st.integers(0, 200), min_size=1, max_size=4), st.integers(1, 64))
def test_each_write_is_taken_once_and_none_of_a_process_is_far_ahead(backlogs, most):
    found, mine = WaitingWrites(), {}
    for process, count in enumerate(backlogs):
        mine[process] = writes(1000 * process, count, process)
        found.add(mine[process])
    done = {process: [] for process in mine}
    while found:
        if len(found) <= most:
            job = found.take_all()
        else:
            job = found.take(most)
            assert len(job) == most
        for page in job:
            done[page.process_id].append(page)
        behind = [len(done[each]) for each in mine if len(done[each]) < len(mine[each])]
        assert all(max(map(len, done.values())) - each <= QUANTUM for each in behind)
    assert done == mine

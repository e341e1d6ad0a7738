"""What is gathered into a message, and who hears of an answer."""

import pytest

import lib_usm
from lib_usm.page_table import PageTable
from lib_usm.pager import Pager
from lib_usm.waits import FaultsWait, TokenWait, Wait
from tests.support.uthreads import ControlledStream, allocated, failed, yielded
from usm_wire.pb.usm.v1 import client_pb2 as pb


class Waiter:
    def __init__(self):
        self.woken = 0

    def wake(self):
        self.woken += 1


class Conversation:
    def __init__(self, max_batch=100):
        self.stream = ControlledStream()
        self.pager = Pager(self.stream, max_batch)
        self.table = PageTable(100)

    def fault(self, page, count=1, wait=None, write=False):
        wait = wait or Wait(Waiter())
        self.pager.fault(self.table, 7, page, count, wait, write=write)
        return wait


@pytest.fixture
def conversation():
    made = Conversation()
    yield made
    made.stream.close()


def test_what_is_filed_is_sent_by_flush_as_one_message(conversation):
    conversation.fault(1)
    conversation.fault(2, count=3, write=True)
    conversation.pager.load(7, 100, 8, Wait(Waiter()))
    conversation.pager.store(7, 200, b"abc", Wait(Waiter()))
    assert conversation.stream.sent == []
    assert conversation.pager.unsent == conversation.pager.in_flight == 4
    conversation.pager.flush()
    conversation.pager.flush()
    (request,) = conversation.stream.sent
    assert [(f.region_id, f.first_page, f.page_count, f.write) for f in request.faults] == [
        (7, 1, 1, False),
        (7, 2, 3, True),
    ]
    assert request.accesses[0].load == pb.LoadRequest(region_id=7, offset=100, length=8)
    assert request.accesses[1].store == pb.StoreRequest(region_id=7, offset=200, data=b"abc")
    assert conversation.pager.unsent == 0


def test_a_waiter_is_woken_once_when_all_it_waits_for_is_answered(conversation):
    waiter = Waiter()
    wait = Wait(waiter)
    for page in (1, 2, 3):
        conversation.fault(page, wait=wait)
    conversation.pager.flush()
    for page, woken in ((2, 0), (1, 0), (3, 1)):
        conversation.stream.complete(page)
        conversation.pager.receive()
        assert waiter.woken == woken
    assert conversation.pager.in_flight == 0
    assert conversation.table.absent_runs(0, 5, 10) == [(0, 1), (4, 1)]


def test_pages_that_came_along_are_known(conversation):
    conversation.fault(4)
    conversation.pager.flush()
    run = pb.FrameRun(first_page=4, first_frame=0, page_count=6)
    fault_id = conversation.stream.open_faults[4]
    conversation.stream.answer(pb.Outcome(fault_id=fault_id, allocated=pb.Allocated(runs=[run])))
    conversation.pager.receive()
    assert conversation.table.absent_runs(0, 12, 20) == [(0, 4), (10, 2)]


def test_the_first_error_is_kept_and_the_others_are_waited_for(conversation):
    wait = Wait(Waiter())
    for page in (1, 2, 3):
        conversation.fault(page, wait=wait)
    conversation.pager.flush()
    conversation.stream.fail(2, "DATA_LOSS")
    conversation.stream.fail(1, "SWAP_IO")
    conversation.pager.receive()
    assert wait.remaining == 1
    conversation.stream.complete(3)
    conversation.pager.receive()
    assert type(wait.error) is lib_usm.DataLoss
    assert wait.error.page == 2


def test_faults_on_one_page_are_one_and_each_waiter_gets_an_error_of_its_own(conversation):
    waits = [conversation.fault(5) for _ in range(3)]
    conversation.pager.flush()
    assert len(conversation.stream.sent[0].faults) == 1
    conversation.stream.fail(5)
    conversation.pager.receive()
    errors = [wait.error for wait in waits]
    assert len({id(error) for error in errors}) == 3
    assert {type(error) for error in errors} == {lib_usm.SwapIOError}
    conversation.fault(5)
    assert conversation.pager.unsent == 1


def test_answers_to_nothing_change_nothing(conversation):
    wait = conversation.fault(1)
    conversation.pager.flush()
    conversation.stream.answer(
        allocated(999, 1), failed(998, 1), accessed=[pb.AccessOutcome(access_id=997, loaded=pb.LoadResponse())]
    )
    conversation.pager.receive()
    assert wait.remaining == 1


def test_an_outcome_without_an_outcome_is_an_error(conversation):
    wait, access = conversation.fault(1), Wait(Waiter())
    conversation.pager.load(7, 0, 1, access)
    conversation.pager.flush()
    conversation.stream.answer(
        pb.Outcome(fault_id=conversation.stream.open_faults[1]),
        accessed=[pb.AccessOutcome(access_id=conversation.stream.sent[0].accesses[0].access_id)],
    )
    conversation.pager.receive()
    assert type(wait.error) is lib_usm.InternalError
    assert type(access.error) is lib_usm.InternalError


def test_an_access_brings_its_answer_or_its_error(conversation):
    loaded, lost = Wait(Waiter()), Wait(Waiter())
    conversation.pager.load(7, 0, 3, loaded)
    conversation.pager.load(7, 9, 3, lost)
    conversation.pager.flush()
    first, second = (access.access_id for access in conversation.stream.sent[0].accesses)
    conversation.stream.answer(
        accessed=[
            pb.AccessOutcome(access_id=second, failure=failed(0, 0, "NOT_FOUND").failure),
            pb.AccessOutcome(access_id=first, loaded=pb.LoadResponse(data=b"abc")),
        ]
    )
    conversation.pager.receive()
    assert loaded.answer.loaded.data == b"abc"
    assert type(lost.error) is lib_usm.NotFound


def test_a_message_is_sent_when_it_is_full_of_faults_or_bytes():
    conversation = Conversation(max_batch=3)
    for page in range(7):
        conversation.fault(page)
    assert conversation.stream.batches == [[0, 1, 2], [3, 4, 5]]
    conversation.pager.flush()
    for _ in range(3):
        conversation.pager.store(7, 0, bytes(1 << 18), Wait(Waiter()))
    assert [len(request.accesses) for request in conversation.stream.sent] == [0, 0, 0, 2]
    conversation.stream.close()


def test_what_is_no_message_ends_all_with_an_error(conversation):
    wait = conversation.fault(1)
    conversation.pager.flush()
    conversation.stream.receive = lambda: [b"\xff\xff\xff"]
    conversation.pager.receive()
    assert type(wait.error) is lib_usm.InternalError
    assert conversation.pager.in_flight == 0


def test_after_the_end_everything_fails_at_once(conversation):
    before = conversation.fault(1)
    conversation.stream.break_off(lib_usm.SessionKilled("killed"))
    conversation.pager.receive()
    after, access = conversation.fault(2), Wait(Waiter())
    conversation.pager.store(7, 0, b"x", access)
    for wait in (before, after, access):
        assert type(wait.error) is lib_usm.SessionKilled
        assert wait.waiter.woken == 1
    assert conversation.pager.unsent == 0


def test_what_the_daemon_tells_of_the_budget_is_warned_of_once(conversation):
    conversation.stream.receive = lambda: [pb.StreamFaultsResponse(over_budget_pages=3).SerializeToString()]
    conversation.pager.receive()
    with pytest.warns(UserWarning, match="3 pages asked for EVICTION=DENY"):
        conversation.pager.warn()
    conversation.pager.warn()


def test_a_yield_that_was_left_may_be_waited_for_again_also_when_its_completion_had_come(conversation):
    pager, stream = conversation.pager, conversation.stream
    explicit = FaultsWait(Waiter(), [(conversation.table, 7, 4, 1)], yields=True)
    pager.faults(explicit, write=False)
    pager.flush()
    fault_id = stream.open_faults[4]
    stream.answer(yielded(fault_id, 5))
    pager.receive()
    assert explicit.results() == [lib_usm.Yielded(5)]
    first, second, third = (TokenWait(Waiter(), 5) for _ in range(3))
    pager.take(first)
    pager.take(second)
    assert isinstance(second.error, lib_usm.UnknownToken)  # one waits for it already
    pager.leave(first)
    pager.take(third)
    stream.answer(allocated(fault_id, 4))
    pager.receive()
    assert (first.waiter, third.waiter.woken) == (None, 1)
    pager.leave(third)
    last = TokenWait(Waiter(), 5)
    pager.take(last)
    assert last.result().runs == (lib_usm.FrameRun(4, 4, 1),)
    assert pager.in_flight == 0


def allocated_pages(first_id, frames):
    return pb.StreamFaultsResponse(
        allocated_pages=[pb.PagesAllocated(first_fault_id=first_id, frames=frames)]
    ).SerializeToString()


@pytest.mark.parametrize("max_batch", [100, 25])
def test_many_faults_on_single_pages_of_a_region_are_batches_of_pages(max_batch):
    conversation = Conversation(max_batch)
    pager, stream, table = conversation.pager, conversation.stream, conversation.table
    pages = [page * 7 % 40 for page in range(40)]
    conversation.fault(99)
    wait = FaultsWait(Waiter(), [(table, 7, page, 1) for page in pages], yields=False)
    pager.faults(wait, write=True)
    pager.flush()
    batches = [batch for request in stream.sent for batch in request.page_batches]
    assert [len(each.faults) + sum(len(batch.pages) for batch in each.page_batches) for each in stream.sent] == (
        [41] if max_batch == 100 else [25, 16]
    )
    assert all((batch.region_id, batch.write) == (7, True) for batch in batches)
    assert [page for batch in batches for page in batch.pages] == pages
    first = batches[0].first_fault_id
    assert batches[-1].first_fault_id == first + 40 - len(batches[-1].pages)
    stream.answer_bytes(allocated_pages(first + 1, range(100, 138)))
    stream.answer_bytes(allocated_pages(first + 1, range(100, 138)))  # which nothing waits for any more
    pager.receive()
    assert (wait.remaining, pager.in_flight, wait.waiter.woken) == (2, 3, 0)
    stream.answer(failed(first + 39, pages[39], "SWAP_IO"), allocated(first, pages[0]))
    pager.receive()
    assert (wait.remaining, pager.in_flight, wait.waiter.woken) == (0, 1, 1)
    answers = wait.results()
    assert isinstance(answers.pop(), lib_usm.SwapIOError)
    assert [answer.runs[0].first_page for answer in answers] == pages[:39]
    assert answers[1].runs == (lib_usm.FrameRun(pages[1], 100, 1),)
    assert table.absent_runs(0, 41, 50) == [(pages[39], 1), (40, 1)]
    stream.close()


@pytest.mark.parametrize("odd", [(8, 3, 1), (7, 3, 2)])
def test_faults_on_several_regions_or_on_several_pages_are_a_message_each(conversation, odd):
    ranges = [(conversation.table, 7, page, 1) for page in range(20)] + [(conversation.table, *odd)]
    conversation.pager.faults(FaultsWait(Waiter(), ranges, yields=False), write=False)
    conversation.pager.flush()
    (request,) = conversation.stream.sent
    assert (len(request.faults), len(request.page_batches)) == (21, 0)

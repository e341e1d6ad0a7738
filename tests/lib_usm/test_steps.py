"""Steps without a scheduler: what is filed, what is yielded, and what comes of an answer."""

import pytest

import lib_usm
from lib_usm import steps
from tests.support.uthreads import FakeClient, allocated, failed, yielded
from usm_wire.pb.usm.v1 import client_pb2 as pb

PAGE = 16


class Nobody:
    def wake(self):
        pass


@pytest.fixture
def stage():
    client = FakeClient()
    stream, pager = client.open_pager()
    yield client.region, stream, pager, steps.Place(pager, Nobody())
    stream.close()


def finish(todo):
    """The result of steps that have nothing left to wait for."""
    with pytest.raises(StopIteration) as stop:
        next(todo)
    return stop.value.value


def test_ensure_files_what_is_absent_in_parts_and_waits_for_all(stage):
    region, stream, pager, place = stage
    region.table.mark(2, 1)
    todo = steps.ensure(place, region, 0, 8)
    wait = next(todo)
    pager.flush()
    assert [(fault.first_page, fault.page_count) for fault in stream.sent[0].faults] == [(0, 2), (3, 4), (7, 1)]
    stream.complete(0, 3)
    pager.receive()
    assert next(todo) is wait
    stream.complete(7)
    pager.receive()
    assert finish(todo) is None


def test_ensure_of_what_is_there_waits_for_nothing(stage):
    region, _, pager, place = stage
    region.table.mark(0, 8)
    assert finish(steps.ensure(place, region, 0, 8)) is None
    assert pager.unsent == 0


def test_ensure_raises_the_error_of_its_page(stage):
    region, stream, pager, place = stage
    todo = steps.ensure(place, region, 5, 1)
    next(todo)
    pager.flush()
    stream.fail(5, "DATA_LOSS")
    pager.receive()
    with pytest.raises(lib_usm.DataLoss):
        next(todo)


def answer_access(stream, pager, **outcome):
    pager.flush()
    access = stream.sent[-1].accesses[0]
    stream.answer(accessed=[pb.AccessOutcome(access_id=access.access_id, **outcome)])
    pager.receive()
    return access


def test_a_read_faults_then_loads_and_goes_on_where_a_page_was_gone(stage):
    region, stream, pager, place = stage
    todo = steps.read(place, region, 8, 16)
    next(todo)
    pager.flush()
    stream.complete(0)
    pager.receive()
    next(todo)
    access = answer_access(stream, pager, loaded=pb.LoadResponse(data=b"a" * 8, absent_pages=[1]))
    assert (access.load.offset, access.load.length) == (8, 16)
    next(todo)
    pager.flush()
    assert [fault.first_page for fault in stream.sent[-1].faults] == [1]
    stream.complete(1)
    pager.receive()
    next(todo)
    access = answer_access(stream, pager, loaded=pb.LoadResponse(data=b"b" * 8))
    assert (access.load.offset, access.load.length) == (16, 8)
    assert finish(todo) == b"a" * 8 + b"b" * 8


def test_a_write_faults_for_writing_and_stores(stage):
    region, stream, pager, place = stage
    todo = steps.write(place, region, 3, memoryview(b"abcdef"))
    next(todo)
    pager.flush()
    assert stream.sent[-1].faults[0].write
    stream.complete(0)
    pager.receive()
    next(todo)
    access = answer_access(stream, pager, stored=pb.StoreResponse(stored=6))
    assert (access.store.offset, access.store.data) == (3, b"abcdef")
    assert finish(todo) is None


def test_an_access_that_fails_raises(stage):
    region, stream, pager, place = stage
    region.table.mark(0, 1)
    todo = steps.read(place, region, 0, 4)
    next(todo)
    answer_access(stream, pager, failure=failed(0, 0, "NOT_FOUND").failure)
    with pytest.raises(lib_usm.NotFound):
        next(todo)


def test_nothing_to_read_is_nothing_to_do(stage):
    region, _, pager, place = stage
    assert finish(steps.read(place, region, 5, 0)) == b""
    assert pager.unsent == 0


def test_a_fault_and_its_access_are_one_message_and_end_together(stage):
    region, stream, pager, place = stage
    todo = steps.read(place, region, 8, 16)
    next(todo)
    pager.flush()
    (request,) = stream.sent
    assert [fault.first_page for fault in request.faults] == [0]
    access = request.accesses[0]
    assert (access.load.offset, access.load.length) == (8, 16)
    loaded = pb.AccessOutcome(access_id=access.access_id, loaded=pb.LoadResponse(data=b"a" * 16))
    stream.answer(allocated(stream.open_faults[0], 0), accessed=[loaded])
    pager.receive()
    assert finish(todo) == b"a" * 16
    assert len(stream.sent) == 1


@pytest.mark.parametrize("ahead", [{"loaded": pb.LoadResponse(absent_pages=[0])}, {"failure": pb.Failure(message="?")}])
def test_an_access_that_came_too_early_is_done_again(stage, ahead):
    region, stream, pager, place = stage
    todo = steps.read(place, region, 0, 4)
    wait = next(todo)
    answer_access(stream, pager, **ahead)
    assert next(todo) is wait
    stream.complete(0)
    pager.receive()
    next(todo)
    answer_access(stream, pager, loaded=pb.LoadResponse(data=b"once"))
    assert finish(todo) == b"once"


def test_a_fault_that_fails_is_raised_whatever_the_access_before_it_brought(stage):
    region, stream, pager, place = stage
    todo = steps.read(place, region, 0, 4)
    next(todo)
    answer_access(stream, pager, loaded=pb.LoadResponse(data=b"good"))
    stream.fail(0, "DATA_LOSS")
    pager.receive()
    with pytest.raises(lib_usm.DataLoss):
        next(todo)


def test_a_large_store_is_not_sent_before_its_pages_are_there(stage, monkeypatch):
    region, stream, pager, place = stage
    monkeypatch.setattr(steps, "_AHEAD_BYTES", 15)
    todo = steps.write(place, region, 0, memoryview(bytes(16)))
    next(todo)
    pager.flush()
    assert not stream.sent[0].accesses
    stream.complete(0)
    pager.receive()
    next(todo)
    answer_access(stream, pager, stored=pb.StoreResponse(stored=16))
    assert finish(todo) is None


def test_explicit_faults_have_an_answer_each_and_a_yield_is_one_where_it_is_wanted(stage):
    region, stream, pager, place = stage
    ranges = [(region.table, region.region_id, page, 1) for page in (0, 0, 1)]
    todo = steps.faults(place, ranges, write=True, yields=True)
    next(todo)
    pager.flush()
    first, second, third = (fault.fault_id for fault in stream.sent[0].faults)
    stream.answer(allocated(third, 1), yielded(first, 7), failed(second, 0, "SWAP_IO"))
    pager.receive()
    one, two, three = finish(todo)
    assert one == lib_usm.Yielded(7)
    assert isinstance(two, lib_usm.SwapIOError)
    assert isinstance(three, lib_usm.Allocated)
    completion = steps.completion(place, 7)
    next(completion)
    stream.answer(allocated(first, 0))
    pager.receive()
    assert finish(completion).runs == (lib_usm.FrameRun(0, 0, 1),)
    assert not region.absent_runs(0, 2, 4)
    with pytest.raises(lib_usm.UnknownToken, match="token 7"):
        next(steps.completion(place, 7))

"""Steps without a scheduler: what is filed, what is yielded, and what comes of an answer."""

import pytest

import lib_usm
from lib_usm import steps
from lib_usm.pb.usm.v1 import client_pb2 as pb
from lib_usm.transfer import Limits, Window
from tests.support.uthreads import FakeClient, failed

PAGE = 16


class Transfer:
    limits = Limits(PAGE, 64, 4, 8)

    def __init__(self):
        self.window = Window(self.limits)


class Nobody:
    def wake(self):
        pass


@pytest.fixture
def stage():
    client = FakeClient()
    client.page_size = PAGE
    client.transfer = Transfer()
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

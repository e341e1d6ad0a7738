import asyncio
import contextlib

import grpc
import pytest

from tests.usmd.ctl.top.conftest import reading
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.connect import Admin, AdminError
from usmd.ctl.top.reading import AdminSource, Wanted


@pytest.fixture
def source(daemon):
    with contextlib.closing(AdminSource(daemon.path)) as source:
        yield source


def test_a_reading_has_what_is_wanted_and_no_more(daemon, source):
    plain = source.read_now(Wanted())
    assert plain.status == daemon.admin.status
    assert [each.name for each in plain.processes] == ["indexer", "cache"]
    assert [each.name for each in plain.devices] == ["file0"]
    assert (plain.memory, plain.detail) == (None, None)
    assert len(daemon.admin.requests) == 3
    whole = source.read_now(Wanted(cells=16, process_id=1))
    assert len(whole.memory.cells) == 16
    assert [each.name for each in whole.detail.regions] == ["index", ""]
    assert whole.detail.evictions.total == 910
    assert whole.names == {1: "indexer", 2: "cache"}


def test_the_counters_are_asked_for_that_are_wanted(daemon, source):
    source.read_now(Wanted(counters=["faults", "swap_ins"]))
    source.read_now(Wanted())
    asked = [list(each.counters) for each in daemon.admin.requests if isinstance(each, pb.ListProcessesRequest)]
    assert asked == [["faults", "swap_ins"], []]


def test_a_process_that_is_gone_has_no_detail(daemon, source):
    source.read_now(Wanted())
    daemon.admin.answers_before_failure = 3
    daemon.admin.failure = (grpc.StatusCode.NOT_FOUND, "process 1 does not exist")
    assert source.read_now(Wanted(process_id=1)).detail is None


def test_after_a_failure_the_next_reading_makes_a_new_connection(daemon):
    made = []

    def connect(path):
        made.append(Admin(path))
        return made[-1]

    with contextlib.closing(AdminSource(daemon.path, connect)) as source:
        daemon.admin.failure = (grpc.StatusCode.UNAVAILABLE, "usmd is draining")
        with pytest.raises(AdminError, match="usmd is draining"):
            source.read_now(Wanted())
        daemon.admin.failure = None
        source.read_now(Wanted())
        source.read_now(Wanted())
        assert len(made) == 2


def test_a_loop_reads_without_waiting_and_hears_of_errors(daemon, source):
    async def both():
        first = await source.read(Wanted(cells=8))
        daemon.admin.failure = (grpc.StatusCode.UNAVAILABLE, "usmd is draining")
        with pytest.raises(AdminError, match="usmd is draining"):
            await source.read(Wanted())
        return first

    assert len(asyncio.run(both()).memory.cells) == 8


def test_a_reading_that_nobody_awaits_any_more_harms_nothing(daemon, source):
    async def leave():
        task = asyncio.ensure_future(source.read(Wanted()))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return await source.read(Wanted())

    assert asyncio.run(leave()).status.frames == 1024


def test_time_passes_by_the_daemons_clock_and_not_from_one_daemon_to_another():
    before = reading(10.0)
    assert reading(12.5).seconds_since(before) == 2.5
    assert reading(1.0).seconds_since(before) == 0.0
    assert reading(12.5, pid=1).seconds_since(before) == 0.0


def test_no_daemon_is_an_error_that_says_what_to_do(tmp_path):
    with contextlib.closing(AdminSource(tmp_path / "none.sock")) as source, pytest.raises(AdminError, match="no usmd"):
        source.read_now(Wanted())


def test_all_pages_of_a_long_list_are_read(daemon, source):
    daemon.admin.processes = [pb.Process(process_id=n, name=f"p{n}") for n in range(1, 26)]
    daemon.admin.page_items = 10
    assert len(source.read_now(Wanted()).processes) == 25

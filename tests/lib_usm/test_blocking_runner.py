"""Threads that wait: batches, yields, the stream that they share, timeouts, interrupts, and the end."""

import errno
import os
import select
import signal
import threading

import grpc
import pytest

import lib_usm
from lib_usm.message_stream import MessageStream
from tests.lib_usm.conftest import faults_of


@pytest.fixture
def region(client):
    return client.mmap(16 * 64)


def yield_all(daemon, wire):
    """Makes the daemon yield each fault, with the fault's number plus 1000 as token."""
    daemon.answers = lambda fault: wire.yielded(fault, 1000 + fault.fault_id)


def complete(daemon, wire, fault):
    daemon.send(wire.allocated(fault, token=1000 + fault.fault_id))


def test_a_batch_travels_in_messages_of_the_daemons_limit(daemon, client, region):
    outcomes = client.fault_many([(region, page, 1) for page in range(20)])
    assert [outcome.runs[0].first_page for outcome in outcomes] == list(range(20))
    assert [len(faults_of(each)) for each in daemon.requests("StreamFaults")] == [8, 8, 4]
    assert len({fault.fault_id for fault in daemon.faults()}) == 20


def test_one_message_for_one_batch_within_the_limit(daemon, client, region):
    client.fault_many([(region, page, 1) for page in range(8)], write=True)
    assert [len(faults_of(each)) for each in daemon.requests("StreamFaults")] == [8]
    assert all(fault.write for fault in daemon.faults())


def test_a_failed_fault_of_a_batch_leaves_the_others_their_outcome(daemon, client, region, wire):
    daemon.answers = lambda fault: (
        wire.failed(fault, "DATA_LOSS") if fault.first_page == 1 else daemon.serve_fault(fault)
    )
    first, second, third = client.fault_many([(region, page, 1) for page in range(3)])
    assert isinstance(second, lib_usm.DataLoss)
    assert isinstance(first, lib_usm.Allocated)
    assert isinstance(third, lib_usm.Allocated)


def test_an_empty_batch_sends_nothing(daemon, client):
    assert client.fault_many([]) == []
    assert not daemon.faults()


def test_a_waiting_fault_waits_through_a_yield(daemon, client, region, wire, in_thread):
    yield_all(daemon, wire)
    result = in_thread(client.fault, region, 0, 16)
    daemon.until(daemon.faults)
    assert not result.done()
    complete(daemon, wire, daemon.faults()[0])
    assert result.result(90).runs == (lib_usm.FrameRun(0, 100, 1),)


def test_a_fault_that_need_not_wait_returns_its_token_and_wait_completes_it(daemon, client, region, wire):
    yield_all(daemon, wire)
    outcome = client.fault(region, 0, 16, wait=False)
    assert outcome == lib_usm.Yielded(1000 + daemon.faults()[0].fault_id)
    complete(daemon, wire, daemon.faults()[0])
    assert client.wait(outcome.token).runs == (lib_usm.FrameRun(0, 100, 1),)
    with pytest.raises(lib_usm.UnknownToken, match=str(outcome.token)):
        client.wait(outcome.token)


def test_a_fault_that_need_not_wait_and_did_not_yield_is_allocated(client, region):
    assert isinstance(client.fault(region, 0, 16, wait=False), lib_usm.Allocated)


def test_a_completion_that_came_while_another_fault_was_read_is_kept(daemon, client, region, wire):
    yield_all(daemon, wire)
    outcome = client.fault(region, 0, 16, wait=False)
    complete(daemon, wire, daemon.faults()[0])
    daemon.answers = None
    client.fault(region, 16, 16)
    daemon.send()
    assert isinstance(client.wait(outcome.token, timeout=90), lib_usm.Allocated)


def test_wait_raises_the_error_of_the_yielded_fault(daemon, client, region, wire):
    yield_all(daemon, wire)
    outcome = client.fault(region, 0, 16, wait=False)
    daemon.send(wire.failed(daemon.faults()[0], "SWAP_IO", "disk on fire", token=outcome.token))
    with pytest.raises(lib_usm.SwapIOError, match="disk on fire"):
        client.wait(outcome.token)


def test_a_token_that_never_was_is_unknown(client):
    with pytest.raises(lib_usm.UnknownToken, match="999"):
        client.wait(999)


def test_a_wait_that_times_out_keeps_the_token(daemon, client, region, wire):
    yield_all(daemon, wire)
    outcome = client.fault(region, 0, 16, wait=False)
    for timeout in (0, 0.02):
        with pytest.raises(lib_usm.WaitTimeout, match=f"token {outcome.token}"):
            client.wait(outcome.token, timeout=timeout)
    complete(daemon, wire, daemon.faults()[0])
    assert isinstance(client.wait(outcome.token, timeout=90), lib_usm.Allocated)


def test_a_timed_out_wait_does_not_keep_the_others_from_reading(daemon, client, region, wire):
    yield_all(daemon, wire)
    outcome = client.fault(region, 0, 16, wait=False)
    with pytest.raises(TimeoutError):
        client.wait(outcome.token, timeout=0)
    daemon.answers = None
    for page in range(1, 5):
        client.fault(region, 16 * page, 16)
    complete(daemon, wire, daemon.faults()[0])
    assert isinstance(client.wait(outcome.token), lib_usm.Allocated)


def test_two_timed_waits_are_both_served(daemon, client, region, wire, in_thread):
    yield_all(daemon, wire)
    tokens = [client.fault(region, 16 * page, 16, wait=False).token for page in range(2)]
    waits = [in_thread(client.wait, token, 10) for token in tokens]
    for fault in reversed(daemon.faults()):
        complete(daemon, wire, fault)
    assert all(isinstance(wait.result(90), lib_usm.Allocated) for wait in waits)


def test_yields_that_nobody_waits_for_are_forgotten_oldest_first(daemon, client, region, wire, monkeypatch):
    monkeypatch.setattr("lib_usm.pager._MAX_TOKENS", 2)
    yield_all(daemon, wire)
    tokens = [client.fault(region, 0, 16, wait=False).token for _ in range(3)]
    with pytest.raises(lib_usm.UnknownToken):
        client.wait(tokens[0])
    for fault in daemon.faults():
        complete(daemon, wire, fault)
    assert all(isinstance(client.wait(token), lib_usm.Allocated) for token in tokens[1:])


def test_threads_share_the_stream_and_each_gets_its_own_outcome(daemon, client, in_thread):
    start = threading.Barrier(6)

    def work(number):
        region = client.mmap(16 * 64)
        start.wait(90)
        for round_number in range(20):
            page = (7 * round_number + number) % 64
            outcome = client.fault(region, 16 * page, 16)
            assert outcome.runs[0].first_page == page
            region.write(16 * page, bytes([number]) * 16)
        return region[:].count(number)

    results = [in_thread(work, number) for number in range(1, 7)]
    assert [result.result(60) for result in results] == [16 * 20] * 6


def test_outcomes_in_any_order_reach_the_thread_that_waits(daemon, client, region, wire, in_thread):
    daemon.answers = lambda fault: None
    waits = [in_thread(client.fault, region, 16 * page, 16) for page in range(6)]
    daemon.until(lambda: len(daemon.faults()) == 6)
    for fault in sorted(daemon.faults(), key=lambda fault: -fault.first_page):
        daemon.send(wire.allocated(fault))
    assert [wait.result(90).runs[0].first_page for wait in waits] == list(range(6))


def test_the_reading_role_passes_on_when_the_leader_has_its_outcome(daemon, client, region, wire, in_thread):
    daemon.answers = lambda fault: None
    waits = [in_thread(client.fault, region, 16 * page, 16) for page in range(3)]
    daemon.until(lambda: len(daemon.faults()) == 3)
    # One at a time, each only after the one before has left, so that whoever was the leader is gone at some point.
    for fault in sorted(daemon.faults(), key=lambda fault: fault.first_page):
        daemon.send(wire.allocated(fault))
        assert waits[fault.first_page].result(90)


def wait_all(client, region, in_thread, daemon, timeouts=(None, None, 30)):
    """Has several threads wait, one with a timeout; returns their futures when the daemon knows their faults."""
    tokens = []
    for page, _ in enumerate(timeouts):
        tokens.append(client.fault(region, 16 * page, 16, wait=False).token)
    return [in_thread(client.wait, token, timeout) for token, timeout in zip(tokens, timeouts, strict=True)]


@pytest.mark.parametrize("end", ["stream ended", "connection lost", "killed"])
def test_the_end_of_the_stream_wakes_all_who_wait(daemon, client, region, wire, in_thread, end):
    yield_all(daemon, wire)
    waits = wait_all(client, region, in_thread, daemon)
    kind = lib_usm.ConnectionLost
    if end == "stream ended":
        daemon.outbox.put(None)
    elif end == "connection lost":
        daemon._server.stop(0)
    else:
        kind = lib_usm.SessionKilled
        daemon.outbox.put(wire.rich_status(grpc.StatusCode.ABORTED, "SESSION_KILLED", "most memory of all"))
    errors = [wait.exception(10) for wait in waits]
    assert [type(error) for error in errors] == [kind] * 3, errors
    assert len({id(error) for error in errors}) == 3
    for use in (lambda: client.mmap(10), lambda: region.read(0, 1), lambda: client.wait(5)):
        with pytest.raises(kind, match="most memory of all" if end == "killed" else None):
            use()


def test_close_wakes_those_who_wait(daemon, client, region, wire, in_thread):
    yield_all(daemon, wire)
    waits = wait_all(client, region, in_thread, daemon)
    client.close()
    assert [type(wait.exception(10)) for wait in waits] == [lib_usm.ClosedError] * 3


def test_outcomes_of_faults_that_nobody_filed_change_nothing(daemon, client, region, wire):
    yield_all(daemon, wire)
    outcome = client.fault(region, 0, 16, wait=False)
    fault = daemon.faults()[0]
    stranger = type(fault)(fault_id=fault.fault_id + 50)
    daemon.send(wire.yielded(stranger, 5), wire.allocated(stranger), wire.allocated(fault))
    assert isinstance(client.wait(outcome.token), lib_usm.Allocated)
    with pytest.raises(lib_usm.UnknownToken):
        client.wait(5)


def test_an_outcome_without_content_is_an_error_of_the_daemon(daemon, client, region, wire):
    daemon.answers = lambda fault: type(wire.allocated(fault))(fault_id=fault.fault_id)
    with pytest.raises(lib_usm.InternalError, match="without an outcome"):
        client.fault(region, 0, 16)


def test_pages_that_came_along_are_not_faulted_again(daemon, client, region, wire):
    def flexible_huge_page(fault):
        fault.first_page, fault.page_count = 0, 8
        return daemon.serve_fault(fault)

    daemon.answers = flexible_huge_page
    region.read(0, 1)
    region.read(16, 16 * 7)
    assert len(daemon.faults()) == 1


def test_a_closed_client_ends_its_stream_and_leaves_no_thread(daemon, poll):
    before = set(threading.enumerate())
    client = lib_usm.connect(daemon.address)
    client.fault(client.mmap(16), 0, 16)
    client.close()
    daemon.until(lambda: daemon.streams_ended == daemon.streams == 2)
    poll(lambda: not [t for t in set(threading.enumerate()) - before if not t.name.startswith("ThreadPool")])


def test_timeouts_of_several_threads_end_their_waits_alone_and_start_no_thread(daemon, client, region, wire, in_thread):
    yield_all(daemon, wire)
    tokens = [client.fault(region, 16 * page, 16, wait=False).token for page in range(4)]
    before = threading.active_count()
    last = in_thread(client.wait, tokens[0])
    waits = [in_thread(client.wait, token, 0.05) for token in tokens[1:3]]
    with pytest.raises(lib_usm.WaitTimeout):
        client.wait(tokens[3], 0.05)
    assert [type(wait.exception(90)) for wait in waits] == [lib_usm.WaitTimeout] * 2
    assert threading.active_count() <= before + 3  # those of the test
    for fault in daemon.faults():
        complete(daemon, wire, fault)
    assert isinstance(last.result(90), lib_usm.Allocated)
    assert all(isinstance(client.wait(token), lib_usm.Allocated) for token in tokens[1:])


def test_a_token_that_another_thread_waits_for_is_unknown_until_that_wait_has_ended(
    daemon, client, region, wire, in_thread
):
    yield_all(daemon, wire)
    token = client.fault(region, 0, 16, wait=False).token
    first = in_thread(client.wait, token, 0.2)
    with pytest.raises((lib_usm.UnknownToken, lib_usm.WaitTimeout)):
        client.wait(token, 0)
    assert type(first.exception(90)) in (lib_usm.WaitTimeout, lib_usm.UnknownToken)
    complete(daemon, wire, daemon.faults()[0])
    assert isinstance(client.wait(token), lib_usm.Allocated)


def test_a_fault_and_the_access_after_it_are_one_message(daemon, client, region):
    region.read(0, 1)
    region.write(16, b"x")
    assert [(len(each.faults), len(each.accesses)) for each in daemon.requests("StreamFaults")] == [(1, 1), (1, 1)]
    region.read(0, 1)
    assert len(daemon.requests("StreamFaults")) == 3


def test_a_stream_that_breaks_is_an_error_of_those_that_wait_and_the_next_fault_opens_another(
    daemon, client, region, wire, monkeypatch
):
    monkeypatch.setattr("lib_usm.channel._WHY_TIMEOUT_SECONDS", 0.01)  # for the session goes on, and says nothing
    region.read(0, 1)
    daemon.answers = lambda _fault: daemon.outboxes[-1].put(None)
    with pytest.raises(lib_usm.ConnectionLost):
        region.read(16, 1)
    daemon.answers = None
    region.write(16, b"again")
    assert region.read(16, 5) == b"again"
    assert daemon.streams == 3


def test_a_stream_that_ended_while_no_thread_waited_is_replaced_without_an_error(daemon, client, region, monkeypatch):
    receive = MessageStream.receive
    region.write(0, b"first")

    def finds_the_end(stream):
        monkeypatch.undo()
        daemon.outboxes[-1].put(None)
        while stream.end is None:
            select.select([stream], [], [])
            receive(stream)
        return []

    monkeypatch.setattr(MessageStream, "receive", finds_the_end)
    assert region.read(0, 5) == b"first"
    assert daemon.streams == 3  # the session's own, and two for the threads


def test_what_interrupts_the_reading_ends_the_stream_and_the_session_goes_on(daemon, client, region, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lib_usm.message_stream.MessageStream.receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.fault(region, 0, 16)
    assert isinstance(client.fault(region, 0, 16), lib_usm.Allocated)


def test_without_a_descriptor_for_the_stream_the_limit_is_named(client, region, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "eventfd", refuse)
    with pytest.raises(lib_usm.LimitExceeded, match="RLIMIT_NOFILE"):
        client.fault(region, 0, 16)


def test_a_wait_that_an_interrupt_ends_keeps_its_token(daemon, client, region, wire):
    yield_all(daemon, wire)
    token = client.fault(region, 0, 16, wait=False).token
    timer = threading.Timer(0.05, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        client.wait(token)
    timer.join()
    complete(daemon, wire, daemon.faults()[0])
    assert isinstance(client.wait(token), lib_usm.Allocated)

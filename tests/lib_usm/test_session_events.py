"""What a session is told of its end: once, where the application is at home, on a stream for that alone."""

import asyncio
import contextvars
import errno
import queue
import threading
from types import SimpleNamespace

import grpc
import pytest

import lib_usm
from lib_usm import session_events as module
from lib_usm.client import Client
from lib_usm.session_events import THREAD_NAME, SessionEvents
from tests.support.uthreads import ControlledStream
from usm_wire.pb.usm.v1 import client_pb2 as pb

SECONDS = 60


def notice(seconds):
    return pb.StreamFaultsResponse(draining=pb.DrainNotice(seconds_left=seconds))


@pytest.fixture
def daemon(daemon, monkeypatch):
    """The session's own stream comes first, as it does where calls on one connection are taken in their order."""

    def second(hear):
        def hear_second(client, *arguments):
            daemon.until(lambda: daemon.streams or client.ended)
            hear(client, *arguments)

        return hear_second

    for name in ("_hear_draining", "_hear_pressure"):
        monkeypatch.setattr(Client, name, second(getattr(Client, name)))
    return daemon


@pytest.fixture
def tell(daemon):
    """Sends a notice on the stream that hears of the session."""

    def send(seconds):
        daemon.until(lambda: daemon.hearing)
        daemon.hearing[-1].put(notice(seconds))

    return send


def passed(threshold, above, some):
    return pb.StreamFaultsResponse(pressure=[pb.PressureNotice(threshold=threshold, above=above, some_avg10=some)])


@pytest.fixture
def heard():
    """What was heard: the seconds, and the name of the thread."""
    calls = queue.SimpleQueue()

    def hear(seconds):
        calls.put((seconds, threading.current_thread().name))

    hear.next = lambda: calls.get(timeout=SECONDS)
    hear.empty = calls.empty
    return hear


def listening():
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def test_a_thread_hears_it_once_on_the_thread_for_that_and_a_late_caller_at_once(client, daemon, tell, heard):
    client.on_draining(heard)
    tell(30.0)
    seconds, thread = heard.next()
    assert (0 < seconds <= 30.0, thread) == (True, THREAD_NAME)
    tell(10.0)
    late = queue.SimpleQueue()
    client.on_draining(late.put)
    assert late.get(timeout=SECONDS) <= 30.0
    assert heard.empty()
    assert [request.hear_session for request in daemon.requests("StreamFaults")] == [True]


def test_a_task_hears_it_in_its_loop_and_in_its_context(client, tell):
    variable = contextvars.ContextVar("variable")

    async def main():
        variable.set("of the task")
        told = asyncio.get_running_loop().create_future()
        client.on_draining(lambda seconds: told.set_result((seconds, threading.current_thread(), variable.get())))
        tell(30.0)
        return await told

    seconds, thread, value = asyncio.run(main())
    assert (seconds <= 30.0, thread, value) == (True, threading.main_thread(), "of the task")


def test_a_loop_that_is_closed_hears_nothing_and_the_others_do(client, tell, heard):
    never = queue.SimpleQueue()

    async def main():
        client.on_draining(never.put)

    asyncio.run(main())
    client.on_draining(heard)
    tell(30.0)
    heard.next()
    assert never.empty()


def test_a_uthread_hears_it_as_another_uthread_of_its_manager_while_that_runs(client, tell, heard):
    manager = lib_usm.LocalManager(client)
    told = []

    def hears():
        client.on_draining(lambda seconds: told.append((seconds, manager.current() is not None)))
        tell(30.0)
        while not told:
            manager.yield_now()

    uthread = manager.spawn(hears)
    manager.run()
    uthread.result()
    assert (told[0][0] <= 30.0, told[0][1]) == (True, True)


def test_after_the_managers_end_the_thread_hears_it(client, tell, heard):
    manager = lib_usm.LocalManager(client)
    manager.spawn(client.on_draining, heard)
    manager.run()
    tell(30.0)
    assert heard.next()[1] == THREAD_NAME


def test_an_exception_of_a_callback_is_that_of_a_thread_and_the_next_is_called(client, tell, heard, monkeypatch):
    raised = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda arguments: raised.put(arguments.exc_value))
    wrong = ValueError("of the application")

    def raises(_seconds):
        raise wrong

    client.on_draining(raises)
    client.on_draining(heard)
    tell(30.0)
    heard.next()
    assert raised.get(timeout=SECONDS) is wrong


def test_a_callback_may_close_the_client(daemon, tell):
    client = lib_usm.connect(daemon.address)
    closed = queue.SimpleQueue()
    client.on_draining(lambda _seconds: closed.put(client.close()))
    tell(30.0)
    closed.get(timeout=SECONDS)
    assert client.closed


def test_the_thread_ends_with_the_client_and_is_not_there_without_a_callback(daemon, heard):
    before = listening()
    with lib_usm.connect(daemon.address) as client:
        assert listening() == before
        client.on_draining(heard)
        assert len(listening()) == len(before) + 1
    assert listening() == before
    assert heard.empty()


def test_the_end_of_the_session_ends_the_thread_and_is_the_error_of_a_later_call(daemon, client, heard, poll, wire):
    client.on_draining(heard)
    daemon.until(lambda: daemon.hearing)
    daemon.outbox.put(wire.rich_status(grpc.StatusCode.UNAVAILABLE, "DRAINING", "it is over"))
    poll(lambda: not listening())
    poll(lambda: client.ended)
    with pytest.raises(lib_usm.Draining):
        client.on_draining(heard)
    assert heard.empty()


def test_a_stream_that_breaks_alone_is_opened_again_for_the_next_caller(daemon, client, tell, heard, poll):
    client.on_draining(heard)
    daemon.until(lambda: daemon.hearing)
    daemon.hearing[-1].put(None)
    poll(lambda: not listening())
    other = queue.SimpleQueue()
    client.on_draining(other.put)
    daemon.until(lambda: len(daemon.requests("StreamFaults")) == 2)
    tell(30.0)
    other.get(timeout=SECONDS)
    heard.next()


def thresholds(daemon):
    """The thresholds that the daemon was asked for, in all messages."""
    return [each for request in daemon.requests("StreamFaults") for each in request.pressure_thresholds]


def test_pressure_is_heard_by_the_callbacks_of_its_threshold_as_often_as_it_passes(client, daemon, heard):
    other = queue.SimpleQueue()
    client.on_pressure(heard, threshold=0.25)
    client.on_pressure(other.put)
    client.on_pressure(other.put, 0.25)
    daemon.until(lambda: thresholds(daemon) == [0.25, 0.5])
    for above, some in ((True, 0.375), (False, 0.125), (True, 0.25)):
        daemon.hearing[-1].put(passed(0.25, above, some))
        pressure, thread = heard.next()
        assert (pressure, thread) == (lib_usm.Pressure(above, some, None), THREAD_NAME)
        assert other.get(timeout=SECONDS) == pressure
    assert [request.hear_session for request in daemon.requests("StreamFaults")].count(True) == 1


def test_a_drain_and_pressure_are_heard_on_one_stream_and_a_new_stream_asks_again(daemon, client, tell, heard, poll):
    client.on_pressure(heard, 0.25)
    daemon.until(lambda: daemon.hearing and thresholds(daemon))
    daemon.hearing[-1].put(None)
    poll(lambda: not listening())
    drains = queue.SimpleQueue()
    client.on_draining(drains.put)
    daemon.until(lambda: thresholds(daemon) == [0.25, 0.25])
    daemon.hearing[-1].put(passed(0.25, True, 0.5))
    assert heard.next()[0].above
    tell(30.0)
    assert drains.get(timeout=SECONDS) <= 30.0


def test_a_task_hears_of_pressure_in_its_loop(client, daemon):
    async def main():
        told = asyncio.get_running_loop().create_future()
        client.on_pressure(lambda pressure: told.set_result((pressure, threading.current_thread())), 1)
        daemon.until(lambda: thresholds(daemon))
        daemon.hearing[-1].put(passed(1.0, True, 1.0))
        return await told

    assert asyncio.run(main()) == (lib_usm.Pressure(True, 1.0, None), threading.main_thread())


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_that_is_no_share_is_refused_and_so_is_one_too_many(client, heard, threshold):
    with pytest.raises(lib_usm.InvalidArgument, match="allowed is a share above 0, up to 1"):
        client.on_pressure(heard, threshold)
    with pytest.raises(lib_usm.WrongType, match="a number is needed"):
        client.on_pressure(heard, "50%")
    assert listening() == []
    for number in range(16):
        client.on_pressure(heard, 1 / (1 + number))
    with pytest.raises(lib_usm.LimitExceeded, match="16 thresholds"):
        client.on_pressure(heard, 0.99)


async def coroutine(_seconds):
    """Not to be called."""


@pytest.mark.parametrize("callback", [None, 3, coroutine])
def test_what_cannot_be_called_is_refused(client, callback):
    for ask in (client.on_draining, client.on_pressure):
        with pytest.raises(lib_usm.InvalidArgument, match="is not a plain function; give one that can be called"):
            ask(callback)
    assert listening() == []


@pytest.mark.parametrize("lacking", ["thread", "descriptor"])
def test_without_a_thread_or_a_descriptor_the_limit_is_named_and_the_stream_closed(monkeypatch, heard, lacking):
    def start():
        raise RuntimeError("can't start new thread")

    def eventfd(*_arguments):
        raise OSError(errno.EMFILE, "Too many open files")

    without = {
        "thread": ("threading", SimpleNamespace(Thread=lambda **_: SimpleNamespace(start=start))),
        "descriptor": ("os", SimpleNamespace(eventfd=eventfd, EFD_CLOEXEC=0, EFD_NONBLOCK=0)),
    }
    stream = ControlledStream()
    events = SessionEvents(lambda: (stream, None))
    with monkeypatch.context() as patch:
        patch.setattr(module, *without[lacking])
        with pytest.raises(lib_usm.LimitExceeded, match="events of the session cannot be heard"):
            events.on_draining(heard)
    assert stream.fileno() == -1
    stream = ControlledStream()
    events.on_draining(heard)
    stream.answer_bytes(notice(3.0).SerializeToString())
    assert heard.next()[0] <= 3.0
    events.close()
    assert listening() == []


def test_bytes_that_are_no_message_end_the_stream(heard, poll):
    stream = ControlledStream()
    events = SessionEvents(lambda: (stream, None))
    events.on_draining(heard)
    stream.answer_bytes(b"\xff")
    poll(lambda: not listening())
    assert isinstance(stream.end, lib_usm.InternalError)
    assert heard.empty()

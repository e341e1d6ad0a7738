import gc
import os
import socket
import uuid

import pytest

from usmd.server.notify import MAX_WAITING, Notifier


@pytest.fixture
def manager():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(90)
        yield receiver


def send(address, *states):
    notifier = Notifier({"NOTIFY_SOCKET": address})
    for state in states:
        notifier.notify(state)
    assert notifier.finish()


def test_messages_arrive_at_a_path_in_their_order(manager, tmp_path):
    path = str(tmp_path / "notify")
    manager.bind(path)
    send(path, "READY=1\nSTATUS=ready", "STOPPING=1")
    assert manager.recv(4096) == b"READY=1\nSTATUS=ready"
    assert manager.recv(4096) == b"STOPPING=1"


def test_a_message_arrives_at_an_abstract_name(manager):
    name = f"usmd-{uuid.uuid4()}"
    manager.bind(f"\0{name}")
    send(f"@{name}", "READY=1")
    assert manager.recv(4096) == b"READY=1"


def test_the_environment_of_the_process_is_the_default(manager, tmp_path, monkeypatch):
    path = str(tmp_path / "notify")
    manager.bind(path)
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    Notifier().notify("READY=1")
    assert manager.recv(4096) == b"READY=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}])
def test_without_a_service_manager_nothing_is_sent_or_said(environ, logged):
    notifier = Notifier(environ)
    notifier.notify("READY=1")
    assert notifier.finish()
    assert logged == []


@pytest.mark.parametrize("address", ["relative", "vsock:2:1"])
def test_an_address_of_another_kind_is_logged_once_and_not_used(address, logged):
    send(address, "READY=1", "STOPPING=1")
    (line,) = logged
    assert (line["event"], line["log_level"], line["socket"]) == ("notify_failed", "warning", address)


def test_a_manager_that_is_gone_is_logged(tmp_path, logged):
    path = str(tmp_path / "absent")
    send(path, "READY=1")
    (line,) = logged
    assert (line["event"], line["socket"]) == ("notify_failed", path)
    assert "No such file" in line["error"]


def test_a_manager_that_does_not_read_delays_no_caller_and_gets_its_messages_when_it_reads(manager, tmp_path, logged):
    path = str(tmp_path / "notify")
    manager.bind(path)
    queued = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.connect(path)
        filler.setblocking(False)
        try:
            while True:
                filler.send(b"full")
                queued += 1
        except BlockingIOError:
            pass
    notifier = Notifier({"NOTIFY_SOCKET": path})
    sent = MAX_WAITING + 2  # one is with the thread, which waits in sendto, and one or two are lost
    for number in range(sent):
        notifier.notify(f"STATUS={number}")
    assert {line["error"] for line in logged} == {f"{MAX_WAITING} messages wait already, because it does not read"}
    for _ in range(queued):
        assert manager.recv(4096) == b"full"
    assert manager.recv(4096) == b"STATUS=0"
    assert manager.recv(4096) == b"STATUS=1"


def test_no_descriptor_is_left_open(manager, tmp_path):
    path = str(tmp_path / "notify")
    manager.bind(path)
    gc.collect()  # what earlier tests left open closes now, and not in between
    before = len(os.listdir("/proc/self/fd"))
    send(path, "READY=1")
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize(
    ("environ", "sent"),
    [
        ({"WATCHDOG_USEC": "4000000"}, 3),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}, 3),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "none"}, 0),
        ({}, 0),
    ],
)
def test_a_service_manager_that_asks_for_it_hears_twice_in_its_time_that_the_loop_goes_round(
    environ, sent, manager, tmp_path
):
    path = str(tmp_path / "notify")
    manager.bind(path)
    notifier = Notifier({"NOTIFY_SOCKET": path, **environ})
    for now in (10.0, 11.0, 12.0, 13.9, 14.0):
        notifier.alive(now, lambda: None)
    notifier.notify("STOPPING=1")
    assert notifier.finish()
    assert [manager.recv(4096) for _ in range(sent + 1)] == [b"WATCHDOG=1"] * sent + [b"STOPPING=1"]


def test_nothing_is_sent_while_the_self_check_finds_something_and_that_is_said_once(manager, tmp_path, logged):
    path = str(tmp_path / "notify")
    manager.bind(path)
    notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"})
    found = iter([None, "1 frame is lost", "1 frame is lost", None])
    for now in (10.0, 10.5, 11.0, 12.0, 13.0):
        notifier.alive(now, lambda: next(found))  # at 10.5 it is not due
    assert notifier.finish()
    said = [manager.recv(4096) for _ in range(3)]
    assert said == [b"WATCHDOG=1", b"STATUS=the self-check has failed: 1 frame is lost", b"WATCHDOG=1"]
    assert [(each["event"], each["message"]) for each in logged] == [("self_check_failed", "1 frame is lost")]

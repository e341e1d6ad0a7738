import os
import socket
import uuid

import pytest

from usmd.server import notify as module
from usmd.server.notify import notify


@pytest.fixture
def manager():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(10)
        yield receiver


@pytest.fixture
def warnings(monkeypatch):
    found = []

    class Logger:
        def warning(self, event, **fields):
            found.append((event, fields))

    monkeypatch.setattr(module, "get_logger", Logger)
    return found


def test_a_message_arrives_at_a_path(manager, tmp_path):
    path = str(tmp_path / "notify")
    manager.bind(path)
    assert notify("READY=1\nSTATUS=ready", {"NOTIFY_SOCKET": path}) is True
    assert notify("STOPPING=1", {"NOTIFY_SOCKET": path}) is True
    assert manager.recv(4096) == b"READY=1\nSTATUS=ready"
    assert manager.recv(4096) == b"STOPPING=1"


def test_a_message_arrives_at_an_abstract_name(manager):
    name = f"usmd-{uuid.uuid4()}"
    manager.bind(f"\0{name}")
    assert notify("READY=1", {"NOTIFY_SOCKET": f"@{name}"}) is True
    assert manager.recv(4096) == b"READY=1"


def test_the_environment_of_the_process_is_the_default(manager, tmp_path, monkeypatch):
    path = str(tmp_path / "notify")
    manager.bind(path)
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    assert notify("READY=1") is True
    assert manager.recv(4096) == b"READY=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}])
def test_nothing_is_sent_or_said_when_nobody_asked(environ, warnings):
    assert notify("READY=1", environ) is False
    assert warnings == []


@pytest.mark.parametrize("address", ["relative", "vsock:2:1"])
def test_an_address_of_another_kind_is_logged_and_not_used(address, warnings):
    assert notify("READY=1", {"NOTIFY_SOCKET": address}) is False
    ((event, fields),) = warnings
    assert (event, fields["socket"]) == ("notify_failed", address)


def test_a_manager_that_is_gone_is_logged(tmp_path, warnings):
    path = str(tmp_path / "absent")
    assert notify("READY=1", {"NOTIFY_SOCKET": path}) is False
    ((_, fields),) = warnings
    assert "No such file" in fields["error"]


def test_a_manager_that_does_not_read_stops_the_wait_and_not_the_daemon(manager, tmp_path, warnings, monkeypatch):
    path = str(tmp_path / "notify")
    manager.bind(path)
    monkeypatch.setattr(module, "SEND_SECONDS", 0.05)
    sent = 0
    while notify("STATUS=x", {"NOTIFY_SOCKET": path}):
        sent += 1
        assert sent < 100_000
    assert "timed out" in warnings[0][1]["error"]


def test_no_descriptor_is_left_open(manager, tmp_path):
    path = str(tmp_path / "notify")
    manager.bind(path)
    before = len(os.listdir("/proc/self/fd"))
    notify("READY=1", {"NOTIFY_SOCKET": path})
    assert len(os.listdir("/proc/self/fd")) == before

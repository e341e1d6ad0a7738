"""Connecting in a forked child: a limit for what gRPC may never answer."""

import os
import threading

import pytest

import lib_usm
from lib_usm import forked


@pytest.fixture
def child(monkeypatch):
    """As in a child of a process that used gRPC."""
    process = forked._Process()
    process.used = True
    monkeypatch.setattr(forked, "_process", process)
    forked._in_child()
    assert process.doubtful


def test_in_a_process_of_its_own_nothing_is_between(monkeypatch):
    monkeypatch.setattr(forked, "_process", forked._Process())
    assert forked.guarded(threading.get_ident) == threading.get_ident()
    assert forked._process.used


def test_a_child_of_a_process_that_never_used_it_is_in_no_doubt(monkeypatch):
    monkeypatch.setattr(forked, "_process", forked._Process())
    forked._in_child()
    assert not forked._process.doubtful


def test_in_a_child_it_is_done_and_raises_what_it_does(child, daemon):
    assert forked.guarded(threading.get_ident) != threading.get_ident()
    error = ZeroDivisionError()

    def fail():
        raise error

    with pytest.raises(ZeroDivisionError) as caught:
        forked.guarded(fail)
    assert caught.value is error
    with lib_usm.connect(daemon.address) as client:
        client.mmap(50)[0] = 1


def test_in_a_child_that_hangs_it_is_an_error_that_says_what_to_do(child, monkeypatch):
    monkeypatch.setattr(forked, "_SECONDS", 0)
    never = threading.Event()
    with pytest.raises(lib_usm.ForkedChild, match=r"spawn, or set GRPC_ENABLE_FORK_SUPPORT=1"):
        forked.guarded(never.wait)
    never.set()


def test_a_fork_is_noticed(monkeypatch):
    process = forked._Process()
    process.used = True
    monkeypatch.setattr(forked, "_process", process)
    child = os.fork()
    if not child:
        os._exit(process.doubtful)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert not process.doubtful

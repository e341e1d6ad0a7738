"""The module-level calls on the default client."""

import subprocess
import sys
import textwrap

import grpc
import pytest

import lib_usm
from lib_usm import default
from tests.support.daemon import running_daemon


@pytest.fixture
def address(daemon, monkeypatch):
    """Points the environment at the daemon, and gives the test a default client of its own."""
    own = default.DefaultClient()
    monkeypatch.setattr(default, "_default", own)
    monkeypatch.setenv("USM_ADDRESS", daemon.address)
    yield daemon.address
    own.close()


def test_the_default_client_is_made_at_the_first_call_and_kept(daemon, address):
    assert daemon.attached is None
    first, second = lib_usm.mmap(10, name="a"), lib_usm.mmap(20, "b")
    assert first.client is second.client is lib_usm.default_client()
    assert len(daemon.requests("Attach")) == 1
    first[0:2] = b"ab"
    assert first[0:2] == b"ab"


def test_hints_go_to_the_client_of_the_region(daemon, address, make_daemon):
    lib_usm.usm_hint(lib_usm.mmap(10), "PRIORITY=HIGH", 2, 3)
    assert [(r.offset, r.length) for r in daemon.requests("HintRegion")] == [(2, 3)]
    other = make_daemon()
    with lib_usm.connect(other.address) as client:
        lib_usm.usm_hint(client.mmap(10), "PRIORITY=LOW")
    assert [r.text for r in other.requests("HintRegion")] == ["PRIORITY=LOW"]


def test_after_a_close_the_next_call_makes_a_new_client(daemon, address):
    lib_usm.default_client().close()
    lib_usm.mmap(10)
    assert len(daemon.requests("Attach")) == 2


def test_threads_get_the_same_client(daemon, address, in_thread):
    clients = [in_thread(lib_usm.default_client) for _ in range(8)]
    assert len({id(client.result(90)) for client in clients}) == 1


def test_without_a_daemon_the_error_tells_the_address_in_the_environment(address, monkeypatch, tmp_path):
    monkeypatch.setenv("USM_ADDRESS", f"unix:{tmp_path}/none")
    with pytest.raises(lib_usm.DaemonUnavailable, match="/none"):
        lib_usm.mmap(10)


def test_a_program_that_uses_it_detaches_at_its_end_without_a_word(daemon):
    code = "import lib_usm; r = lib_usm.mmap(50); lib_usm.usm_hint(r, 'PRIORITY=HIGH'); r[0] = 7; print(r[0])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"USM_ADDRESS": daemon.address, "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")
    assert len(daemon.requests("Detach")) == 1


def test_after_the_end_of_its_session_the_next_call_makes_a_new_client(daemon, address, poll, make_daemon, monkeypatch):
    old = lib_usm.mmap(10)
    daemon.outbox.put(None)
    poll(lambda: old.client.ended)
    following = make_daemon()
    monkeypatch.setenv("USM_ADDRESS", following.address)
    new = lib_usm.mmap(10)
    assert new.client is not old.client
    with pytest.raises(lib_usm.ConnectionLost):
        old[0] = 1
    new[0] = 1
    assert len(following.requests("Attach")) == 1


def test_an_end_that_shows_only_at_the_call_makes_a_new_client_too(daemon, address, wire):
    old = lib_usm.mmap(10)
    refusal = wire.rich_status(grpc.StatusCode.ABORTED, "SESSION_KILLED", "killed")

    def enter(method, request, context, enter=daemon._enter):
        if method == "Attach":
            daemon.refusals.clear()
        enter(method, request, context)

    daemon._enter = enter
    daemon.refusals["MapRegion"] = refusal
    assert lib_usm.mmap(10).client is not old.client
    assert len(daemon.requests("MapRegion")) == 3


def test_other_errors_of_a_call_pass(daemon, address, wire):
    client = lib_usm.default_client()
    daemon.refusals["MapRegion"] = wire.rich_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", "too many")
    with pytest.raises(lib_usm.LimitExceeded):
        lib_usm.mmap(10)
    assert lib_usm.default_client() is client


FORK = """
    import os, sys
    import lib_usm

    parents = lib_usm.mmap(50, "parents")
    parents[0:2] = b"ab"
    child = os.fork()
    if child == 0:
        own = lib_usm.mmap(50, "childs")
        own[0:2] = b"cd"
        try:
            parents[0]
        except lib_usm.ForkedChild:
            print(bytes(own[0:2]), flush=True)
        lib_usm.default_client().close()
        os._exit(0)
    print(os.waitpid(child, 0)[1], bytes(parents[0:2]))
"""


def test_a_forked_child_gets_a_client_of_its_own(tmp_path):
    with running_daemon(tmp_path, "--memory", "1MiB", mechanism="simulated") as daemon:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(FORK)],
            env={
                "USM_ADDRESS": daemon.address,
                "GRPC_ENABLE_FORK_SUPPORT": "1",
                "PYTHONPATH": ":".join(filter(None, sys.path)),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "b'cd'\n0 b'ab'\n"), done.stderr

"""How sessions begin and end: names, close, fork()."""

import gc
import subprocess
import sys
import textwrap
import threading

import grpc
import pytest

import lib_usm
from lib_usm.session import default_name


def run_python(code, *arguments):
    """Runs `code` in a Python of its own with warnings as errors; returns the completed process."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("program", "name"),
    [("/usr/bin/index.py", "index"), ("", "python"), ("-c", "python"), ("-m", "python"), ("a" * 99 + ".py", "a" * 64)],
)
def test_the_default_name_is_the_programs(monkeypatch, program, name):
    monkeypatch.setattr(sys, "argv", [program])
    assert default_name() == name


def test_unprintable_characters_of_a_program_do_not_get_into_its_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["in\ndex.py"])
    assert default_name() == "index"


def test_the_daemon_learns_the_name(daemon):
    lib_usm.connect(daemon.address, name="indexer").close()
    assert daemon.attached.name == "indexer"


def test_the_daemon_learns_the_policies_that_are_chosen(daemon):
    lib_usm.connect(daemon.address, alloc="flexible_huge_pages(pages=64)", evict="s3_fifo").close()
    assert (daemon.attached.alloc, daemon.attached.evict) == ("flexible_huge_pages(pages=64)", "s3_fifo")
    lib_usm.connect(daemon.address).close()
    assert (daemon.attached.alloc, daemon.attached.evict) == ("", "")


@pytest.mark.parametrize(("choice", "said"), [("", "is empty"), (" ", "is empty"), (5, "a str is needed")])
def test_what_names_no_policy_is_refused_before_the_daemon_is_asked(daemon, choice, said):
    for kind in ("alloc", "evict"):
        with pytest.raises(lib_usm.InvalidArgument, match=f"^{kind} policy {choice!r} .*{said}"):
            lib_usm.connect(daemon.address, **{kind: choice})
    assert daemon.requests("Attach") == []


def test_close_detaches_once_and_later_uses_are_refused(daemon):
    with lib_usm.connect(daemon.address) as client:
        assert not client.closed
    client.close()
    assert client.closed
    assert len(daemon.requests("Detach")) == 1
    for use in (lambda: client.mmap(5), lambda: client.wait(1)):
        with pytest.raises(lib_usm.ClosedError):
            use()


def test_a_closed_client_that_is_still_referred_to_keeps_no_grpc_call(daemon):
    # Such a call hung the interpreter at its end now and then: its `__del__` waits for a lock that a thread of gRPC may
    # have taken with it.
    def calls():
        return sum(isinstance(each, grpc.Call) for each in gc.get_objects())

    gc.collect()
    before = calls()
    client = lib_usm.connect(daemon.address)
    client.mmap(4096)[0] = 1
    assert calls() == before + 1
    client.close()
    gc.collect()
    assert calls() == before
    assert client.closed


def test_close_is_quiet_when_the_daemon_is_gone(daemon, client):
    daemon._server.stop(0).wait()
    client.close()


def test_a_call_under_way_when_another_thread_closes_is_told_so(daemon, client, in_thread):
    region = client.mmap(64)
    gate = daemon.gates["Load"] = threading.Event()
    load = in_thread(region.read, 0, 16)
    daemon.until(lambda: daemon.requests("Load"))
    client.close()
    assert isinstance(load.exception(10), lib_usm.ClosedError)
    gate.set()


def test_a_program_that_does_not_close_ends_quietly(daemon):
    code = """
        import lib_usm, sys
        client = lib_usm.connect(sys.argv[1])
        region = client.mmap(100)
        region[0:5] = b"hello"
        print(region[0:5].decode())
    """
    done = run_python(code, daemon.address)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    daemon.until(lambda: daemon.streams_ended == daemon.streams == 2)


def test_in_a_forked_child_every_use_is_an_error_and_the_parents_session_goes_on(daemon):
    code = """
        import lib_usm, os, sys
        with lib_usm.connect(sys.argv[1]) as client:
            region = client.mmap(100)
            region[0:5] = b"hello"
            child = os.fork()
            if child == 0:
                uses = [
                    lambda: region[0], lambda: client.mmap(5), lambda: client.wait(1), lambda: region.close(),
                    lambda: client.fault(region, 0, 1), lambda: client.fault_many([]),
                ]
                seen = 0
                for use in uses:
                    try:
                        use()
                    except lib_usm.ForkedChild as error:
                        seen += str(os.getppid()) in str(error)
                client.close()
                os._exit(seen)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(status, region[0:5].decode())
    """
    done = run_python(code, daemon.address)
    assert (done.returncode, done.stdout) == (0, "6 hello\n"), done.stderr
    assert len(daemon.requests("Detach")) == 1


def test_a_client_that_is_closed_while_a_region_is_mapped_says_so(client):
    class Memory:
        def map(self, *_):
            client.close()
            raise lib_usm.UnknownSession("no session has this token")

        def close(self):
            pass

    client._memory = Memory()
    with pytest.raises(lib_usm.ClosedError):
        client.mmap(16)

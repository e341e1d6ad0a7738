"""Sessions: names, regions, hints, faults checked before they are sent, the end, and fork()."""

import gc
import subprocess
import sys
import textwrap
import threading

import grpc
import pytest

import lib_usm
from lib_usm.arguments import counted
from lib_usm.client import default_name


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


def test_the_session_is_told(daemon, client):
    assert client.process_id == 7
    assert client.page_size == 16
    assert client.max_fault_pages == 4
    assert client.address == daemon.address
    assert repr(client) == f"<Client 7 of {daemon.address}>"


@pytest.mark.parametrize("length", [0, -1, 1 << 63, 1 << 80])
def test_impossible_lengths_are_refused_before_anything_is_sent(daemon, client, length):
    with pytest.raises(lib_usm.InvalidArgument, match=f"region of {length} bytes"):
        client.mmap(length)
    assert not daemon.requests("MapRegion")


def test_a_region_gets_its_name(daemon, client):
    client.mmap(5, name="index")
    client.mmap(6)
    assert [(r.length, r.name) for r in daemon.requests("MapRegion")] == [(5, "index"), (6, "")]


def test_text_that_is_no_text_is_refused(client):
    region = client.mmap(5)
    with pytest.raises(lib_usm.InvalidArgument, match="region name"):
        client.mmap(5, name="\ud800")
    with pytest.raises(lib_usm.InvalidHint, match="hint"):
        client.usm_hint(region, "X_A=\ud800")


def test_a_hint_covers_the_range_and_tells_what_became_of_it(daemon, client):
    region = client.mmap(64)
    assert client.usm_hint(region, "PRIORITY=HIGH", 3, 20) == lib_usm.Hint(3, 1, 2, 0)
    client.usm_hint(region, "", offset=60)
    requests = daemon.requests("HintRegion")
    assert [(r.region_id, r.offset, r.length, r.text) for r in requests] == [
        (region.region_id, 3, 20, "PRIORITY=HIGH"),
        (region.region_id, 60, 4, ""),
    ]
    assert requests[1].WhichOneof("hint") == "text"


def test_a_key_that_no_policy_acts_on_and_pages_that_deny_cannot_keep_are_warned_of_at_the_callers_line(client):
    region = client.mmap(64, name="index")
    with pytest.warns(
        UserWarning, match="no policy of this process acts on X_ONE or X_TWO of the hint .* 'index'"
    ) as seen:
        answer = client.usm_hint(region, "X_ONE=1; X_TWO=2; PRIORITY=LOW")
    assert answer.unheeded_keys == ("X_ONE", "X_TWO")
    assert [each.filename for each in seen] == [__file__]
    with pytest.warns(UserWarning, match="^1 page asked for EVICTION=DENY beyond the budget") as seen:
        assert lib_usm.usm_hint(region, "EVICTION=DENY").over_budget_pages == 1
    assert [each.filename for each in seen] == [__file__]


def test_pages_that_came_in_beyond_the_budget_since_are_told_of_by_the_next_call(daemon, client):
    region = client.mmap(64)
    daemon.over_budget = 7
    with pytest.warns(UserWarning, match="7 pages asked for EVICTION=DENY") as seen:
        assert client.kept() == lib_usm.Kept(1, 2, 10, 7, 5)
    assert [each.filename for each in seen] == [__file__]
    client.usm_hint(region, "PRIORITY=LOW")


def test_a_bad_hint_raises_the_daemons_text(daemon, client, wire):
    text = "hint key 'COLOUR' is unknown"
    daemon.refusals["HintRegion"] = wire.rich_status(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_HINT", text)
    with pytest.raises(lib_usm.InvalidHint, match="COLOUR"):
        client.usm_hint(client.mmap(5), "COLOUR=RED")


@pytest.mark.parametrize(("offset", "length"), [(-1, 2), (0, 0), (64, None), (65, None), (60, 5), (0, -1)])
def test_ranges_outside_are_refused_for_hints_and_faults(daemon, client, offset, length):
    region = client.mmap(64)
    with pytest.raises(lib_usm.OutOfRange):
        client.usm_hint(region, "PRIORITY=LOW", offset, length)
    with pytest.raises(lib_usm.OutOfRange):
        client.fault(region, offset, 0 if length is None else length)
    assert len(daemon.calls) == 2  # Attach, MapRegion


@pytest.mark.parametrize(("first_page", "page_count"), [(-1, 1), (0, 0), (0, -1), (3, 2), (4, 1), (1 << 70, 1)])
def test_pages_outside_are_refused(client, first_page, page_count):
    with pytest.raises(lib_usm.OutOfRange, match=f"{counted(page_count, 'page')} from page {first_page} on .* 4 pages"):
        client.fault_many([(client.mmap(64), first_page, page_count)])


def test_a_fault_of_too_many_pages_is_refused_with_the_limit(daemon, client):
    region = client.mmap(16 * 10)
    for use in (lambda: client.fault(region, 15, 16 * 4), lambda: client.fault_many([(region, 0, 5)])):
        with pytest.raises(lib_usm.InvalidArgument, match="5 pages is too large; at most 4"):
            use()
    assert isinstance(client.fault(region, 15, 16 * 3 + 1), lib_usm.Allocated)
    assert [(fault.first_page, fault.page_count) for fault in daemon.faults()] == [(0, 4)]


def test_a_region_of_another_client_is_refused(daemon, make_daemon, client):
    with lib_usm.connect(make_daemon().address) as other:
        region = other.mmap(5)
        for use in (lambda: client.fault(region, 0, 1), lambda: client.usm_hint(region, "PRIORITY=LOW")):
            with pytest.raises(lib_usm.InvalidArgument, match="belongs to another client"):
                use()


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
    daemon.until(lambda: daemon.streams_ended == 1)


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


# More than there is


def test_more_than_memory_and_swap_is_a_warning_and_with_reserve_an_error_before_anything_is_made(make_daemon):
    daemon = make_daemon(capacity_bytes=10 * 16)
    with lib_usm.connect(daemon.address) as client:
        first = client.mmap(100, reserve=True)  # 7 pages
        with pytest.raises(
            lib_usm.LimitExceeded, match=r"49 bytes this session maps 176 bytes.* for 160 bytes, which all"
        ):
            client.mmap(49, reserve=True)
        assert len(daemon.requests("MapRegion")) == 1
        kept = client.mmap(48, reserve=True)
        with pytest.warns(UserWarning, match="maps 176 bytes") as caught:
            client.mmap(1)
        assert caught[0].filename == __file__
        first.close()
        assert len(client.mmap(96, reserve=True)) == 2 * len(kept)


def test_a_daemon_that_does_not_tell_what_it_has_is_not_asked_for_it(client):
    client.mmap(1 << 40, reserve=True)


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

"""The event log of a real daemon: its replay makes the same state, and no byte of a page is in it."""

import lib_usm
from tests.support.daemon import run_usmd, running_daemon
from tests.support.real_daemon import FRAMES, real_daemon
from tests.support.real_memory import require_real_memory
from tests.support.told_client import told_clients
from usmd.core import events
from usmd.lab.event_records import read_record
from usmd.lab.event_replay import Replay

PAGE = 4096
SECRET = b"a secret of the client "


def replayed(path):
    with path.open("rb") as lines:
        return Replay(lines).run()


def kinds(path):
    return {type(read_record(line).event) for line in path.read_bytes().splitlines(keepends=True)[1:]}


def test_real_faults_evictions_and_swap_ins_are_replayed(tmp_path):
    require_real_memory()
    path = tmp_path / "events.jsonl"
    flags = ("--trace-events", str(path), "--alloc", "first_fit")  # a fault a page, so that there are many events
    with real_daemon(tmp_path, *flags) as daemon, told_clients(daemon.address, "app") as (client,):
        client.map("data", 4 * FRAMES)
        client.do("fill", name="data", seed=1, first=0, pages=4 * FRAMES)
        assert client.do("wrong", name="data", seed=1, first=0, pages=4 * FRAMES) == []
        assert daemon.usmctl("debug", "validate")["violation_count"] == 0
    found = replayed(path)
    assert found.same, found.difference
    assert (found.ended, found.compared) == ("", found.events)
    assert found.states > 0
    assert {events.PageFaults, events.Protected, events.SwapOutDone, events.SwapInDone, events.Tick} <= kinds(path)


def test_loads_stores_hints_and_policies_are_replayed_and_no_byte_of_a_page_is_in_the_log(tmp_path):
    path = tmp_path / "events.jsonl"
    given = ("--memory", "256KiB", "--swap", "memory:4MiB", "--trace-events", str(path))
    with (
        running_daemon(tmp_path, *given) as daemon,
        lib_usm.connect(daemon.address, name="app") as client,
        client.mmap(1 << 20) as region,
    ):
        for page in range(256):
            region.write(page * PAGE, SECRET * 100)
        region.hint("PRIORITY=LOW; TTL=60", 0, 16 * PAGE)
        daemon.usmctl("policy", "set", "app", "--evict", "sieve")
        for page in range(256):
            assert region.read(page * PAGE, len(SECRET)) == SECRET
    found = replayed(path)
    assert found.same, found.difference
    assert {events.Faults, events.Access, events.SetHint, events.SetPolicy, events.Detach} <= kinds(path)
    assert SECRET not in path.read_bytes()


def test_a_log_in_a_place_where_it_cannot_be_is_a_mistake_of_the_configuration(tmp_path):
    path = tmp_path / "precious"
    path.write_text("precious")
    done = run_usmd("serve", "--socket", str(tmp_path / "usmd.sock"), "--admin-socket", str(tmp_path / "admin.sock"),
                    "--trace-events", str(path))  # fmt: skip
    assert done.returncode == 2
    assert "is not an event log" in done.stderr
    assert path.read_text() == "precious"

"""Sampled touches on real memory: policies that look at touches miss less than fifo, and operators see why."""

import mmap
from pathlib import Path

import pytest

import lib_usm
from tests.support.daemon import running_daemon
from tests.support.native import compiled, require_native, run_managed
from tests.support.real_daemon import real_daemon
from tests.support.real_memory import require_pageout, require_sampling
from tests.support.told_client import told_clients
from usmd.core import events
from usmd.lab.event_records import read_record
from usmd.lab.event_replay import Replay

PAGE = 4096
FRAMES = 384
PAGES = 1024
HOT = 96
"""Pages that are touched between any STEP others. With fifo each goes out and comes back again and again."""
STEP = 24
MOST = "[memory]\nsampling = 16\n"


@pytest.fixture(autouse=True)
def sampling():
    require_sampling()


WITHOUT_RIGHTS = "tests.support.unsampled_daemon:without_rights"
BY_PAGEOUT = "tests.support.unsampled_daemon:by_pageout"


def misses(folder, evict, config="", change=WITHOUT_RIGHTS):
    """Pages that come in while hot pages are touched between others, after memory has filled; and the counters."""
    folder.mkdir()
    flags = ("--memory", str(FRAMES * PAGE), "--swap", "memory:16MiB", "--evict", evict, "--alloc", "first_fit")
    way = "pageout" if change == BY_PAGEOUT else "client"
    with (
        running_daemon(folder, *flags, config=config, mechanism="userfaultfd", changes=(change,)) as daemon,
        told_clients(daemon.address, "app") as (app,),
    ):
        app.map("data", PAGES)
        app.do("fill", name="data", seed=1, first=0, pages=PAGES)
        before = daemon.counters()
        for first in range(HOT, PAGES - STEP, STEP):
            assert app.do("wrong", name="data", seed=1, first=0, pages=HOT) == []
            assert app.do("wrong", name="data", seed=1, first=first, pages=STEP) == []
        after = daemon.counters()
        suspended = daemon.events("sampling_suspended") or daemon.admin.status().sampling != way
        if "off" not in config and suspended:
            pytest.skip("the kernel got swap meanwhile, so touches were not sampled")
        assert after["zero_fills"] == before["zero_fills"]
        return after["swap_ins"] - before["swap_ins"], after


@pytest.fixture(scope="module")
def with_fifo(tmp_path_factory):
    require_sampling()
    return misses(tmp_path_factory.mktemp("fifo") / "usmd", "fifo")[0]


@pytest.mark.parametrize(
    ("evict", "change"),
    [("lru", WITHOUT_RIGHTS), ("clock", WITHOUT_RIGHTS), ("arc", WITHOUT_RIGHTS), ("s3_fifo", BY_PAGEOUT)],
)
def test_pages_that_are_touched_often_stay_with_a_policy_that_looks_at_touches(tmp_path, with_fifo, evict, change):
    if change == BY_PAGEOUT:
        require_pageout()
    found, counters = misses(tmp_path / "usmd", evict, change=change)
    assert counters["rescued"] > 0
    assert found < with_fifo


def test_without_sampling_lru_is_fifo(tmp_path, with_fifo):
    found, counters = misses(tmp_path / "usmd", "lru", '[memory]\nsampling = "off"\n')
    assert [counters[name] for name in ("sampled", "rescued", "minor_faults_sampled")] == [0, 0, 0]
    assert found == pytest.approx(with_fifo, rel=0.1)


def test_its_events_are_replayed(tmp_path):
    path = tmp_path / "events.jsonl"
    with (
        real_daemon(tmp_path, "--trace-events", str(path), config=MOST) as daemon,
        told_clients(daemon.address, "app") as (app,),
    ):
        app.map("data", 512)
        app.do("fill", name="data", seed=1, first=0, pages=512)
        for first in range(0, 512, 16):
            assert app.do("wrong", name="data", seed=1, first=first, pages=16) == []
            assert app.do("wrong", name="data", seed=1, first=0, pages=32) == []
        assert daemon.counters()["rescued"] > 0
    with path.open("rb") as lines:
        found = Replay(lines).run()
    assert found.same, found.difference
    kinds = {type(read_record(line).event) for line in path.read_bytes().splitlines(keepends=True)[1:]}
    assert events.SetSampling in kinds


def test_a_client_that_drops_its_pages_all_the_time_loses_no_byte_though_usmd_takes_them_out_too(tmp_path):
    with (
        real_daemon(tmp_path, config=MOST) as daemon,
        told_clients(daemon.address, "app") as (app,),
    ):
        app.map("data", 512)
        app.do("fill", name="data", seed=1, first=0, pages=512)
        for first in range(0, 512, 16):
            app.do("madvise", name="data", first=0, pages=512, advice=mmap.MADV_DONTNEED)
            assert app.do("wrong", name="data", seed=1, first=first, pages=16) == []
            assert app.do("wrong", name="data", seed=1, first=0, pages=32) == []
        counters = daemon.counters()
        assert counters["minor_faults_sampled"] > counters["rescued"]
        assert counters["sampled"] > 0


def test_touches_of_a_program_in_c_are_heard_without_any_right(tmp_path):
    require_native()
    client = compiled(tmp_path, Path(__file__).with_name("native_client.c"))
    with real_daemon(
        tmp_path, "--evict", "lru", "--alloc", "first_fit", config=MOST, changes=(WITHOUT_RIGHTS,)
    ) as daemon:
        done = run_managed(daemon, client, "hot", 1024, HOT // 2)
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
        counters = daemon.counters()
        assert counters["sampled"] > counters["rescued"] > 0
        daemon.never("sampling_ended")


def test_a_way_that_is_refused_is_given_up_and_told_and_the_client_is_served_all_the_same(tmp_path):
    with (
        real_daemon(tmp_path, changes=("tests.support.unsampled_daemon:refuse",)) as daemon,
        told_clients(daemon.address, "app") as (app,),
    ):
        app.map("data", 512)
        app.do("fill", name="data", seed=1, first=0, pages=512)
        assert app.do("wrong", name="data", seed=1, first=0, pages=512) == []
        assert "CAP_SYS_NICE" in daemon.expect("sampling_ended")["why"]
        assert daemon.counters()["minor_faults_sampled"] == 0


def test_operators_see_how_touches_are_heard_of(tmp_path):
    with real_daemon(tmp_path, changes=(WITHOUT_RIGHTS,)) as daemon:
        assert daemon.usmctl("status")["sampling"] == "client"
        doctor = daemon.usmctl("doctor")
        assert (doctor["sampling_way"], doctor["sampling_error"]) == ("client", "")


@pytest.mark.parametrize("allowed", [True, False])
def test_a_client_that_cannot_take_its_own_pages_out_is_sampled_only_where_usmd_may(tmp_path, monkeypatch, allowed):
    if allowed:
        require_pageout()
    monkeypatch.setattr("lib_usm.taking_out.available", False)
    with (
        real_daemon(tmp_path, changes=() if allowed else (WITHOUT_RIGHTS,)) as daemon,
        lib_usm.connect(daemon.address, name="old"),
    ):
        said = daemon.admin.status().sampling
        if allowed:
            assert said == "pageout"
        else:
            assert said.startswith("client, but not of 1 process: it does not take its own pages out")
            assert "CAP_SYS_NICE" in daemon.expect("sampling_ended")["why"]

"""A recording of a live process, replayed; and simulations beside it, which see the same and are gone in the end."""

import contextlib
import json
import os
import random
import signal

import pytest

import lib_usm
from tests.support.daemon import running_daemon, wait_until
from tests.support.real_memory import require_real_memory
from tests.support.told_client import told_clients

PAGE = 4096
MEMORY = ("--memory", "512KiB", "--swap", "memory:8MiB", "--evict", "lru")
FRAMES = 128
PAGES = 256


@contextlib.contextmanager
def usmctl(daemon, *arguments):
    """A usmctl that goes on until it is told to end."""
    with daemon.start_usmctl(*arguments) as process:
        try:
            yield process
        finally:
            process.kill()


def skewed(count, seed=3):
    """Pages, of which some are wanted more than others."""
    source = random.Random(seed)
    return [int(PAGES * source.random() ** 2) for _ in range(count)]


def replayed(daemon, file, *arguments):
    return daemon.usmctl("replay", str(file), *arguments)


@pytest.fixture
def scene(tmp_path):
    """A daemon, a client with a region larger than memory, and its model."""
    # Else a page is read once more where a busy machine takes longer from its fault to its read than it is held.
    held = "[memory]\nhold_seconds = 60\n"
    with (
        running_daemon(tmp_path, *MEMORY, config=held) as daemon,
        lib_usm.connect(daemon.address, name="app") as client,
    ):
        region = client.mmap(PAGES * PAGE, name="data")
        data = os.urandom(len(region))
        region.write(0, data)
        yield daemon, client, region, data


def test_a_recording_has_every_access_in_order_and_replays(scene, tmp_path):
    daemon, client, region, data = scene
    file = tmp_path / "app.usm"
    pages = skewed(800)
    with usmctl(daemon, "record", "--process", "app", "-o", str(file), "--format", "json") as record:
        wait_until(lambda: file.exists() and file.stat().st_size, "the recording has begun")
        before = dict(daemon.admin.processes()[0].counters)
        for page in pages:
            assert region.read(page * PAGE + 5, 3) == data[page * PAGE + 5 : page * PAGE + 8]
        after = dict(daemon.admin.processes()[0].counters)
        client.close()  # the end of the session is the end of the recording, after all that came before
        out, complaint = record.communicate(timeout=90)
    assert (record.returncode, complaint) == (0, "")
    summary = json.loads(out)
    assert (summary["accesses"], summary["dropped"], summary["writes"]) == (len(pages), 0, 0)
    assert summary["faults"] == after["faults"] - before["faults"] > 100
    assert summary["distinct_pages"] == len(set(pages))
    assert summary["ended"]
    found = replayed(daemon, file, "--frames", str(summary["frames"]), "--evict", "lru,arc")
    assert (found["accesses"], found["distinct_pages"]) == (len(pages), len(set(pages)))
    # The daemon began with other pages in memory, and keeps some frames free: about as many faults, and no more.
    assert abs(found["rows"][0]["misses"] - summary["faults"]) < FRAMES + 0.05 * len(pages)


def test_ctrl_c_ends_a_recording_and_another_may_begin(scene, tmp_path):
    daemon, _, region, _ = scene
    for number in range(2):
        file = tmp_path / f"{number}.usm"
        with usmctl(daemon, "record", "--process", "app", "-o", str(file)) as record:
            wait_until(lambda file=file: file.exists() and file.stat().st_size, "the recording has begun")
            busy = daemon.run_usmctl("record", "--process", "app", "-o", str(tmp_path / "second"))
            assert (busy.returncode, "is recorded already" in busy.stderr) == (1, True)
            region.read(0, PAGE)
            size = file.stat().st_size
            wait_until(lambda file=file, size=size: region.read(0, 1) and file.stat().st_size > size, "it is written")
            record.send_signal(signal.SIGINT)
            out, complaint = record.communicate(timeout=90)
            assert (record.returncode, complaint) == (0, "")
            assert "accesses of app in" in out


def test_simulations_see_what_the_process_touches_and_change_nothing(scene):
    daemon, client, region, data = scene
    pages = skewed(1000)
    with usmctl(
        daemon, "shadow", "app", "--evict", "arc,s3_fifo,lru", "--interval", "0.1", "--format", "json"
    ) as shadow:
        first = json.loads(shadow.stdout.readline())
        assert [simulation["policy"] for simulation in first["simulations"]] == ["lru", "arc", "s3_fifo"]
        for page in pages:
            assert region.read(page * PAGE, 1) == data[page * PAGE : page * PAGE + 1]
        report = next(found for found in map(json.loads, shadow.stdout) if found["looked_at"] == len(pages))
        busy = daemon.run_usmctl("shadow", "app", "--evict", "arc")
        assert (busy.returncode, "is shadowed already" in busy.stderr) == (1, True)
        client.close()
        *_, last = map(json.loads, shadow.stdout)
        assert shadow.wait(90) == 0
    assert (report["accesses"], report["dropped"]) == (len(pages), 0)
    assert last["ended"]
    lru, arc, s3_fifo = report["simulations"]
    assert all(0 < simulation["misses"] < len(pages) for simulation in (lru, arc, s3_fifo))
    assert all((simulation["problem"], simulation["policy_errors"]) == ("", 0) for simulation in report["simulations"])
    assert arc["difference"] == pytest.approx(arc["miss_ratio"] - lru["miss_ratio"])
    # LRU beside LRU, but for what was in memory before and the watermarks.
    assert abs(lru["misses"] - report["live_miss_ratio"] * len(pages)) < FRAMES + 0.05 * len(pages)
    assert report["frames"] == 121
    assert 0 < report["wall_share"] < 1


def test_a_simulation_in_a_file_that_fails_is_told_and_the_process_goes_on(scene, tmp_path):
    daemon, _, region, data = scene
    file = tmp_path / "fails.py"
    file.write_text(
        "from usmd.policies.evict.lru import Lru\n\n\n"
        "class Fails(Lru):\n    def choose_victims(self):\n        raise ValueError('boo')\n"
    )
    file.chmod(0o644)
    with usmctl(daemon, "shadow", "app", "--evict", f"{file}:Fails", "--interval", "0.1") as shadow:
        wait_until(lambda: region.read(0, len(region)) == data and "boo" in shadow.stdout.readline(), "it is told")
        shadow.send_signal(signal.SIGINT)
        shadow.communicate(timeout=90)  # reads the rest: what waits for its reader would not end
        assert shadow.returncode == 0
    assert daemon.admin.processes()[0].counters["policy_errors"] == 0


def test_over_real_memory_a_recording_is_of_faults_and_says_so(tmp_path):
    require_real_memory()
    file = tmp_path / "real.usm"
    with (
        running_daemon(tmp_path, *MEMORY, "--alloc", "first_fit", mechanism="userfaultfd") as daemon,
        told_clients(daemon.address, "app") as (app,),
    ):
        app.map("data", PAGES)
        with usmctl(daemon, "record", "--process", "app", "-o", str(file)) as record:
            wait_until(lambda: file.exists() and file.stat().st_size, "the recording has begun")
            app.do("fill", name="data", seed=1, first=0, pages=PAGES)
            assert app.do("wrong", name="data", seed=1, first=0, pages=PAGES) == []
            app.kill()
            out, complaint = record.communicate(timeout=90)
        assert (record.returncode, complaint) == (0, "")
        assert "real memory (userfaultfd): these are page faults" in out
        assert "the process ended" in out
        found = replayed(daemon, file, "--frames", "1000", "--evict", "lru")
        assert found["distinct_pages"] == PAGES
        assert found["accesses"] >= PAGES

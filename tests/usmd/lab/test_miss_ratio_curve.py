"""Many sizes at once: the same rows as one by one, and no process left behind."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from array import array
from pathlib import Path

import msgspec
import pytest

from tests.support.daemon import wait_until
from tests.support.policy_files import write_policies
from usmd.errors import InvalidArgument
from usmd.lab import miss_ratio_curve
from usmd.lab.loading import gather
from usmd.lab.miss_ratio_curve import WorkerLost, curves, sizes
from usmd.lab.replay import Replay, Setup
from usmd.lab.traces.trace import cut


def test_sizes_go_from_a_thousandth_to_all_and_are_distinct():
    found = sizes(10_000, 5)
    assert (found[0], found[-1], len(found)) == (10, 10_000, 5)
    assert sizes(3, 16) == [1, 2, 3]
    with pytest.raises(InvalidArgument):
        sizes(10, 1)


def trace_of(pages, writes=b"", times=None):
    return gather(cut(array("q", pages), writes, times), "made", lambda: "made")


def alone(trace, setup):
    replay = Replay(trace, setup)
    for _ in replay.run():
        pass
    return replay.row()


def comparable(row):
    return msgspec.structs.replace(row, seconds=0.0, accesses_per_s=0.0)


def test_rows_are_those_of_single_replays_and_workers_are_gone_afterwards():
    pages = [number * number % 97 for number in range(3000)]
    writes = bytes(number % 5 == 0 for number in range(3000))
    trace = trace_of(pages, writes, array("d", range(3000)))
    setups = [Setup(frames, evict) for frames in (5, 20) for evict in ("lru", "s3_fifo")]
    found = list(curves(trace, setups, jobs=2))
    assert sorted(map(comparable, found), key=repr) == sorted(
        (comparable(alone(trace, each)) for each in setups), key=repr
    )
    running = curves(trace, setups * 3, jobs=2)
    next(running)
    running.close()
    assert multiprocessing.active_children() == []


def test_no_file_of_the_current_folder_is_taken_for_a_module(tmp_path, monkeypatch):
    for name in sys.stdlib_module_names | {"usmd", "lib_usm", "msgspec", "xxhash", "sitecustomize"}:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    found = list(curves(trace_of(range(50)), [Setup(5, "lru")], jobs=1))
    assert [row.misses for row in found] == [50]
    assert not (tmp_path / "ran").exists()
    assert "PYTHONSAFEPATH" not in os.environ


POLICIES = """
import os

from usmd.policies.evict.lru import Lru


class Hangs(Lru):
    def choose_victims(self):
        while True:
            pass


class Ends(Lru):
    def choose_victims(self):
        os._exit(3)
"""


@pytest.fixture
def theirs(tmp_path):
    return write_policies(tmp_path, POLICIES, "theirs.py")


def test_what_a_worker_has_told_is_known_when_another_has_ended_by_itself(theirs):
    setups = [Setup(5, "lru"), Setup(20, f"{theirs}:Ends")]
    running = curves(trace_of(range(50)), setups, jobs=1)
    assert next(running).misses == 50
    with pytest.raises(WorkerLost):
        next(running)
    assert multiprocessing.active_children() == []


def test_a_worker_whose_policy_does_not_return_is_ended(theirs, monkeypatch):
    monkeypatch.setattr(miss_ratio_curve, "PATIENCE", 0.2)
    running = curves(trace_of(range(50)), [Setup(5, "lru"), Setup(20, f"{theirs}:Hangs")], jobs=2)
    assert next(running).misses == 50
    running.close()
    assert multiprocessing.active_children() == []


PROGRAM = """
from array import array
from usmd.lab.loading import gather
from usmd.lab.miss_ratio_curve import curves
from usmd.lab.replay import Setup
from usmd.lab.traces.trace import cut

if __name__ == "__main__":
    pages = array("q", [number * number % 997 for number in range(1000)] * 1_500)
    trace = gather(cut(pages, b"", None), "made", lambda: "made")
    list(curves(trace, [Setup(frames, "w_tinylfu") for frames in range(10, 20)], jobs=2))
"""


def workers_of(group):
    """Ids of the living processes of a process group that were spawned for work."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, its_group = (each / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z" and b"spawn_main" in (each / "cmdline").read_bytes():
                found.append(int(each.name))
    return found


@pytest.fixture
def busy(tmp_path):
    """A program whose two workers are at a long computation, in a process group of its own."""
    program = tmp_path / "busy.py"
    program.write_text(PROGRAM)
    with subprocess.Popen([sys.executable, program], stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            wait_until(lambda: len(workers_of(process.pid)) == 2, "two workers")
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_workers_end_with_a_parent_that_is_killed(busy):
    busy.kill()
    wait_until(lambda: workers_of(busy.pid) == [], "no workers")


def test_an_interrupt_from_a_terminal_reaches_the_parent_alone_and_ends_them_all(busy):
    os.killpg(busy.pid, signal.SIGINT)
    error = busy.communicate(timeout=90)[1].decode()
    assert workers_of(busy.pid) == []
    assert busy.returncode == -signal.SIGINT
    assert (error.count("Traceback"), error.splitlines()[-1]) == (1, "KeyboardInterrupt")

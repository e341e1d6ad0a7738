"""Programs that know nothing of usmd, with libusm preloaded, in a part of the memory they use."""

import errno
import signal
import sys
from pathlib import Path

import pytest

from tests.support import served
from tests.support.daemon import SECONDS, environment, wait_equal
from tests.support.forked import run_forked
from tests.support.native import compiled, require_jemalloc, require_native, run_managed, started
from tests.support.real_daemon import FRAMES, in_use, real_daemon
from usmd.ctl.run_command import Fork

SOURCE = Path(__file__).with_name("native_client.c")
NUMPY = """
import numpy
numbers = numpy.arange(1 << 20)
numbers *= 3
blocks = numbers.reshape(256, -1)[::-1].copy()
assert (blocks[::-1].ravel() == 3 * numpy.arange(1 << 20)).all()
print("done")
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    require_native()
    return compiled(tmp_path_factory.mktemp("client"), SOURCE)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    require_native()
    with real_daemon(tmp_path_factory.mktemp("usmd"), swap="memory:64MiB") as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    yield
    if "daemon" in request.fixturenames:
        daemon = request.getfixturevalue("daemon")
        wait_equal(lambda: in_use(daemon), (0, 0, 0), "sessions, frames and slots are free")
        daemon.never("userfaultfd_refused")


def test_a_program_of_8_threads_finds_every_byte(daemon, client):
    before = daemon.counters()
    done = run_managed(daemon, client, "churn", 8, 60, 16, malloc=require_jemalloc())
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    after = daemon.counters()
    assert after["swap_outs"] - before["swap_outs"] > FRAMES
    assert after["swap_ins"] > before["swap_ins"]


def test_a_program_may_unmap_remap_advise_and_map_over_as_it_likes(daemon, client):
    done = run_managed(daemon, client, "maps")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_signal_handler_may_map_while_its_thread_does(daemon, client):
    done = run_managed(daemon, client, "signals")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_python_with_numpy_works_on_more_than_there_is_memory_for(tmp_path):
    jemalloc = require_jemalloc()
    with real_daemon(tmp_path, "--memory", "12MiB", swap="memory:64MiB") as daemon:
        done = run_managed(daemon, sys.executable, "-c", NUMPY, malloc=jemalloc, name="numbers")
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
        assert daemon.events("process_attached", name="numbers")
        assert daemon.counters()["swap_ins"] > FRAMES


def test_fork_is_refused_with_a_line_and_other_ways_to_start_programs_work(daemon, client):
    done = run_managed(daemon, client, "fork")
    assert (done.returncode, done.stdout) == (0, f"{errno.ENOMEM}\ndone\n")
    [line] = done.stderr.splitlines()
    assert line.startswith("usm: native_client (process ")
    assert "fork is refused" in line
    assert "--fork=exec-only" in line


def test_with_exec_only_a_child_may_exec_and_has_none_of_the_memory(daemon, client):
    done = run_managed(daemon, client, "fork", fork=Fork.EXEC_ONLY, malloc=require_jemalloc())
    assert (done.returncode, done.stdout, done.stderr) == (0, "8\ndone\n", "")
    done = run_managed(daemon, client, "touch in child", fork=Fork.EXEC_ONLY)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{-signal.SIGSEGV}\ndone\n", "")


def test_a_child_by_fork_may_have_a_session_before_its_parent_and_one_by_vfork_begins_none(daemon, client):
    done = run_managed(daemon, client, "children first", name="family", require=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert len(daemon.events("process_attached", name="family")) == 2


def test_a_program_that_becomes_another_one_gets_a_new_session(daemon, client):
    done = run_managed(daemon, client, "exec", malloc=require_jemalloc(), name="twice")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert len(daemon.events("process_attached", name="twice")) == 2


def test_its_memory_has_a_bound_and_a_hint_and_a_policy_if_it_asks_for_them(daemon, client):
    options = {"memory_limit": "256K", "hint": "PRIORITY=LOW; X_A=1", "evict": "s3_fifo", "fhp": "8K", "name": "bound"}
    with started(daemon, client, "hold", 128, **options) as process:
        assert process.stdout.readline() == "right\n"
        [session] = daemon.admin.processes()
        assert (session.name, session.evict_policy) == ("bound", "s3_fifo")
        assert 0 < session.resident_pages <= 64
        [hint] = daemon.usmctl("hints", "bound")["hint_ranges"]
        assert hint["text"] == "FHP=8K; PRIORITY=LOW; X_A=1"
        process.kill()
        stderr = process.stderr.read()
    assert "no policy of the session acts on these keys of the hint: PRIORITY" in stderr


def test_a_killed_program_leaves_nothing(daemon, client):
    with started(daemon, client, "hold", 2 * FRAMES) as process:
        assert process.stdout.readline() == "right\n"
        assert in_use(daemon)[0] == 1
        process.kill()
        assert process.wait(SECONDS) == -signal.SIGKILL


def test_without_usmd_it_runs_unmanaged_and_says_so_or_not_at_all(tmp_path, client):
    nobody = tmp_path / "nobody"
    done = run_managed(f"unix:{nobody}", client, "hold", 64, require=False)
    assert (done.returncode, done.stdout) == (0, "right\ndone\n")
    [line] = done.stderr.splitlines()
    assert line.endswith(f"usmd at {nobody} cannot be reached: No such file or directory; it runs without usmd")
    done = run_managed(f"unix:{nobody}", client, "hold", 64, require=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("No such file or directory; it does not start\n")


def test_what_usmd_refuses_is_told(daemon, client):
    done = run_managed(daemon, client, "exit", 5, evict="no_such_policy", require=True)
    assert done.returncode == 1
    assert "usmd refuses: " in done.stderr
    assert "no_such_policy" in done.stderr
    done = run_managed(daemon, client, "churn", 1, 10, 4, evict="no_such_policy", require=False)
    assert (done.returncode, done.stdout) == (0, "done\n")


GONE = "usmd has closed the connection; new memory is not usmd's from now on"
LOST = "memory that usmd had is lost, and the program has touched it; it ends (SIGBUS)"


def ends(process):
    """What a process says on stderr until it has died of SIGBUS, without the beginnings of lines."""
    assert process.wait(SECONDS) == -signal.SIGBUS
    return [line.partition("): ")[2] for line in process.stderr.read().splitlines()]


@pytest.mark.parametrize("how", ["itself", "by a system call", "in a child by vfork"])
def test_when_usmd_is_killed_what_is_in_memory_can_be_written_and_a_touch_of_the_rest_ends_the_program(
    tmp_path, client, how
):
    with real_daemon(tmp_path, exit_code=None) as daemon, started(daemon, client, "outlive", how) as process:
        assert process.stdout.readline() == "ready\n"
        daemon.process.kill()
        daemon.wait_exit()
        process.stdin.write("\n")
        process.stdin.flush()
        assert int(process.stdout.readline()) > 0
        assert process.stdout.read() == ""  # no child is left that has it open, either
        assert ends(process) == [GONE, LOST]


def test_a_program_hears_at_once_that_its_session_is_over_also_if_it_does_nothing(tmp_path, client):
    with real_daemon(tmp_path) as daemon, started(daemon, client, "outlive", "itself") as process:
        assert process.stdout.readline() == "ready\n"
        daemon.admin.drain(0)
        assert "; new memory is not usmd's from now on" in process.stderr.readline()
        process.stdin.write("\n")
        process.stdin.flush()
        assert ends(process) in ([], [LOST])  # it was poisoned, or is found to be lost


def test_usmctl_run_starts_it_all(daemon, client):
    arguments = ["run", "--socket", daemon.address, "--name", "by-usmctl", "--require", "--", str(client), "churn"]
    done = run_forked(served.run_usmctl, [*arguments, "2", "100", "8"], environ=environment(), seconds=SECONDS)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert daemon.events("process_attached", name="by-usmctl")

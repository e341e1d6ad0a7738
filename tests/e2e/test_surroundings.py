"""What surrounds the daemon: readers of its output that sleep, descriptors that are missing, and every signal."""

import contextlib
import fcntl
import os
import shlex
import signal
import socket
import subprocess

from grpc_health.v1 import health_pb2, health_pb2_grpc

import lib_usm
from tests.hostile.bounds import GROWTH
from tests.support.daemon import USMCTL, USMD, environment, running_daemon, wait_until
from tests.support.own_memory import at_most_grown
from tests.support.policy_files import write_policies
from tests.support.raw_client import open_channel
from usmd.server.signals import MEANINGS, Meaning, name_of

PRINTS = """
    import sys
    from usmd.policies.evict.lru import Lru

    class Prints(Lru):
        def page_filled(self, pfn):
            super().page_filled(pfn)
            print("out", pfn, "x" * 1000, flush=True)
            print("err", pfn, "x" * 1000, file=sys.stderr, flush=True)
            raise ValueError("of which the log tells")
"""
LENGTH = 1 << 20


def full_pipe():
    """A pipe of 4 KiB, full, that nothing reads: both its ends."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b"x" * 4096)
    return reader, writer


def use(address):
    """Store more than the memory holds, and read it."""
    data = os.urandom(LENGTH)
    with lib_usm.connect(address) as client, client.mmap(LENGTH) as region:
        region.write(0, data)
        assert region.read(0, LENGTH) == data


def test_readers_that_sleep_hold_up_neither_faults_nor_the_end(tmp_path):
    policy = write_policies(tmp_path, PRINTS, "prints.py")
    pipes = [full_pipe(), full_pipe()]
    swap = tmp_path / "swap"
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.setblocking(False)
    filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    filler.connect(str(tmp_path / "notify"))
    filler.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while filler.send(b"full"):
            pass
    daemon = subprocess.Popen(
        [*USMD, "--socket", tmp_path / "s", "--admin-socket", tmp_path / "a", "--mechanism", "simulated",
         "--memory", "256KiB", "--swap", f"file:{swap}:4MiB", "--evict", f"{policy}:Prints"],
        stdin=subprocess.DEVNULL, stdout=pipes[0][1], stderr=pipes[1][1],
        env=environment(NOTIFY_SOCKET=str(tmp_path / "notify")),
    )  # fmt: skip
    try:
        wait_until((tmp_path / "a").exists, "the socket")
        with at_most_grown(daemon.pid, GROWTH["standard streams"]):
            use(f"unix:{tmp_path}/s")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(90) == 0
    finally:
        daemon.kill()
        daemon.wait()
        for end in (end for pipe in pipes for end in pipe):
            os.close(end)
        filler.close()
        manager.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notify", "prints.py"]


def without_descriptors(*command):
    """Begin a program that has no standard input, output or error."""
    line = shlex.join(map(str, command))
    return subprocess.Popen(["sh", "-c", f"exec {line} 0<&- 1>&- 2>&-"], env=environment())


def test_without_standard_descriptors_usmd_serves_and_usmctl_does_what_it_is_told(tmp_path):
    daemon = without_descriptors(
        *USMD, "--socket", tmp_path / "s", "--admin-socket", tmp_path / "a", "--mechanism", "simulated",
        "--memory", "256KiB", "--swap", f"file:{tmp_path / 'swap'}:4MiB",
    )  # fmt: skip
    try:
        wait_until((tmp_path / "a").exists, "the socket")
        with at_most_grown(daemon.pid, GROWTH["standard streams"]):
            use(f"unix:{tmp_path}/s")
        targets = [os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in (0, 1, 2)]
        assert targets == [os.devnull] * 3
        assert without_descriptors(*USMCTL, "--address", f"unix:{tmp_path}/a", "drain", "--yes").wait(20) == 0
        assert daemon.wait(90) == 0
    finally:
        daemon.kill()
        daemon.wait()
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_does_not_drain_changes_nothing_and_the_second_that_does_ends_the_grace(tmp_path):
    swap = ("--memory", "256KiB", "--swap", f"file:{tmp_path / 'swap'}:4MiB")
    with running_daemon(tmp_path, *swap, config="[server]\ndrain_grace = 600\n", exit_code=None) as daemon:
        client = lib_usm.connect(daemon.address)
        region = client.mmap(8192)
        region[0:4] = b"here"
        for number, meaning in MEANINGS.items():
            if meaning is not Meaning.DRAIN:
                daemon.signal(number)
        for number in (signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG):
            daemon.signal(number)
        for number, meaning in MEANINGS.items():
            # SIGALRM is the timer of the watch over policies, which takes it for one more look.
            if meaning in (Meaning.RELOAD, Meaning.NOTHING) and number != signal.SIGALRM:
                told = daemon.wait_for("signal", signal=name_of(number))
                said = "reads its configuration again" if meaning is Meaning.RELOAD else "nothing has changed"
                assert said in told["message"]
        assert region[0:4] == b"here"
        channel = open_channel(daemon.address)
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING  # this call never ends by itself
        daemon.signal(signal.SIGQUIT)
        daemon.wait_for("draining")
        daemon.signal(signal.SIGQUIT)
        assert daemon.wait_exit() == 0
        assert [each["message"] for each in daemon.events("signal", signal="SIGQUIT")] == [
            "usmd drains; a second signal ends the grace of running calls", "the grace of running calls is over",
        ]  # fmt: skip
        channel.close()
        client.close()
    assert [path.name for path in tmp_path.iterdir()] == ["usmd.toml"]

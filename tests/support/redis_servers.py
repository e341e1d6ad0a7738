"""Real Redis servers for tests: started, killed, stopped and continued at will."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.waiting import wait_until
from usmd.config_values import read_table
from usmd.swap.base import SlotIO
from usmd.swap.open import open_devices
from usmd.swap.remote.kind import RedisKind

PAGE = 4096
PROGRAM = os.environ.get("USM_TEST_REDIS", "redis-server")
"""Another one, such as valkey-server, by the environment."""
QUIET = ("--save", "", "--appendonly", "no", "--daemonize", "no", "--maxclients", "200", "--loglevel", "warning")
QUICK = {"timeout": 20.0, "lease": 0.6, "expire": 60.0}
"""Settings of a device that soon notices what its servers say, and waits for a busy machine."""


def require_redis():
    """Skip the test where there is no redis-server; fail where $CI is set."""
    if shutil.which(PROGRAM) is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            f"there is no {PROGRAM} here; `apt-get install redis-server` brings Redis"
        )


def free_port():
    """A TCP port of this machine that nothing uses, nor the port for the cluster's bus that goes with it."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port < 50_000:
                with contextlib.suppress(OSError):
                    other.bind(("127.0.0.1", port + 10_000))
                    return port


class RedisServer:
    """A server in a folder, on a Unix socket and, with `port`, on TCP. `config`: a file that makes it a Sentinel."""

    def __init__(self, folder, *flags, port=0, config=None, password=None):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.port = port
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}"
        self.client = redis.Redis(
            unix_socket_path=str(self.path), password=password, protocol=2, retry=Retry(NoBackoff(), 0)
        )
        self._flags = flags if config is None else ("--sentinel",)
        self._flags += ("--requirepass", password) if password and config is None else ()
        self._config = () if config is None else (str(config),)
        self.process = None
        self.start()

    def start(self):
        command = [
            PROGRAM, *self._config, "--port", str(self.port), "--unixsocket", str(self.path),
            "--dir", str(self.folder), *(() if self._config else QUIET), *self._flags,
        ]  # fmt: skip
        self.path.unlink(missing_ok=True)
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, "redis-server answers")

    def _answers(self):
        assert self.process.poll() is None, (self.folder / "redis.log").read_text(errors="replace")[-1000:]
        try:
            return self.client.ping()
        except redis.RedisError:
            return False

    def kill(self):
        """As the kernel does without memory: nothing is saved."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Have it do nothing, with its connections open."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        self.client.close()
        if self.process.poll() is None:
            self.go_on()
        self.kill()

    def names(self, pattern="usmd:*"):
        return sorted(self.client.scan_iter(pattern))


@contextlib.contextmanager
def running_redis(folder, **options):
    """A RedisServer that is closed after the block; without a redis-server the test is skipped."""
    require_redis()
    with contextlib.closing(RedisServer(folder, **options)) as server:
        yield server


def open_redis(url, slots=256, **settings):
    """A device over servers, with settings as in the configuration."""
    table = {"size": slots * PAGE, "url": url, "keyspace": "test", **QUICK, **settings}
    (device,) = open_devices([read_table(RedisKind, table, "swap[0]")], PAGE)
    return device


def out(slot, generation=1):
    """An entry to write; its bytes follow from slot and generation."""
    return SlotIO(slot, 1, 1000 + slot, generation, memoryview(bytearray(b"%07d/%07d;" % (slot, generation) * 256)))


def into(entry):
    """An entry that reads what `entry` wrote."""
    return entry._replace(buffer=memoryview(bytearray(PAGE)))


def types_of(results):
    return [None if each is None else type(each) for each in results]


def read_back(device, entries):
    """The types of the errors of a read of these entries. What has no error has the right bytes."""
    targets = [into(entry) for entry in entries]
    results = device.read(targets)
    for entry, target, error in zip(entries, targets, results, strict=True):
        assert error is not None or target.buffer == entry.buffer
    return types_of(results)

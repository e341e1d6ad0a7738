"""Debian's memcached, unmodified, with its slabs in usmd: every value is right in less than half of its memory."""

import contextlib
import random
import shutil
import socket
import subprocess

from bench.redis_server import value_of
from tests.support.daemon import SECONDS, wait_equal, wait_until
from tests.support.native import managed, need, require_jemalloc
from tests.support.real_daemon import FRAMES, in_use, real_daemon

KEYS = range(600)
SIZE = 3000
"""2.7 MB in all; the daemon has 1 MiB."""
IN_A_BATCH = 100


class Memcached:
    """A connection to a server, by its text protocol."""

    def __init__(self, connection):
        self._socket = connection
        self._reader = connection.makefile("rb")

    def set(self, numbers, salt=0):
        for each in numbers:
            value = value_of(each, SIZE, salt)
            self._socket.sendall(b"set %d 0 0 %d noreply\r\n%b\r\n" % (each, len(value), value))

    def get(self, numbers):
        """The values of keys, by number."""
        found = {}
        for first in range(0, len(numbers), IN_A_BATCH):
            self._socket.sendall(
                b"get %b\r\n" % b" ".join(b"%d" % each for each in numbers[first : first + IN_A_BATCH])
            )
            while (line := self._reader.readline()) != b"END\r\n":
                word, key, _, length = line.split()
                assert word == b"VALUE"
                found[int(key)] = self._reader.read(int(length) + 2)[:-2]
        return found


@contextlib.contextmanager
def memcached(folder, environ):
    """A connection to a server with a thread and room for all values, which ends with the block."""
    path, log = folder / "memcached.sock", folder / "memcached.log"
    program = need(shutil.which("memcached"), "there is no memcached here; `apt-get install memcached` brings it")
    command = [program, "-u", "root", "-s", str(path), "-t", "1", "-m", "32"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wait_until(lambda: path.exists() or process.poll() is not None, "memcached listens")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            wait_until(lambda: connection.connect_ex(str(path)) == 0 or process.poll() is not None, "it accepts")
            yield Memcached(connection)
        assert process.poll() is None, log.read_text()
        assert log.read_text() == ""
    finally:
        process.kill()
        process.wait()


def test_every_value_is_right(tmp_path):
    environ = {"malloc": require_jemalloc(), "name": "memcached", "fhp": "16K"}
    with real_daemon(tmp_path, swap="memory:64MiB") as daemon:
        with memcached(tmp_path, managed(daemon.address, **environ)) as client:
            client.set(KEYS)
            some = random.Random(1).sample(KEYS, 100)
            client.set(some, salt=1)
            expected = {each: value_of(each, SIZE) for each in KEYS}
            expected |= {each: value_of(each, SIZE, 1) for each in some}
            assert client.get(KEYS) == expected
            assert daemon.counters()["swap_outs"] > FRAMES
            assert daemon.counters()["swap_ins"] > FRAMES
        wait_equal(lambda: in_use(daemon), (0, 0, 0), "nothing is left of a server that was killed")

"""A redis-server of one's own on a Unix socket, and a client that checks every value: for a benchmark and for tests."""

from __future__ import annotations

import base64
import functools
import hashlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

START_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 120.0
TOKEN: Final = 32
"""Characters of a random token in a value, each of 6 random bits."""
_ROW: Final = TOKEN + 28
"""Bytes of a token in its place."""
IN_A_BATCH: Final = 256
"""Commands that are sent before their answers are read."""
FLAGS: Final = ("--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--io-threads", "1")


class NoRedisError(Exception):
    """There is no redis-server here; the message says what to install."""


def program(name: str = "redis-server") -> str:
    """The path of a program of Redis. Raises NoRedisError."""
    found = shutil.which(name)
    if found is None:
        raise NoRedisError(
            f"there is no {name} here; `apt-get install redis-server` brings it (package redis-tools too)"
        )
    return found


def key_of(number: int) -> bytes:
    """The key of a number, as redis-benchmark names keys."""
    return b"key:%012d" % number


def value_of(number: int, size: int, salt: int = 0) -> bytes:
    """The value that belongs to a key, different for each: JSON with random tokens.

    A page of such values of 1 KiB is 2.7 times as large as zstd makes it, at level 1.
    """
    count = max(size - _ROW, 0) // _ROW
    random = hashlib.shake_128(b"%d of %d" % (number, salt)).digest(-(-count * TOKEN // 4) * 3)
    tokens = base64.b64encode(random)
    rows = [tokens[first : first + TOKEN] for first in range(0, count * TOKEN, TOKEN)]
    return (_form(count) % (number, salt, *rows)).ljust(size)[:size]


@functools.cache
def _form(count: int) -> bytes:
    """A value with room for so many tokens."""
    return b'{"id": %d, "salt": %d, "tokens": [' + b", ".join([b'{"token": "%b", "ttl": 3600}'] * count) + b"]}"


class Redis:
    """A connection. Raises RuntimeError for an answer that is an error or is not understood."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._reader = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()
        self._socket.close()

    def ask(self, *commands: Sequence[bytes]) -> list[bytes | None]:
        """Send commands, and return their answers, in order."""
        answers: list[bytes | None] = []
        for first in range(0, len(commands), IN_A_BATCH):
            batch = commands[first : first + IN_A_BATCH]
            self._socket.sendall(b"".join(map(_encoded, batch)))
            answers.extend(self._answer() for _ in batch)
        return answers

    def _answer(self) -> bytes | None:
        line = self._reader.readline()
        kind, rest = line[:1], line[1:-2]
        if kind in b"+:" and line.endswith(b"\r\n"):
            return rest
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self._reader.read(length + 2)[:-2]
        raise RuntimeError(f"Redis answered {line!r}")

    def set(self, numbers: Sequence[int], size: int, salt: int = 0) -> None:
        """Give keys the values that belong to them."""
        self.ask(*((b"SET", key_of(each), value_of(each, size, salt)) for each in numbers))

    def value_of_many(self, numbers: Sequence[int], size: int) -> bytes | None:
        """The value that some of the keys share, instead of having the one that belongs to each; None if none do."""
        for number in numbers:
            (value,) = self.ask((b"GET", key_of(number)))
            if value != value_of(number, size):
                return value
        return None

    def wrong(self, numbers: Sequence[int], size: int, salt: int = 0, also: bytes | None = None) -> list[int]:
        """The keys that do not have the value that belongs to them, nor the value `also`."""
        values = self.ask(*((b"GET", key_of(each)) for each in numbers))
        return [
            number
            for number, value in zip(numbers, values, strict=True)
            if value != value_of(number, size, salt) and (also is None or value != also)
        ]


def _encoded(command: Sequence[bytes]) -> bytes:
    parts = [b"*%d\r\n" % len(command)]
    for each in command:
        parts += (b"$%d\r\n" % len(each), each, b"\r\n")
    return b"".join(parts)


@contextmanager
def redis_server(
    folder: Path, environ: Mapping[str, str] | None = None, before: Sequence[str] = (), *flags: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A server until the end of the block, and its socket. `before`: a command that starts it, as `usmctl run --` does.

    Its log is `redis.log` in the folder. Raises NoRedisError, or RuntimeError if it does not start.
    """
    path, log = folder / "redis.sock", folder / "redis.log"
    command = [*before, program(), *FLAGS, "--unixsocket", str(path), "--dir", str(folder), *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        _wait_ready(process, path, log)
        yield process, path
    finally:
        process.kill()
        process.wait()
        path.unlink(missing_ok=True)


def _wait_ready(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client = Redis(path)
        except OSError:
            time.sleep(0.01)
            continue
        client.ask([b"PING"])
        client.close()
        return
    raise RuntimeError(f"redis-server did not start: {log.read_text(errors='replace')[-1000:]}")

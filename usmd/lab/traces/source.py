"""The bytes of a trace: a file, a pipe or standard input, read once from front to back, and decompressed."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from usmd.errors import TraceError
from usmd.lab.traces.compression import MAGIC_LENGTH, decompressed

CHUNK = 1 << 18
"""Bytes that one read asks for, and most bytes of a chunk."""


class Source:
    """One open trace. Raises TraceError if `path` cannot be opened or read; "-" is standard input."""

    path: str
    """Name of the file in errors: the path given, or "stdin"."""
    name: str
    """Name of the file in tables: without its folder."""
    size: int | None
    """Compressed bytes in the file; None if unknown, as for a pipe."""
    position: int
    """Compressed bytes read so far."""

    def __init__(self, path: str) -> None:
        self.path = "stdin" if path == "-" else path
        self.name = Path(self.path).name
        self.position = 0
        self._peeked: list[bytes] = []
        self._read, self._close, self.size = self._open(path)
        try:
            head, rest = self._head()
        except TraceError:
            self.close()
            raise
        self._plain = decompressed(head, rest, self.path)

    def peek(self, length: int) -> bytes:
        """The first `length` plain bytes, or all if there are fewer; `chunks` yields them again."""
        have = sum(map(len, self._peeked))
        while have < length and (chunk := next(self._plain, b"")):
            self._peeked.append(chunk)
            have += len(chunk)
        self._peeked = [b"".join(self._peeked)]
        return self._peeked[0][:length]

    def chunks(self) -> Iterator[bytes]:
        """The plain bytes from the first on, in chunks of at most CHUNK bytes, never empty. May be called once."""
        waiting: list[bytes] = []
        have = 0
        for piece in self._pieces():
            if have and have + len(piece) > CHUNK:
                yield b"".join(waiting)
                waiting, have = [], 0
            for start in range(0, len(piece) - CHUNK, CHUNK):
                yield piece[start : start + CHUNK]
            waiting.append(piece[-(len(piece) % CHUNK or CHUNK) :])
            have += len(waiting[-1])
        if have:
            yield b"".join(waiting)

    def close(self) -> None:
        """Close the file; standard input stays open."""
        self._close()

    def _open(self, path: str) -> tuple[Callable[[int], bytes | None], Callable[[], None], int | None]:
        try:
            if path == "-":
                read, close, descriptor = _standard_input()
            else:
                file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed by close()
                read, close, descriptor = file.read, file.close, file.fileno()
        except (OSError, ValueError) as error:
            raise TraceError(f"{self.path} cannot be opened ({_reason(error)}); {_ADVICE}") from None
        return read, close, _size(descriptor)

    def _head(self) -> tuple[bytes, Iterator[bytes]]:
        raw = self._raw()
        head = b""
        while len(head) < MAGIC_LENGTH and (more := next(raw, b"")):
            head += more
        return head[:MAGIC_LENGTH], _then(head[MAGIC_LENGTH:], raw)

    def _raw(self) -> Iterator[bytes]:
        while True:
            try:
                data = self._read(CHUNK)
            except (OSError, ValueError) as error:
                raise TraceError(f"{self.path} cannot be read ({_reason(error)}); {_ADVICE}") from None
            if data is None:
                raise TraceError(f"{self.path} does not wait for its data; give a blocking pipe or a file")
            if not data:
                return
            self.position += len(data)
            yield data

    def _pieces(self) -> Iterator[bytes]:
        yield from filter(None, self._peeked)
        self._peeked = []
        yield from self._plain


_ADVICE = "give the path of a readable file, or - for standard input"


def _standard_input() -> tuple[Callable[[int], bytes | None], Callable[[], None], int | None]:
    if sys.stdin is None:
        raise OSError("there is no standard input")
    buffer = cast("io.BufferedReader", sys.stdin.buffer)  # read1 returns what a pipe has, without waiting for more
    try:
        return buffer.read1, _leave, buffer.fileno()
    except OSError:
        return buffer.read1, _leave, None


def _leave() -> None:
    """Do nothing: standard input belongs to the process."""


def _size(descriptor: int | None) -> int | None:
    if descriptor is None:
        return None
    status = os.fstat(descriptor)
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _then(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)

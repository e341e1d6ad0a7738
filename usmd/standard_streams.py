"""Standard input, output and error of the project's programs: always there, and in the daemon never waited for.

A program may be started without descriptors 0, 1 or 2; the next file or socket that it opens would take their place and
receive what is meant for a person. The reader of the daemon's output may sleep: a pipe that is full, a terminal stopped
by Ctrl-S, a disk that hangs.
"""

from __future__ import annotations

import atexit
import io
import os
import select
import sys
import threading
from typing import Final

from usmd.aside import Aside

MAX_WAITING: Final = 4096
"""Writes that wait for a reader; more are lost."""
_NAMES: Final = ("stdin", "stdout", "stderr")


def open_missing() -> None:
    """Open /dev/null in the place of the standard descriptors that are missing. Call it before anything is opened."""
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            stream = open(  # noqa: SIM115
                number, "w" if number else "r", encoding="utf-8", errors="backslashreplace", closefd=False
            )
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


class Descriptor:
    """An open file of any kind that texts are written to, in whole."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._torn = False

    def write(self, data: bytes) -> bool:
        """Write `data`, however long that takes; returns False if it could not be written.

        What follows on a part of a line begins on a line of its own.
        """
        data = b"\n" + data if self._torn else data
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._number, left) :]
            except BlockingIOError:  # another program that has the file made it so
                poll = select.poll()
                poll.register(self._number, select.POLLOUT)
                poll.poll()
            except OSError:
                # The stream that would carry the complaint is the one that failed.
                if len(left) < len(data):
                    self._torn = True
                return False
        self._torn = False
        return True


class AsideStream(io.TextIOBase):
    """A text stream to a descriptor that never makes its writer wait: texts are lost when their reader sleeps.

    Each write that ends a line goes out in whole; the rest of a line waits for its end, or for `flush`.
    """

    def __init__(self, number: int, name: str, encoding: str, writer: Aside[bytes]) -> None:
        self.name = name
        self.writer = writer
        self._number = number
        self._encoding = encoding
        self._terminal = os.isatty(number)
        self._begun = threading.local()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Name of the encoding; characters that it has not are written as escapes."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """How characters that the encoding has not are written."""
        return "backslashreplace"

    def fileno(self) -> int:
        """The descriptor."""
        return self._number

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return self._terminal

    def writable(self) -> bool:
        """Always."""
        return True

    def encoded(self, text: str) -> bytes:
        """`text` as bytes of the stream."""
        return text.encode(self._encoding, "backslashreplace")

    def write(self, text: str) -> int:
        """Hand `text` over as far as its last line ends; returns its length."""
        lines, end, rest = text.rpartition("\n")
        begun = getattr(self._begun, "text", "")
        if end:
            self._begun.text = rest
            self.writer.put(self.encoded(begun + lines + end))
        else:
            self._begun.text = begun + rest
        return len(text)

    def flush(self) -> None:
        """Hand over the line that this thread has begun; waits for nothing."""
        begun = getattr(self._begun, "text", "")
        if begun:
            self._begun.text = ""
            self.writer.put(self.encoded(begun))


def never_block() -> None:
    """Put an AsideStream in the place of sys.stdout and sys.stderr; they are written out at the end of the process.

    Native code writes to descriptor 2 itself. What grpc's does at the user's wish ($GRPC_VERBOSITY) comes through a
    pipe, because it writes on the threads that serve.
    """
    writers: dict[tuple[int, int], Aside[bytes]] = {}
    for number, name in ((1, "stdout"), (2, "stderr")):
        status = os.fstat(number)
        file = status.st_dev, status.st_ino
        if file not in writers:  # else both are one file, where lines keep their order
            writers[file] = Aside(
                f"write-{name}", Descriptor(os.dup(number)).write, limit=MAX_WAITING, size_of=_lines, mark=_lost
            )
        encoding = getattr(getattr(sys, name), "encoding", None) or "utf-8"
        setattr(sys, name, AsideStream(number, f"<{name}>", encoding, writers[file]))
        atexit.register(_finish, getattr(sys, name))
    if os.environ.get("GRPC_VERBOSITY", "NONE").upper() != "NONE" and isinstance(sys.stderr, AsideStream):
        _pump(2, sys.stderr.writer)


def _pump(number: int, writer: Aside[bytes]) -> None:
    """Have what native code writes to a descriptor go through `writer`."""
    file = os.dup(number)
    source, sink = os.pipe()
    os.dup2(sink, number)
    os.close(sink)

    def move() -> None:
        with os.fdopen(source, "rb") as lines:
            for line in lines:
                writer.put(line)

    thread = threading.Thread(target=move, name="native-stderr", daemon=True)
    thread.start()

    def end() -> None:
        os.dup2(file, number)  # closes the pipe, so that the thread comes to its end
        thread.join(1.0)

    atexit.register(end)  # runs before the streams finish, which were registered earlier


def _finish(stream: AsideStream) -> None:
    stream.flush()
    stream.writer.finish()


def _lines(data: bytes) -> int:
    return max(1, data.count(b"\n"))


def _lost(lines: int) -> bytes:
    return f"{lines} lines lost, because they could not be written in time\n".encode()

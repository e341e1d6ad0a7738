"""Standard input, output and error of usmd's programs: always open, and the daemon never waits for them.

If a program is started without descriptor 0, 1 or 2, the next file or socket that it opens takes that number, and
receives what is meant for the user. The reader of the daemon's output may block: a full pipe, a terminal stopped by
Ctrl-S, a hanging disk.
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
"""Most writes that wait for a reader; more are lost."""
_NAMES: Final = ("stdin", "stdout", "stderr")


def open_missing() -> None:
    """Open /dev/null for each missing standard descriptor. Call it before anything else is opened."""
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
    """An open file of any kind; texts are written to it completely."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._torn = False

    def write(self, data: bytes) -> bool:
        """Write `data`, however long that takes; false if it cannot be written.

        After an incomplete line, the next text begins on a new line.
        """
        data = b"\n" + data if self._torn else data
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._number, left) :]
            except BlockingIOError:  # another program that shares the file made it non-blocking
                poll = select.poll()
                poll.register(self._number, select.POLLOUT)
                poll.poll()
            except OSError:
                # The error cannot be reported on the stream that failed.
                if len(left) < len(data):
                    self._torn = True
                return False
        self._torn = False
        return True


class AsideStream(io.TextIOBase):
    """A text stream to a descriptor that never makes its writer wait: texts are lost while their reader sleeps.

    A write is handed over up to its last line end; the rest of a line waits for its end, or for `flush`.
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
        """Name of the encoding; characters that it lacks are written as escapes."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """How characters that the encoding lacks are written."""
        return "backslashreplace"

    def fileno(self) -> int:
        """The descriptor."""
        return self._number

    def isatty(self) -> bool:
        """True if the descriptor is a terminal."""
        return self._terminal

    def writable(self) -> bool:
        """Always true."""
        return True

    def encoded(self, text: str) -> bytes:
        """`text` as bytes of the stream."""
        return text.encode(self._encoding, "backslashreplace")

    def write(self, text: str) -> int:
        """Hand `text` over up to its last line end; returns its length."""
        lines, end, rest = text.rpartition("\n")
        begun = getattr(self._begun, "text", "")
        if end:
            self._begun.text = rest
            self.writer.put(self.encoded(begun + lines + end))
        else:
            self._begun.text = begun + rest
        return len(text)

    def flush(self) -> None:
        """Hand over the incomplete line of this thread, without waiting."""
        begun = getattr(self._begun, "text", "")
        if begun:
            self._begun.text = ""
            self.writer.put(self.encoded(begun))


def never_block() -> None:
    """Replace sys.stdout and sys.stderr by AsideStreams, which are finished at the end of the process.

    Native code writes to descriptor 2 itself. If the user turns grpc's log on ($GRPC_VERBOSITY), it goes through a
    pipe, because grpc writes it on the threads that serve.
    """
    writers: dict[tuple[int, int], Aside[bytes]] = {}
    for number, name in ((1, "stdout"), (2, "stderr")):
        status = os.fstat(number)
        file = status.st_dev, status.st_ino
        if file not in writers:  # if both are one file, they share a writer, which keeps the order of lines
            writers[file] = Aside(
                f"write-{name}", Descriptor(os.dup(number)).write, limit=MAX_WAITING, size_of=_lines, mark=_lost
            )
        encoding = getattr(getattr(sys, name), "encoding", None) or "utf-8"
        setattr(sys, name, AsideStream(number, f"<{name}>", encoding, writers[file]))
        atexit.register(_finish, getattr(sys, name))
    if os.environ.get("GRPC_VERBOSITY", "NONE").upper() != "NONE" and isinstance(sys.stderr, AsideStream):
        _pump(2, sys.stderr.writer)


def _pump(number: int, writer: Aside[bytes]) -> None:
    """Pass what native code writes to a descriptor through `writer`."""
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
        os.dup2(file, number)  # closes the pipe, so that the thread ends
        thread.join(1.0)

    atexit.register(end)  # runs before the streams finish, which were registered earlier


def _finish(stream: AsideStream) -> None:
    stream.flush()
    stream.writer.finish()


def _lines(data: bytes) -> int:
    return max(1, data.count(b"\n"))


def _lost(lines: int) -> bytes:
    return f"{lines} lines lost, because they could not be written in time\n".encode()

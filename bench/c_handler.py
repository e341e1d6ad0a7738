"""Memory whose faults bench/handler.c serves: the yardstick of real faults, in the same setting as usmd's.

The handler process makes the memory. This process maps it shared, registers it for missing and write-protected pages,
and sends the userfaultfd over a Unix socket. A fork of this process must not touch the mapping.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bench.native import address_of
from usmd.mechanism import uffd

_RANGE: Final = struct.Struct("=QQ")
_COUNTS: Final = struct.Struct("=QQ")


class CHandler:
    """A handler process and its memory of `length` bytes, mapped into this process during the block.

    A fault fills `pages` pages, with zeros or with what the file `swap` has at their offset. The file is as long;
    `direct`: it is read past the page cache.

    The handler polls for `spin` microseconds before it sleeps, and runs on `cpu` (None: anywhere). Raises OSError
    without userfaultfd.
    """

    def __init__(
        self,
        program: Path,
        length: int,
        *,
        pages: int,
        spin: int,
        cpu: int | None,
        swap: Path | None = None,
        direct: bool = False,
    ) -> None:
        self.faults = 0
        """Faults that the handler served; set at the end of the block."""
        self._ours, theirs = socket.socketpair()
        with theirs:
            command = [str(program), str(theirs.fileno()), str(length), str(pages), str(spin)]
            if swap is not None:
                command += [str(swap), "direct"] if direct else [str(swap)]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        if cpu is not None:
            os.sched_setaffinity(self._process.pid, {cpu})
        _, descriptors, _, _ = socket.recv_fds(self._ours, 1, 1)
        if not descriptors:
            raise RuntimeError(f"the C handler ended with {self._process.wait()} before it gave its memory")
        self._mapping = mmap.mmap(descriptors[0], length)
        os.close(descriptors[0])
        self.address = address_of(self._mapping)
        """First address of the memory."""
        self._descriptor, _ = uffd.open_userfaultfd()
        uffd.handshake(self._descriptor, uffd.REQUIRED)
        uffd.register(self._descriptor, self.address, length)
        socket.send_fds(self._ours, [_RANGE.pack(self.address, length)], [self._descriptor])

    def forget(self) -> None:
        """Make all pages missing again."""
        self._mapping.madvise(mmap.MADV_REMOVE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._ours, self._process:
            self._ours.shutdown(socket.SHUT_WR)
            answer = self._ours.recv(_COUNTS.size, socket.MSG_WAITALL)
        self._mapping.close()
        os.close(self._descriptor)
        if kind is None:
            if len(answer) != _COUNTS.size:
                raise RuntimeError(f"the C handler ended with {self._process.returncode}")
            self.faults, _ = _COUNTS.unpack(answer)

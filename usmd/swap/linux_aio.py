"""A channel over Linux AIO (io_setup(2), io_submit(2)), by ctypes, with an eventfd for completions.

Only for files with direct I/O: io_submit waits for a file that goes through the page cache. Completions are read from
the ring that the kernel maps into this process, as libaio does, without a system call.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from collections.abc import Sequence
from typing import ClassVar, Final

from usmd.swap.channel import DEPTH, Channel, Request
from usmd.syscalls import syscall

_CALLS: Final = {"x86_64": (206, 207, 209), "aarch64": (0, 1, 2)}
"""Numbers of io_setup, io_destroy and io_submit by architecture."""
_PREAD: Final = 0
_PWRITE: Final = 1
_RESFD: Final = 1
"""IOCB_FLAG_RESFD: count each completion in an eventfd."""
_MAGIC: Final = 0xA10A10A1
_IOCB: Final = struct.Struct("<QIIHhIQQqQII")
_EVENT: Final = struct.Struct("<QQqq")
_HEAD: Final = 2
_TAIL: Final = 3
"""Words of the ring's header; the others: id, number of events, head, tail, magic, features, size of the header."""


class LinuxAio(Channel):
    """Requests to the open file `target`, which has O_DIRECT. Raises OSError if this machine or process has no AIO."""

    way: ClassVar[str] = "aio"
    at_once: ClassVar[bool] = False

    def __init__(self, target: int) -> None:
        machine = platform.machine()
        if machine not in _CALLS:
            raise OSError(0, f"usmd knows the system calls of {', '.join(_CALLS)}, and not of {machine}")
        setup, self._destroy, self._submit = _CALLS[machine]
        self._target = target
        context = ctypes.c_ulong(0)
        syscall(setup, DEPTH, ctypes.addressof(context))
        self._context = int(context.value)
        try:
            self._map(self._context)
        except BaseException:
            syscall(self._destroy, self._context)
            raise

    def _map(self, address: int) -> None:
        header = (ctypes.c_uint32 * 8).from_address(address)
        if header[4] != _MAGIC:
            raise OSError(0, f"its ring has the magic {header[4]:#x}, and not {_MAGIC:#x}")
        self._header = memoryview(header).cast("B").cast("I")
        self._count = header[1]
        events = (ctypes.c_char * (_EVENT.size * self._count)).from_address(address + header[7])
        self._events = memoryview(events).cast("B")
        self._blocks = (ctypes.c_char * (_IOCB.size * DEPTH))()
        base = ctypes.addressof(self._blocks)
        self._pointers = (ctypes.c_ulong * DEPTH)(*(base + _IOCB.size * index for index in range(DEPTH)))
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def submit(self, requests: Sequence[Request]) -> int:
        """Submit requests."""
        target, eventfd = self._target, self.descriptor
        position = 0
        for write, offset, address, length, number in requests:
            _IOCB.pack_into(
                self._blocks, position,
                number, 0, 0, _PWRITE if write else _PREAD, 0, target, address, length, offset, 0, _RESFD, eventfd,
            )  # fmt: skip
            position += _IOCB.size
        try:
            return syscall(self._submit, self._context, len(requests), ctypes.addressof(self._pointers))
        except OSError:
            return 0  # the first one was not taken, and so none

    def completed(self) -> list[tuple[int, int]]:
        """Number and result of each request that has completed."""
        with contextlib.suppress(BlockingIOError):  # its count is 0
            os.eventfd_read(self.descriptor)  # first: what completes from now on counts again
        header = self._header
        head, tail = header[_HEAD], header[_TAIL]
        found: list[tuple[int, int]] = []
        while head != tail:
            number, _, result, _ = _EVENT.unpack_from(self._events, head * _EVENT.size)
            found.append((number, result))
            head = head + 1 if head + 1 < self._count else 0
        if found:
            header[_HEAD] = head
        return found

    def close(self) -> None:
        """Close the context."""
        self._header.release()
        self._events.release()
        syscall(self._destroy, self._context)
        os.close(self.descriptor)

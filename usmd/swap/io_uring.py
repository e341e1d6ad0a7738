"""A channel over io_uring (io_uring_setup(2), Linux 5.6 for the operations used), by ctypes.

A read of bytes that are in the page cache has completed when `submit` returns. The ring itself is polled for
completions, so that no eventfd has to be read. Head and tail of both queues are shared with the kernel; a system call
or the interpreter's work is between the access to a tail and that to its entries.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Sequence
from typing import ClassVar, Final

from usmd.swap import write_back
from usmd.swap.channel import DEPTH, Channel, Request
from usmd.syscalls import syscall

_SETUP: Final = 425
_ENTER: Final = 426
_OP_SYNC_FILE_RANGE: Final = 8
_OP_READ: Final = 22
_OP_WRITE: Final = 23
_FEATURES: Final = 0b11
"""IORING_FEAT_SINGLE_MMAP (5.4) and IORING_FEAT_NODROP (5.5): one mapping, and no completion is lost."""
_RINGS: Final = 0
_ENTRIES: Final = 0x10000000
"""Offsets of the mappings of rings and of submission entries."""
_PARAMETERS: Final = struct.Struct("<10I8IQ8IQ")
"""struct io_uring_params: sizes and flags, then offsets within the submission and the completion ring."""
_SQE: Final = struct.Struct("<BBHiQQIIQQQQ")
_CQE: Final = struct.Struct("<QiI")
_WRAP: Final = 0xFFFFFFFF


class IoUring(Channel):
    """Requests to the open file `target`. Raises OSError if this machine or process has no io_uring."""

    way: ClassVar[str] = "io_uring"
    at_once: ClassVar[bool] = True

    def __init__(self, target: int) -> None:
        self._target = target
        parameters = ctypes.create_string_buffer(_PARAMETERS.size)
        self.descriptor = syscall(_SETUP, DEPTH, ctypes.addressof(parameters))
        try:
            self._map(_PARAMETERS.unpack(parameters.raw))
        except BaseException:
            os.close(self.descriptor)
            raise

    def _map(self, found: tuple[int, ...]) -> None:
        entries, completions, features = found[0], found[1], found[5]
        if features & _FEATURES != _FEATURES:
            raise OSError(0, f"its features are {features:#x}, and Linux 5.6 has {_FEATURES:#x}")
        sq_head, sq_tail, sq_mask, _, _, _, sq_array = found[10:17]
        cq_head, cq_tail, cq_mask, _, _, cqes = found[19:25]
        size = max(sq_array + entries * 4, cqes + completions * _CQE.size)
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        self._ring = mmap.mmap(self.descriptor, -(-size // 4) * 4, flags=flags, offset=_RINGS)
        self._entries = mmap.mmap(self.descriptor, entries * _SQE.size, flags=flags, offset=_ENTRIES)
        self._words = words = memoryview(self._ring).cast("I")
        self._sq_head, self._sq_tail, self._sq_mask = sq_head // 4, sq_tail // 4, words[sq_mask // 4]
        self._cq_head, self._cq_tail, self._cq_mask = cq_head // 4, cq_tail // 4, words[cq_mask // 4]
        self._cqes = cqes
        for index in range(entries):
            words[sq_array // 4 + index] = index

    def submit(self, requests: Sequence[Request]) -> int:
        """Submit requests; those that read cached bytes have then completed."""
        words, mask, target = self._words, self._sq_mask, self._target
        tail = first = words[self._sq_tail]
        for write, offset, address, length, number in requests:
            _SQE.pack_into(
                self._entries, (tail & mask) * _SQE.size,
                _OP_WRITE if write else _OP_READ, 0, 0, target, offset, address, length, 0, number, 0, 0, 0,
            )  # fmt: skip
            tail = tail + 1 & _WRAP
        return self._enter(first, tail)

    def start_writing(self, number: int) -> bool:
        """Have the kernel begin to write what is dirty; a thread of the kernel does that."""
        tail = self._words[self._sq_tail]
        _SQE.pack_into(
            self._entries, (tail & self._sq_mask) * _SQE.size,
            _OP_SYNC_FILE_RANGE, 0, 0, self._target, 0, 0, 0, write_back.START, number, 0, 0, 0,
        )  # fmt: skip
        return self._enter(tail, tail + 1 & _WRAP) == 1

    def _enter(self, first: int, tail: int) -> int:
        """Have the kernel take the entries from `first` to `tail`; returns how many it took."""
        words = self._words
        words[self._sq_tail] = tail
        count = tail - first & _WRAP
        try:
            done = syscall(_ENTER, self.descriptor, count)
        except OSError:
            done = 0
        if done < count:  # take back those that the kernel has not taken
            tail = words[self._sq_tail] = words[self._sq_head]
            done = tail - first & _WRAP
        return done

    def completed(self) -> list[tuple[int, int]]:
        """Number and result of each request that has completed."""
        words = self._words
        head, tail = words[self._cq_head], words[self._cq_tail]
        found: list[tuple[int, int]] = []
        while head != tail:
            number, result, _ = _CQE.unpack_from(self._ring, self._cqes + (head & self._cq_mask) * _CQE.size)
            found.append((number, result))
            head = head + 1 & _WRAP
        if found:
            words[self._cq_head] = head
        return found

    def close(self) -> None:
        """Close the ring."""
        self._words.release()
        self._ring.close()
        self._entries.close()
        os.close(self.descriptor)

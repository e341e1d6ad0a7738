"""A swap device in the daemon's own anonymous memory, which the kernel populates as slots are used, and may swap."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import ClassVar

from usmd.errors import SwapDeviceError
from usmd.sizes import format_size
from usmd.swap.base import Results, SlotIO, SwapDevice
from usmd.swap.kind import SwapKind
from usmd.swap.vectored import adjacent_runs

_RELEASE_RUN = 16
"""Least run of neighbouring slots that is freed. Freeing single slots costs more than it saves: they are soon
reused."""


class MemorySwapDevice(SwapDevice):
    """Slots in private anonymous memory. Raises SwapDeviceError if the kernel does not grant the memory."""

    kind: ClassVar[str] = "memory"

    def __init__(self, *, number: int, name: str, slots: int, page_size: int) -> None:
        super().__init__(number=number, name=name, path=None, slots=slots, page_size=page_size)
        size = slots * page_size
        try:
            self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, OverflowError) as error:
            raise SwapDeviceError(
                f"swap device {name}: the kernel grants no {format_size(size)} of memory ({error}); "
                "make the device smaller, or use a file"
            ) from error
        self._view = memoryview(self._memory)

    def _store(self, batch: Sequence[SlotIO]) -> Results:
        memory, page_size = self._memory, self.page_size
        for slot, _, _, _, buffer in batch:
            start = slot * page_size
            memory[start : start + page_size] = buffer
        return [None] * len(batch)

    def _fetch(self, batch: Sequence[SlotIO]) -> Results:
        view, page_size = self._view, self.page_size
        for slot, _, _, _, buffer in batch:
            start = slot * page_size
            buffer[:] = view[start : start + page_size]
        return [None] * len(batch)

    def _fetch_now(self, batch: Sequence[SlotIO]) -> Results | None:
        return self._fetch(batch)

    def _release(self, slots: Sequence[int]) -> None:
        if self.page_size % mmap.PAGESIZE:
            return  # the kernel frees only whole pages of its own size
        for run in adjacent_runs(slots):
            if len(run) >= _RELEASE_RUN:
                start = slots[run[0]] * self.page_size
                self._memory.madvise(mmap.MADV_DONTNEED, start, len(run) * self.page_size)

    def _close(self) -> None:
        self._view.release()
        self._memory.close()


class MemoryKind(SwapKind, frozen=True, kw_only=True):
    """`memory:SIZE`."""

    device = MemorySwapDevice

    def open(self, number: int, name: str, page_size: int) -> MemorySwapDevice:
        """Take the memory. Raises SwapDeviceError if the kernel does not grant it."""
        return MemorySwapDevice(number=number, name=name, slots=self.size // page_size, page_size=page_size)

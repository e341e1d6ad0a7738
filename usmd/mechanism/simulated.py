"""Mechanism `simulated`: the frames are one pool of memory in the daemon, and applications load and store by call.

Needs no privilege and no kernel feature.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Sequence
from typing import Final

from usmd.core.commands import SlotPage
from usmd.errors import ConfigError, UsmdError
from usmd.mechanism.base import Errors, Mechanism, Stage
from usmd.mechanism.staging import MemfdStage, Staging
from usmd.sizes import format_size

NAME: Final = "simulated"


_MADV_POPULATE_WRITE: Final = 23
"""Linux 5.14; Python 3.11 has no name for it."""


_MANY: Final = 64
"""Neighbouring frames that are made zero at once."""


def _populate(pool: mmap.mmap) -> None:
    """Make the kernel back the pool with memory, so that no client's fault pays for it; raises OSError if it cannot.

    A kernel that does not know the advice backs the pool as it is used.
    """
    for advice in (mmap.MADV_HUGEPAGE, _MADV_POPULATE_WRITE):
        try:
            pool.madvise(advice)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise


class SimulatedMemory(Mechanism):
    """`frames` frames of `page_size` bytes each."""

    name = NAME

    def __init__(self, frames: int, page_size: int) -> None:
        """Allocate the whole pool; raises ConfigError if the machine refuses."""
        size = frames * page_size
        try:
            self._pool = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            _populate(self._pool)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"memory.size = {format_size(size)} cannot be allocated on this machine ({error}); choose less"
            ) from error
        self._view = memoryview(self._pool)
        self._page_size = page_size
        self._zeros = bytes(page_size)
        self._many_zeros = memoryview(bytes(page_size * _MANY))
        self._staging = Staging(page_size)

    def buffer(self, pfn: int) -> memoryview:
        """The bytes of a frame, writable."""
        start = pfn * self._page_size
        return self._view[start : start + self._page_size]

    def source(self, page: SlotPage) -> memoryview:
        """The bytes of the page's frame. A late write may find another page there; its result is not used."""
        return self.buffer(page.pfn)

    def stage(self, pages: Sequence[SlotPage], *, at_once: bool = False) -> Stage:
        """The frames themselves for a read `at_once`; else memory apart from them."""
        if at_once:
            return Stage(pages, [self.buffer(page.pfn) for page in pages])
        return self._staging.stage(pages)

    def unstage(self, stage: Stage) -> None:
        """Keep the memory for the next stage."""
        super().unstage(stage)
        if isinstance(stage, MemfdStage):
            self._staging.give_back(stage)

    def fill(self, stage: Stage, errors: Sequence[UsmdError | None]) -> Errors:
        """Copy into the frames what was read elsewhere."""
        if isinstance(stage, MemfdStage):
            view, size = self._view, self._page_size
            for page, buffer, error in zip(stage.pages, stage.buffers, errors, strict=True):
                if error is None:
                    view[page.pfn * size : (page.pfn + 1) * size] = buffer
        self.unstage(stage)
        return list(errors)

    def zero(self, frames: Sequence[int], pages: Sequence[int]) -> None:
        """Make frames all zero."""
        del pages
        view, size = self._view, self._page_size
        if isinstance(frames, range):
            many = self._many_zeros
            for first in range(frames.start * size, frames.stop * size, len(many)):
                end = min(first + len(many), frames.stop * size)
                view[first:end] = many[: end - first]
            return
        zeros = self._zeros
        for pfn in frames:
            view[pfn * size : (pfn + 1) * size] = zeros

    def protect(self, frames: Sequence[int], pages: Sequence[int]) -> list[bool | None]:
        """Returns which frames are all zero. Only calls write here, so no writes need to be stopped."""
        del pages
        pool, size, zeros = self._pool, self._page_size, self._zeros
        return [pool[pfn * size : (pfn + 1) * size] == zeros for pfn in frames]

    def load(self, frames: Sequence[int], first: int, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on, counted from the start of the first frame; frames are in page order."""
        del first
        size = self._page_size
        view = self._view
        parts = []
        for pfn in frames:
            take = min(size - offset, length)
            start = pfn * size + offset
            parts.append(view[start : start + take])
            length -= take
            offset = 0
        return b"".join(parts)

    def store(self, frames: Sequence[int], first: int, offset: int, data: memoryview) -> int:
        """Write `data` from `offset` on, counted from the start of the first frame; returns the bytes written."""
        del first
        size = self._page_size
        view = self._view
        done = 0
        for pfn in frames:
            take = min(size - offset, len(data) - done)
            start = pfn * size + offset
            view[start : start + take] = data[done : done + take]
            done += take
            offset = 0
        return done

    def close(self) -> None:
        """Give the pool back. No buffer of it may still be in use."""
        self._view.release()
        self._pool.close()

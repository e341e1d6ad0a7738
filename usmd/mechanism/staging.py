"""Staging memory: pages are read into it and verified before they are copied to where a client sees them."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from usmd.core.commands import SlotPage
from usmd.mechanism.base import Errors, Stage

BLOCK_PAGES: Final = 64
"""Pages in a block; a larger batch has a larger block."""
SPARE_BLOCKS: Final = 4
"""Blocks kept for the next batch, of any size."""
SPARE_BYTES: Final = 16 << 20
"""Size of all blocks that may be kept; only what was once read into takes memory."""


class Block:
    """Staging memory: `size` bytes of the daemon's own at `address`."""

    __slots__ = ("address", "size", "view")

    def __init__(self, size: int) -> None:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.size = size
        self.view = memoryview(memory)


def _are_neighbours(pages: Sequence[SlotPage]) -> bool:
    """Whether pages follow each other, and all come in writable, or none does."""
    first, writable = pages[0].page, pages[0].writable
    return all(page.page == first + n and page.writable == writable for n, page in enumerate(pages))


class MemfdStage(Stage):
    """Buffers side by side in a block, in the order of the pages. `done`: bytes of each page that are filled."""

    __slots__ = ("_page_size", "block", "done", "tries")

    def __init__(self, pages: Sequence[SlotPage], block: Block, page_size: int) -> None:
        view = block.view
        super().__init__(pages, [view[n * page_size : (n + 1) * page_size] for n in range(len(pages))], block.address)
        self.block = block
        self._page_size = page_size
        self.done = [0] * len(pages)
        self.tries = 0

    def left(self, results: Errors) -> Iterator[list[int]]:
        """Indexes of the pages still to be filled, neighbours together."""
        size, pages = self._page_size, self.pages
        if pages and not any(results) and not any(self.done) and _are_neighbours(pages):  # the usual case
            yield list(range(len(pages)))
            return
        wanted = [n for n in range(len(pages)) if results[n] is None and self.done[n] < size]

        def place(position_index: tuple[int, int]) -> tuple[int, int, bool, bool]:
            position, index = position_index
            page = pages[index]
            return page.page - position, index - position, page.writable, self.done[index] > 0

        for _, run in groupby(enumerate(wanted), key=place):
            yield [index for _, index in run]


class Staging:
    """Makes stages, and keeps some unused blocks for the next batches."""

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._spare: list[Block] = []

    def stage(self, pages: Sequence[SlotPage]) -> MemfdStage:
        """A stage for these pages."""
        needed = max(len(pages), BLOCK_PAGES) * self._page_size
        block = self._spare.pop() if self._spare and self._spare[-1].size >= needed else Block(needed)
        return MemfdStage(pages, block, self._page_size)

    def give_back(self, stage: MemfdStage) -> None:
        """Take back the block of a stage that is no longer used."""
        if len(self._spare) < SPARE_BLOCKS or (len(self._spare) + 1) * stage.block.size <= SPARE_BYTES:
            self._spare.append(stage.block)

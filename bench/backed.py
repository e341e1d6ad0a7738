"""Has the host of a virtual machine find memory before something is measured."""

from __future__ import annotations

import mmap
from typing import Final

_POPULATE_WRITE: Final = 23
"""MADV_POPULATE_WRITE, Linux 5.14; Python 3.11 has no name for it."""


def back_memory(length: int) -> None:
    """Use so much memory, and free it, so that the host need not find it later.

    Where a guest reports free memory to its host (`page_reporting`), the first use of 2 MiB after some seconds takes
    5 ms.
    """
    with mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        memory.madvise(_POPULATE_WRITE)

"""A client that takes all it can get: `greedy.py ADDRESS LIBRARY PAGES`. It writes to pages at random until it ends.

`LIBRARY`: the compiled bench/touch.c. bench.neighbours has it run beside a small client.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import numpy as np

import lib_usm
from bench.native import PAGE, Touch, address_of

BATCH: Final = 4096
"""Pages written to between two looks at Python's signals."""


def main(address: str, library: str, pages: int) -> None:
    """Write for ever."""
    touch = Touch(Path(library))
    chosen = np.random.default_rng(20)
    with lib_usm.connect(address, name="greedy") as client, client.mmap(pages * PAGE, name="much") as region:
        start = address_of(region.buffer)
        touch.touch(start, np.arange(pages, dtype=np.uint32), write=True)
        while True:
            touch.touch(start, chosen.integers(0, pages, BATCH, dtype=np.uint32), write=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

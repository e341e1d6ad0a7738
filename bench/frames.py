"""Daemon memory per frame: the core with all frames in use, page tables, swap maps and checksums included.

Counted by tracemalloc, which sees every array; the checksums of a swap device are a mapping and are added (8 bytes a
slot). The frames' own bytes are not in it, nor are the interpreter and the libraries, which do not grow with frames.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from typing import Final

from bench.core import fault, make_core, settle

FRAMES: Final = 32768
RANGE: Final = 256
CHECKSUM_BYTES: Final = 8


def bytes_per_frame(overcommit: int, frames: int = FRAMES) -> tuple[float, int]:
    """Bytes a frame when a region of `overcommit` times the frames was touched in full; and the frames in use."""
    make_core(64)  # which imports the policies: their code does not grow with frames
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    core, process, region = make_core(frames, overcommit)
    for page in range(0, frames * overcommit, RANGE):
        settle(core, core.handle(fault(process, region, page, RANGE), 0.0))
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    slots = core.state.swap.slots
    in_use = core.state.frames.count - core.state.frames.free
    return (used + slots * CHECKSUM_BYTES) / frames, in_use


def main() -> None:
    """Print a line for each ratio of pages to frames."""
    print(f"daemon memory per frame ({FRAMES} frames, swap of the same size as the region, default policies)")
    for overcommit in (1, 4, 8):
        started = time.perf_counter()
        each, in_use = bytes_per_frame(overcommit)
        print(
            f"  region {overcommit}x the memory: {each:6.1f} bytes a frame (aim 200), {in_use} frames in use, "
            f"measured in {time.perf_counter() - started:.1f} s"
        )


if __name__ == "__main__":
    main()

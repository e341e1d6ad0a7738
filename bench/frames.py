"""Daemon memory per frame: the core with all frames in use, with page tables, swap maps and checksums.

tracemalloc counts all arrays; the checksums of a swap device are a mapping, and are added (8 bytes per slot). Not
counted are the frames' own bytes, the interpreter and the libraries, which do not grow with the number of frames.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from typing import Final

from bench import as_program
from bench.core import fault, make_core, settle

FRAMES: Final = 32768
RANGE: Final = 256
CHECKSUM_BYTES: Final = 8


def bytes_per_frame(overcommit: int, frames: int = FRAMES) -> tuple[float, int]:
    """Bytes per frame after all of a region of `overcommit` times the frames was touched; and the frames in use."""
    make_core(64)  # imports the policies, whose code does not grow with the number of frames
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
    as_program(main, __doc__)

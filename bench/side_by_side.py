"""The same random reads over the same data in a quarter of the memory: with usmd, and with the kernel's own swap.

Both sides run the program bench.reader. usmd has as much memory as the memory cgroup of the kernel's side, and swaps to
a file on the same disk. The kernel caches that file in memory that no side is charged for. So there is a second run of
usmd, with daemon and reader in a cgroup that has little room for that cache. Every record read is compared with what
was stored.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench import as_program
from bench.kernel_memory import UnavailableError, memory_cgroup, swap_file
from bench.native import NoCompilerError, compiled
from bench.reader import Result
from bench.sides import run_program, usmd_for
from usmd.mechanism import uffd

DATA: Final = 512 << 20
SHARE: Final = 4
"""Data size in units of the memory."""
SWAP: Final = DATA + DATA // 4
"""Bytes of swap on each side."""
EXTRA: Final = 16 << 20
"""Bytes of usmd's cgroup beyond usmd's memory: for the page cache of the swap file, and for growth of the daemon's own
tables."""
SKEW: Final = 0.99
WARM: Final = 20_000
READS: Final = 60_000
SECONDS: Final = 5.0
"""Longest time for the timed reads of a side, and for those before them."""
LIMIT_SECONDS: Final = 120.0
"""Time after which the reader is killed; it may wait for a page that is never served."""


def read_by(**settings: object) -> Result:
    """Run the reader. Raises RuntimeError if it fails, or reads anything that was not stored."""
    asked = {"data": DATA, "skew": SKEW, "warm": WARM, "reads": READS, "seconds": SECONDS, **settings}
    return run_program("reader", asked, Result, LIMIT_SECONDS)


def under_usmd(folder: Path, *, bounded: bool) -> Result:
    """The reads with usmd; `bounded`: daemon and reader in a cgroup. Raises UnavailableError."""
    memory = DATA // SHARE
    with ExitStack() as stack:
        group = stack.enter_context(memory_cgroup(memory + EXTRA)) if bounded else None
        side = stack.enter_context(usmd_for(memory=memory, swap=SWAP, group=group))
        return read_by(library=str(folder / "touch.so"), **side)


def under_kernel(folder: Path) -> tuple[Result, str]:
    """The reads with the kernel, and a description of its swap. Raises UnavailableError."""
    with memory_cgroup(DATA // SHARE) as group, swap_file(SWAP) as swap:
        return read_by(library=str(folder / "touch.so"), cgroup_procs=str(group.procs)), swap


def line(name: str, result: Result) -> str:
    """A line of results."""
    cut = "" if result.reads == READS else f"   (only {result.reads:,} reads in {SECONDS:g} s)"
    return (
        f"  {name:34} {result.reads / result.seconds:9,.0f} reads/s   p50 {result.p50:6.2f} p99 {result.p99:8.1f} us   "
        f"{result.faults:6,} major faults, p50 {result.fault_p50:6.1f} us{cut}"
    )


def compare(folder: Path) -> None:
    """Run all sides; print a line for each, and the ratios."""
    results = {}
    for name, bounded in (("usmd", False), ("usmd, page cache bounded", True)):
        try:
            results[name] = under_usmd(folder, bounded=bounded)
        except UnavailableError as error:
            print(f"  {name}: skipped: {error}")
        else:
            print(line(name, results[name]))
    try:
        kernel, swap = under_kernel(folder)
    except UnavailableError as error:
        print(f"  kernel: skipped: {error}")
        return
    print(line(f"kernel, {swap}", kernel))
    for name, result in results.items():
        ratio = result.reads / result.seconds / (kernel.reads / kernel.seconds)
        faster, times = ("usmd", ratio) if ratio > 1 else ("the kernel", 1 / ratio)
        print(f"  ratio {name} / kernel: {ratio:.2f} of its reads/s; {faster} is {times:.1f} times as fast")


def main() -> None:
    """Print all lines, or why nothing can be compared here."""
    print(
        f"side by side: {READS:,} random reads of 64 bytes over {DATA >> 20} MiB of random bytes "
        f"in {DATA // SHARE >> 20} MiB of memory (load average {os.getloadavg()[0]:.1f})"
    )
    print(f"  pages by a Zipf distribution (s = {SKEW}), the same reads on each side, {WARM:,} more before them")
    why_not = uffd.usable(uffd.probe())
    if why_not:
        print(f"  skipped: {why_not}")
        return
    print(
        f"  usmd: default policies and --fault-wakeup; bounded: daemon and reader in a cgroup, {EXTRA >> 20} MiB more"
    )
    try:
        with compiled() as folder:
            compare(folder)
    except NoCompilerError as error:
        print(f"  skipped: {error}")


if __name__ == "__main__":
    as_program(main, __doc__)

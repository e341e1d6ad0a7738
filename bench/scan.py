"""Pages read in order, by strides, in two scans at once and at random, over twice the memory: usmd beside the kernel.

All sides run the program bench.scanner, as bench.side_by_side does with its own. usmd runs twice, with the default
policies and with an alloc policy that brings in single pages, so the difference is what the default sees in the order
of faults.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Final

from bench import as_program
from bench.kernel_memory import UnavailableError, memory_cgroup, swap_file
from bench.native import PAGE
from bench.scanner import Measured, Result
from bench.sides import run_program, usmd_for
from usmd.mechanism import uffd

MEMORY: Final = 64 << 20
DATA: Final = 2 * MEMORY
SWAP: Final = 3 * MEMORY
FRESH: Final = MEMORY // 2
EXTRA: Final = 32 << 20
"""Bytes of usmd's cgroup beyond usmd's memory: as in bench.side_by_side, and for the larger program of this one."""
PASSES: Final = 3
ZIPF: Final = 30_000
LIMIT_SECONDS: Final = 240.0
"""Time after which the scanner is killed; it may wait for a page that is never served."""
SINGLE: Final = "async_aware(regular=first_fit)"


def scan_by(**settings: object) -> Result:
    """Run the scanner. Raises RuntimeError if it fails, or reads anything that was not stored."""
    asked = {"data": DATA, "fresh": FRESH, "passes": PASSES, "zipf": ZIPF, **settings}
    return run_program("scanner", asked, Result, LIMIT_SECONDS)


def under_usmd(*flags: str, bounded: bool = False) -> Result:
    """The scans with usmd; `bounded`: daemon and scanner in a cgroup. Raises UnavailableError."""
    with ExitStack() as stack:
        group = stack.enter_context(memory_cgroup(MEMORY + EXTRA)) if bounded else None
        return scan_by(**stack.enter_context(usmd_for(*flags, memory=MEMORY, swap=SWAP, group=group)))


def under_kernel() -> Result:
    """The scans with the kernel. Raises UnavailableError."""
    with memory_cgroup(MEMORY) as group, swap_file(SWAP):
        return scan_by(cgroup_procs=str(group.procs))


def speed(measured: Measured) -> float:
    """Pages a second."""
    return measured.pages / measured.seconds


def report(results: dict[str, Result]) -> None:
    """Print a line for each order: the speed of each side, and its share of the last side's."""
    *names, last = results
    for order, base in results[last].orders.items():
        parts = []
        for name in names:
            of = results[name].orders[order]
            ratio = speed(of) / speed(base)
            parts.append(f"{name} {speed(of) * PAGE / (1 << 20):7.1f} ({ratio:5.2f}x, {of.faults:6,} faults)")
        print(f"  {order:12} {last} {speed(base) * PAGE / (1 << 20):7.1f} MiB/s   {'   '.join(parts)}")


def main() -> None:
    """Print all lines, or why nothing can be compared here."""
    print(
        f"scan: {DATA >> 20} MiB in {MEMORY >> 20} MiB of memory, a page touched counts as {PAGE} bytes, best of "
        f"{PASSES} passes (load average {os.getloadavg()[0]:.1f})"
    )
    why_not = uffd.usable(uffd.probe())
    if why_not:
        print(f"  skipped: {why_not}")
        return
    results = {"default": under_usmd(), "single pages": under_usmd("--alloc", SINGLE)}
    try:
        results["bounded"] = under_usmd(bounded=True)
        results["kernel"] = under_kernel()
    except UnavailableError as error:
        print(f"  page cache bounded, and kernel: skipped: {error}")
    report(results)


if __name__ == "__main__":
    as_program(main, __doc__)

"""A sort by NumPy and a key-value store over far memory with a mirror, beside a direct file and the kernel's own swap.

Each side has the same memory for the data, a quarter of it. The mirror's far part is a redis-server by TCP on loopback,
and then with 0.1 ms added to the round trip by `tools.slow_link`. Its local part is a file with direct I/O, as the
other side of usmd has, so usmd has no more memory in the kernel's cache. The kernel swaps to a file on the same disk.
The rounds of all sides alternate, and every number and value is checked.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import as_program
from bench.far_program import Result
from bench.far_reads import free_port
from bench.kernel_memory import UnavailableError, memory_cgroup, swap_file
from bench.redis_server import NoRedisError, redis_server
from bench.sides import run_program, usmd_for
from tools.slow_link import slow_link
from usmd.mechanism import uffd

MEMORY: Final = 16 << 20
DATA: Final = 4 * MEMORY
SWAP: Final = 2 * DATA
KERNEL_EXTRA: Final = 4 << 20
"""Bytes of the kernel's cgroup beyond that memory: what of the program would not be usmd's."""
REQUESTS: Final = 5_000
TRIP: Final = 0.0001
"""Seconds that are added to the round trip to the far part."""
ROUNDS: Final = 3
LIMIT_SECONDS: Final = 120.0
WORKS: Final[dict[str, tuple[str, ...]]] = {"sort": ("--alloc", "flexible_huge_pages(pages=16)"), "store": ()}
"""What is done, and usmd's flags for it, those of the examples."""

Side = Callable[[str], float]


def by_usmd(work: str, swap: str) -> float:
    """Seconds of the work in usmd."""
    with usmd_for("--swap", swap, *WORKS[work], memory=MEMORY, swap=None) as side:
        return run_program("far_program", settings(work) | side, Result, LIMIT_SECONDS).seconds


def by_kernel(work: str) -> float:
    """Seconds of the work in the kernel's memory. Raises UnavailableError, also if the kernel ends the program."""
    with memory_cgroup(MEMORY + KERNEL_EXTRA) as group, swap_file(SWAP):
        place = {"cgroup_procs": str(group.procs)}
        try:
            return run_program("far_program", settings(work) | place, Result, LIMIT_SECONDS).seconds
        except RuntimeError as error:
            if str(error).endswith("ended with -9"):
                raise UnavailableError("the kernel found no page to reclaim, and ended it (out of memory)") from error
            raise


def settings(work: str) -> dict[str, object]:
    """Those of the program that all sides share."""
    return {"work": work, "size": DATA, "requests": REQUESTS}


@contextmanager
def sides(folder: Path) -> Iterator[dict[str, Side]]:
    """The sides by name. Raises NoRedisError."""
    port = free_port()
    file = f"file:{folder}/swap:{SWAP}:direct"
    with redis_server(folder, None, (), "--port", str(port)), slow_link(port, TRIP / 2) as link:
        mirrors = (f"mirror:redis:redis://127.0.0.1:{each}:{SWAP},{file}" for each in (port, link))
        near, far = mirrors
        yield {
            "kernel's swap": by_kernel,
            "usmd, file with direct": lambda work: by_usmd(work, file),
            "usmd, mirror far + file": lambda work: by_usmd(work, near),
            f"the same, {1000 * TRIP:g} ms more": lambda work: by_usmd(work, far),
        }


def measure(found: dict[str, Side]) -> dict[str, dict[str, list[float]]]:
    """Seconds of each round, by work and side. Prints which work a side could not do, and leaves that out."""
    times: dict[str, dict[str, list[float]]] = {work: {} for work in WORKS}
    refused = set()
    for _ in range(ROUNDS):
        for name, side in found.items():
            for work in WORKS:
                try:
                    seconds = side(work)
                except UnavailableError as error:
                    if (name, work) not in refused:
                        print(f"  {work}, {name}: a round is skipped, {error}")
                    refused.add((name, work))
                else:
                    times[work].setdefault(name, []).append(seconds)
    return times


def main() -> None:
    """Print a line for each work and side, or why there are none."""
    print(
        f"far_programs: {DATA >> 20} MiB over {MEMORY >> 20} MiB of memory, medians of {ROUNDS} rounds "
        f"(load average {os.getloadavg()[0]:.1f})"
    )
    why_not = uffd.usable(uffd.probe())
    if why_not:
        print(f"  skipped: {why_not}")
        return
    with tempfile.TemporaryDirectory(prefix="usmd-bench-") as name:
        try:
            with sides(Path(name)) as found:
                times = measure(found)
        except NoRedisError as error:
            print(f"  skipped: {error}")
            return
    for work, by_side in times.items():
        for side, seconds in by_side.items():
            middle = statistics.median(seconds)
            rate = f"   {REQUESTS / middle:7,.0f} requests/s" if work == "store" else ""
            print(f"  {work}, {side:28} {middle:6.2f} s ({min(seconds):.2f} to {max(seconds):.2f}){rate}")


if __name__ == "__main__":
    as_program(main, __doc__)

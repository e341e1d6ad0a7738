"""What a small client feels of a greedy one: alone, beside it, and beside it with a guarantee, by turns in one run.

The small client touches its working set again and again, and at each step some fresh pages, whose faults are timed. All
of that fits its guarantee. The greedy one writes at random to several times the memory, as fast as it can.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import lib_usm
from bench.native import PAGE, NoCompilerError, Touch, address_of, compiled
from tools.own_daemon import OwnDaemon, running
from usm_wire.pb.usm.v1 import admin_pb2
from usmd.ctl.connect import Admin
from usmd.mechanism import uffd
from usmd.runtime_paths import parse_address

MEMORY: Final = 4096
"""Pages of memory."""
GREEDY: Final = 4 * MEMORY
"""Pages of the greedy client."""
WORKING_SET: Final = 256
FRESH: Final = 8
"""Fresh pages that the small client touches at each step."""
STEPS: Final = 150
STEP_SECONDS: Final = 0.01
ROUNDS: Final = 5
AIM_P99: Final = 1.5
AIM_FAULTS: Final = 1.1
FILLED_SECONDS: Final = 60.0
WAYS: Final = ("alone", "beside a greedy client", "the same with a guarantee")


class Felt(NamedTuple):
    """What the small client felt in some steps."""

    fresh: NDArray[np.uint64]
    """Nanoseconds of each touch of a fresh page."""
    seconds: float
    faults: float
    """Its faults for each fresh page, those on its working set included."""
    lost: int
    """Its pages that were evicted."""


class Small:
    """The small client."""

    def __init__(self, client: lib_usm.Client, admin: Admin, touch: Touch, steps: int) -> None:
        self._client, self._admin, self._touch, self._steps = client, admin, touch, steps
        self._working = client.mmap(WORKING_SET * PAGE, name="working set")
        self.guarantee = WORKING_SET + 2 * steps * FRESH
        """Pages: those of one turn may still be on their way out in the next."""

    @property
    def _number(self) -> int:
        return self._admin.process_id("small")

    def _counters(self) -> tuple[int, int]:
        (mine,) = [each for each in self._admin.processes() if each.name == "small"]
        return mine.counters["faults"], mine.counters["evictions"]

    def limit(self, memory_min: str) -> None:
        """Set its guarantee."""
        self._admin.set_limits(admin_pb2.SetLimitsRequest(process_id=self._number, memory_min=memory_min))

    def run(self) -> Felt:
        """Do all steps at their pace."""
        everything = np.arange(WORKING_SET, dtype=np.uint32)
        start = address_of(self._working.buffer)
        self._touch.touch(start, everything, write=True)
        faults, evictions = self._counters()
        times: list[NDArray[np.uint64]] = []
        with self._client.mmap(self._steps * FRESH * PAGE, name="fresh") as region:
            first = address_of(region.buffer)
            began = time.perf_counter()
            for step in range(self._steps):
                self._touch.touch(start, everything, write=True)
                pages = np.arange(step * FRESH, (step + 1) * FRESH, dtype=np.uint32)
                times.append(self._touch.touch(first, pages, write=True))
                time.sleep(max(began + (step + 1) * STEP_SECONDS - time.perf_counter(), 0.0))
            seconds = time.perf_counter() - began
            after, gone = self._counters()
        return Felt(np.concatenate(times), seconds, (after - faults) / (self._steps * FRESH), gone - evictions)


@contextmanager
def greedy(daemon: OwnDaemon, admin: Admin, library: Path) -> Iterator[None]:
    """A greedy client, which has begun to lose pages. Raises RuntimeError if it does not in time."""
    command = [sys.executable, "-m", "bench.greedy", daemon.address, str(library), str(GREEDY)]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + FILLED_SECONDS
            while not any(each.name == "greedy" and each.counters["evictions"] > MEMORY for each in admin.processes()):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the greedy client did not fill memory (exit code {process.poll()})")
                time.sleep(0.02)
            yield
        finally:
            process.kill()


def measure(daemon: OwnDaemon, library: Path, rounds: int, steps: int) -> list[list[Felt]]:
    """What the small client felt in each way, by round."""
    found: list[list[Felt]] = [[] for _ in WAYS]
    with (
        Admin(parse_address(daemon.admin_address, identity=False)) as admin,
        lib_usm.connect(daemon.address, name="small") as client,
    ):
        small = Small(client, admin, Touch(library), steps)
        for _ in range(rounds):
            found[0].append(small.run())
            with greedy(daemon, admin, library):
                found[1].append(small.run())
                small.limit(f"{small.guarantee * PAGE}B")
                found[2].append(small.run())
                small.limit("none")
    return found


def report(found: list[list[Felt]]) -> None:
    """Print a line for each way, with its ratios to the first."""
    before: tuple[float, float] | None = None
    for way, felt in zip(WAYS, found, strict=True):
        p50, p99 = (float(np.median([np.percentile(each.fresh, share) for each in felt])) / 1000 for share in (50, 99))
        rate = float(np.median([each.faults for each in felt]))
        steps = float(np.median([len(each.fresh) / FRESH / each.seconds for each in felt]))
        before = before or (p99, rate)
        ratios = p99 / before[0], rate / before[1]
        met = ratios[0] <= AIM_P99 and ratios[1] <= AIM_FAULTS
        aim = f"   (aim: {AIM_P99}x and {AIM_FAULTS}x, {'met' if met else 'MISSED'})" if way == WAYS[-1] else ""
        print(
            f"  {way:26} fresh page p50 {p50:7,.0f} us   p99 {p99:8,.0f} us {ratios[0]:6.2f}x   {steps:5.1f} steps/s   "
            f"faults a fresh page {rate:5.2f} {ratios[1]:5.2f}x   pages lost {sum(each.lost for each in felt):6,}{aim}"
        )


def run(rounds: int, steps: int) -> None:
    """Print the lines, or why nothing can be measured here."""
    print(
        f"neighbours: a small client ({WORKING_SET} pages again and again, {FRESH} fresh ones each "
        f"{STEP_SECONDS * 1000:g} ms) beside a greedy one, {GREEDY // MEMORY} times the memory of {MEMORY:,} pages;\n  "
        f"--mechanism userfaultfd, swap: a file, median of {rounds} rounds of {steps} steps"
    )
    why_not = uffd.usable(uffd.probe())
    if why_not:
        print(f"  skipped: {why_not}")
        return
    flags = ("--mechanism", "userfaultfd", "--page-size", str(PAGE), "--memory", str(MEMORY * PAGE))
    single = ("--alloc", "flexible_huge_pages(pages=1)")  # so that each fresh page is a fault
    try:
        with compiled() as folder, running(*flags, *single, swap_file=str(2 * GREEDY * PAGE)) as daemon:
            report(measure(daemon, folder / "touch.so", rounds, steps))
    except NoCompilerError as error:
        print(f"  skipped: {error}")


def main() -> None:
    """Run with the defaults."""
    run(ROUNDS, STEPS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of all ways ({ROUNDS})")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of a round ({STEPS})")
    arguments = parser.parse_args()
    run(arguments.rounds, arguments.steps)

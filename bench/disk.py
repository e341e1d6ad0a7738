"""Reads from a swap file by each way of I/O, beside the device's own read; then real faults on swapped pages.

First the queues alone, in this process and on uvloop, as the daemon has them: a read of one page, 1 or 32 at a time,
from its request to its completion, checksum included. The device's own read is a blocking pread with O_DIRECT of one
page. Then the first touch of swapped pages in separate daemons, one for each way; and in a daemon and a C handler, each
on the client's CPU and on the other one. The rounds of all sides alternate.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import uvloop

from bench import as_program, real_swap, swap_faults
from bench.native import PAGE, NoCompilerError, Touch, compiled
from usmd.core.commands import SlotPage
from usmd.core.events import Event
from usmd.core.region import page_key
from usmd.errors import SwapDeviceError
from usmd.mechanism import uffd
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.device_queue import BATCH, DeviceQueue
from usmd.server.submitted_queue import queue_class
from usmd.swap import ways
from usmd.swap.open import open_devices, parse_swap_spec

PAGES: Final = 16384
"""Of each swap file."""
FRAMES: Final = 64
READS: Final = {1: 500, 32: 4000}
"""Reads of a round, by reads at a time."""
ROUNDS: Final = 5
TOUCHES: Final = 1000
_SEED: Final = 9


class Setting(NamedTuple):
    """A file by a way of I/O."""

    way: str
    direct: bool
    cached: bool

    @property
    def spec(self) -> str:
        """What stands behind the path and size of the device."""
        return f"{':direct' if self.direct else ''}:{self.way}"

    @property
    def name(self) -> str:
        """The name that is printed."""
        return f"{'O_DIRECT' if self.direct else 'cached' if self.cached else 'not cached'}, {self.way}"


SETTINGS: Final = tuple(
    Setting(way, direct, cached)
    for direct, cached in ((True, False), (False, False), (False, True))
    for way in ways.WAYS
    if way != ways.AUTO and (direct or way != "aio")
)


class File:
    """A queue over a swap file whose slots are all written; `read` reads random ones."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        path = folder / setting.name.replace(" ", "-")
        (device,) = open_devices([parse_swap_spec(f"file:{path}:{PAGES * PAGE}{setting.spec}")], PAGE)
        self.setting = setting
        self.memory = SimulatedMemory(FRAMES, PAGE)
        self.queue: DeviceQueue = queue_class(device)(device, self.memory, self._done)
        self.path = path
        self._random = random.Random(_SEED)
        self._todo: list[int] = []
        self._begun: dict[int, float] = {}
        self._left = 0
        self._times: list[float] = []
        self._waiting: asyncio.Future[None] | None = None

    def page(self, slot: int, frame: int) -> SlotPage:
        """A page by its slot, in a frame."""
        return SlotPage(slot, frame, 1, page_key(1, slot), 1)

    async def fill(self) -> None:
        """Write all slots."""
        for first in range(0, PAGES, BATCH):
            self._left = BATCH
            self._waiting = asyncio.get_running_loop().create_future()
            for frame in range(BATCH):
                self.memory.store([frame], 0, 0, memoryview(random.Random(first + frame).randbytes(PAGE)))
            self.queue.write([self.page(first + frame, frame) for frame in range(BATCH)])
            await self._waiting

    def forget_cached(self) -> None:
        """Make the kernel drop its cache of the file."""
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)

    async def read(self, depth: int) -> tuple[float, float]:
        """Median of the times of reads in microseconds, and reads a second, `depth` at a time."""
        if not self.setting.cached:
            self.forget_cached()
        self._todo = self._random.sample(range(PAGES), READS[depth])
        self._left = len(self._todo)
        self._times = []
        self._waiting = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        for frame in range(depth):
            self._begin(frame)
        await self._waiting
        return statistics.median(self._times) * 1e6, READS[depth] / (time.perf_counter() - started)

    def _begin(self, frame: int) -> None:
        if not self._todo:
            return
        self._begun[frame] = time.perf_counter()
        self.queue.read([self.page(self._todo.pop(), frame)])

    def _done(self, event: Event) -> None:
        """The queue's completion: begin the next reads, in the loop's next turn, as the daemon's faults come."""
        errors = getattr(event, "errors", [])
        if any(errors):
            raise RuntimeError(f"{self.setting.name}: {errors}")
        self._left -= len(errors)
        for frame in getattr(event, "frames", []):
            self._times.append(time.perf_counter() - self._begun[frame])
            if self._todo:  # which may be empty when `_begin` runs
                asyncio.get_running_loop().call_soon(self._begin, frame)
        if self._left == 0 and self._waiting is not None:
            self._waiting.set_result(None)


def own_reads(path: Path) -> float:
    """Median of blocking O_DIRECT reads of a page, in microseconds."""
    memory = mmap.mmap(-1, PAGE)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    times = []
    try:
        for page in random.sample(range(PAGES), READS[1]):
            started = time.perf_counter()
            os.preadv(descriptor, [memory], page * PAGE)
            times.append(time.perf_counter() - started)
    finally:
        os.close(descriptor)
    return statistics.median(times) * 1e6


async def queues(folder: Path) -> None:
    """Print a line for each way: the queues alone."""
    files: list[File] = []
    for setting in SETTINGS:
        try:
            files.append(File(setting, folder))
        except SwapDeviceError as error:
            print(f"  {setting.name:<22} skipped: {error}")
    for file in files:
        await file.fill()
    own: list[float] = []
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        files[0].forget_cached()
        own.append(own_reads(files[0].path))
        for file in files:
            for depth in READS:
                found.setdefault((file.setting.name, depth), []).append(await file.read(depth))
    for file in files:
        await file.queue.close()
    print(f"  queues alone; the device's own O_DIRECT read of a page: {statistics.median(own):.1f} us")
    for file in files:
        name = file.setting.name
        one, many = found[name, 1], found[name, 32]
        beside = statistics.median(each[0] / base for each, base in zip(one, own, strict=True))
        print(
            f"  {name:<22} 1 at a time {statistics.median(each[0] for each in one):7.1f} us ({beside:4.2f} times the "
            f"device's)   32 at a time {statistics.median(each[1] for each in many):9,.0f} reads/s"
        )


def real(touch: Touch, folder: Path) -> None:
    """Print a line for each way: first touches of swapped pages in a daemon."""
    generator = np.random.default_rng(_SEED)
    with ExitStack() as stack:
        sides: dict[str, real_swap.Data] = {}
        for setting in SETTINGS:
            if not setting.cached and not ways.probe(setting.way):
                path = folder / f"daemon-{setting.name.replace(' ', '-')}"
                swap = f"file:{path}:{real_swap.SWAP}{setting.spec}"
                data = stack.enter_context(real_swap.data(touch, swap=swap, path=path))
                data.fill()
                data.evict()
                sides[setting.name] = data
        own: list[float] = []
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(ROUNDS):
            next(iter(sides.values())).forget_cached()
            own.append(own_reads(next(iter(sides.values())).swap))
            for name, data in sides.items():
                data.forget_cached()
                pages = generator.permutation(real_swap.DATA // PAGE)[:TOUCHES].astype(np.uint32)
                times[name].append(float(np.median(data.touch.touch(data.address, pages, write=False))) / 1e3)
                data.check()
                data.evict()
    print(f"  real faults on swapped pages, p50; the device's own O_DIRECT read: {statistics.median(own):.1f} us")
    for name, found in times.items():
        beside = statistics.median(each / base for each, base in zip(found, own, strict=True))
        print(f"  {name:<22} {statistics.median(found):7.1f} us ({beside:4.2f} times the device's; aim 1.40)")


def main() -> None:
    """Print all lines, or why real faults cannot be measured here."""
    print(f"reads of swapped pages of {PAGE} bytes by ways of I/O; median of {ROUNDS} alternating rounds")
    with tempfile.TemporaryDirectory(prefix="usmd-bench-") as name:
        folder = Path(name)
        uvloop.run(queues(folder))
        why_not = uffd.usable(uffd.probe())
        if why_not:
            print(f"  real faults skipped: {why_not}")
            return
        try:
            with compiled() as built:
                touch = Touch(built / "touch.so")
                real(touch, folder)
                swap_faults.measure(touch, built, own_reads)
        except NoCompilerError as error:
            print(f"  real faults skipped: {error}")


if __name__ == "__main__":
    as_program(main, __doc__)

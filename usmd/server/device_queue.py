"""One queue per swap device: jobs of up to 64 pages, off the loop, so that no device delays another or the loop.

Requests that arrive while a job runs travel together in the next one. Writes have a worker of their own, so that a
swap-in does not wait for a batch of swap-outs, and reads have as many as the device is worth, between which those that
wait are divided. Slots and their order are the core's; bytes are the device's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from usmd import log
from usmd.core.commands import SlotPage
from usmd.core.events import Event, SwapInDone, SwapOutDone
from usmd.core.swap_map import SLOT_MASK
from usmd.errors import SwapIOError, Unmapped, UsmdError
from usmd.mechanism.base import Busy, Mechanism, Stage
from usmd.server.waiting_reads import WaitingReads
from usmd.swap.base import Results, SlotIO, SwapDevice

BATCH: Final = 64
BUSY_SECONDS: Final = 0.001


def _page_key(page: SlotPage) -> int:
    return page.page


def _batch(pages: Sequence[SlotPage], buffers: Sequence[memoryview]) -> list[SlotIO]:
    return [
        SlotIO(page.slot & SLOT_MASK, page.process_id, page.page, page.generation, buffer)
        for page, buffer in zip(pages, buffers, strict=True)
    ]


def _run(job: Callable[[Sequence[SlotIO]], Results], batch: Sequence[SlotIO]) -> Results:
    """Run a job in a worker; raises ValueError when the device does not answer for each entry."""
    results = job(batch)
    if len(results) != len(batch):
        raise ValueError(f"{len(results)} results for {len(batch)} entries")
    return results


class DeviceQueue:
    """Reads and writes of one device. `deliver` gets each completion, on the loop; the bytes are those of `memory`."""

    def __init__(self, device: SwapDevice, memory: Mechanism, deliver: Callable[[Event], object]) -> None:
        self.device = device
        self.pages_written = 0
        self.pages_read = 0
        self.errors = 0
        self.in_flight = 0
        self._memory = memory
        self._deliver = deliver
        self._writes: list[SlotPage] = []
        self._writer: asyncio.Task[None] | None = None
        self._reads = WaitingReads()
        self._readers: set[asyncio.Task[None]] = set()
        self._reading = 0
        """Readers whose job runs; the others look for one in this turn of the loop."""
        self._filling: set[asyncio.Task[None]] = set()
        self._workers = ThreadPoolExecutor(1 + device.read_jobs, thread_name_prefix=f"usmd-{device.name}")

    def write(self, pages: Sequence[SlotPage]) -> None:
        """Queue writes of pages to slots."""
        self._writes.extend(pages)
        self.in_flight += len(pages)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    def read(self, pages: Sequence[SlotPage]) -> None:
        """Read slots into pages: at once where the device need not be waited for, else it is queued."""
        if not self._reads and len(pages) <= BATCH:
            pages = sorted(pages, key=_page_key) if len(pages) > 1 else pages
            stage = self._memory.stage(pages)
            errors = self._read_now(pages, stage)
            if errors is not None:
                self.in_flight += len(pages)
                self.pages_read += self._count(errors)
                self._fill_all(stage, errors)
                return
            self._memory.unstage(stage)
        self._reads.add(pages)
        self.in_flight += len(pages)
        idle = len(self._readers) - self._reading
        for _ in range(min(len(self._reads), self.device.read_jobs - self._reading) - idle):
            self._readers.add(asyncio.get_running_loop().create_task(self._read_all()))

    def _read_now(self, pages: Sequence[SlotPage], stage: Stage) -> Results | None:
        try:
            return self.device.read_now(_batch(pages, stage.buffers))
        except Exception:  # noqa: BLE001 - logged with its traceback, and the worker tries as usual
            log.event("swap_device_defect", exc_info=True, device=self.device.name)
            return None

    def region_gone(self, region_id: int) -> None:
        """Nobody waits for the reads of a region any more: those that have not begun are answered with Unmapped."""
        gone = self._reads.forget(region_id)
        if gone:
            self.in_flight -= len(gone)
            error = Unmapped(f"region {region_id} was unmapped before its pages were read")
            self._deliver(SwapInDone([page.pfn for page in gone], [error] * len(gone)))

    async def _write_all(self) -> None:
        """Run writes until none is left."""
        waiting = self._writes
        try:
            while waiting:
                pages = waiting[:BATCH]
                del waiting[:BATCH]
                buffers = [self._memory.source(page) for page in pages]
                errors = await self._run_job(self.device.write, pages, buffers)
                for buffer in buffers:
                    buffer.release()
                self.pages_written += self._count(errors)
                self._deliver(SwapOutDone([page.slot for page in pages], errors))
        finally:
            self._writer = None

    async def _read_all(self) -> None:
        """Run reads, beside the other readers, until none is left."""
        task = asyncio.current_task()
        try:
            while self._reads:
                idle = self.device.read_jobs - self._reading
                pages = self._reads.take(-(-len(self._reads) // idle), BATCH)
                pages.sort(key=_page_key)  # neighbours come in together
                stage = self._memory.stage(pages)
                self._reading += 1
                errors = await self._run_job(self.device.read, pages, stage.buffers)
                self._reading -= 1
                self.pages_read += self._count(errors)
                self._fill_all(stage, errors)
        finally:
            # Not when the task is done, which is a turn later: a read that comes in between would find no reader.
            self._readers -= {task}

    def _fill_all(self, stage: Stage, errors: Sequence[UsmdError | None]) -> None:
        """Make the pages of a stage present; those that cannot be at once are tried again, and nobody waits for it."""
        errors = self._fill(stage, errors)
        if any(isinstance(error, Busy) for error in errors):
            task = asyncio.get_running_loop().create_task(self._fill_again(stage, errors))
            self._filling.add(task)
            task.add_done_callback(self._filling.discard)

    async def _fill_again(self, stage: Stage, errors: Sequence[UsmdError | None]) -> None:
        """Fill what could not be filled at once."""
        while any(isinstance(error, Busy) for error in errors):
            await asyncio.sleep(BUSY_SECONDS)
            errors = self._fill(stage, errors)

    def _fill(self, stage: Stage, before: Sequence[UsmdError | None]) -> Sequence[UsmdError | None]:
        """Make the pages of a stage present, and deliver those that are, or have failed, and were not before."""
        errors = self._memory.fill(stage, before)
        again = any(isinstance(error, Busy) for error in before)
        done = [
            index
            for index, error in enumerate(errors)
            if not isinstance(error, Busy) and (not again or isinstance(before[index], Busy))
        ]
        if done:
            self._deliver(SwapInDone([stage.pages[index].pfn for index in done], [errors[index] for index in done]))
        return errors

    async def _run_job(
        self, job: Callable[[Sequence[SlotIO]], Results], pages: Sequence[SlotPage], buffers: Sequence[memoryview]
    ) -> Sequence[UsmdError | None]:
        """Run a job in a worker; one error or None for each page."""
        try:
            batch = _batch(pages, buffers)
            return await asyncio.get_running_loop().run_in_executor(self._workers, _run, job, batch)
        except Exception as error:  # noqa: BLE001 - logged with its traceback, and every entry has failed
            # A device answers per entry and never raises for I/O: this is a defect, and every entry has failed.
            log.event("swap_device_defect", exc_info=True, device=self.device.name)
            return [SwapIOError(f"swap device {self.device.name}: {type(error).__name__}")] * len(pages)

    def _count(self, errors: Sequence[UsmdError | None]) -> int:
        """Count a job's end; returns the pages that were moved."""
        failed = sum(1 for error in errors if error is not None)
        self.errors += failed
        self.in_flight -= len(errors)
        return len(errors) - failed

    async def close(self) -> None:
        """Wait for what is queued, then close the device; raises UsmdError where that fails."""
        while running := [*self._readers, *self._filling, *([self._writer] if self._writer else ())]:
            await asyncio.wait(running)  # what ends may have begun more
        await asyncio.get_running_loop().run_in_executor(None, self.device.close)
        self._workers.shutdown()

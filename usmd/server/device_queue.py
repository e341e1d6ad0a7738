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
from usmd.errors import Refused, SwapIOError, Unmapped, UsmdError
from usmd.mechanism.base import Busy, Mechanism, Stage
from usmd.server.retries import PAUSES, Retries, TriedAgain
from usmd.server.waiting_reads import WaitingReads
from usmd.swap.base import Results, SlotIO, SwapDevice

BATCH: Final = 64
BUSY_SECONDS: Final = 0.001
_UNDONE: Final = (Busy, TriedAgain)
"""What stands in the place of an error where the page is on its way yet."""


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
    """Reads and writes of one device. `deliver` gets each completion, on the loop; the bytes are those of `memory`.

    Every page that is queued is delivered once, whatever fails on the way. What the device could not do is tried again
    after `pauses` (seconds) before it has failed.
    """

    def __init__(
        self,
        device: SwapDevice,
        memory: Mechanism,
        deliver: Callable[[Event], object],
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self.device = device
        self.pages_written = 0
        self.pages_read = 0
        self.errors = 0
        """Reads and writes of a page that failed, each try counted."""
        self.pages_refused = 0
        """Pages that the device did not take, though nothing failed."""
        self.reads_owed = 0
        """Pages that were to be read and have not been delivered yet."""
        self.writes_owed = 0
        self._memory = memory
        self._deliver = deliver
        self._writes: list[SlotPage] = []
        self._writer: asyncio.Task[None] | None = None
        self._reads = WaitingReads()
        self._readers: set[asyncio.Task[None]] = set()
        self._reading = 0
        """Readers whose job runs; the others look for one in this turn of the loop."""
        self._filling: set[asyncio.Task[None]] = set()
        self._read_again = Retries(device.name, "read", self._start_reads, pauses)
        self._write_again = Retries(device.name, "write", self._start_writes, pauses)
        self._workers = ThreadPoolExecutor(1 + device.read_jobs, thread_name_prefix=f"usmd-{device.name}")

    @property
    def in_flight(self) -> int:
        """Pages on their way, either way."""
        return self.reads_owed + self.writes_owed

    def write(self, pages: Sequence[SlotPage]) -> None:
        """Queue writes of pages to slots."""
        self.writes_owed += len(pages)
        self._start_writes(pages)

    def _start_writes(self, pages: Sequence[SlotPage]) -> None:
        self._writes.extend(pages)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    def read(self, pages: Sequence[SlotPage]) -> None:
        """Read slots into pages: at once where the device need not be waited for, else it is queued."""
        self.reads_owed += len(pages)
        if self._reads or len(pages) > BATCH or not self._read_at_once(pages):
            self._start_reads(pages)

    def _read_at_once(self, pages: Sequence[SlotPage]) -> bool:
        """Read without waiting; False where that cannot be done."""
        pages = sorted(pages, key=_page_key) if len(pages) > 1 else pages
        try:
            stage = self._memory.stage(pages)
        except (OSError, MemoryError):
            return False  # the reader will say so, and try again
        errors = self._read_now(pages, stage)
        if errors is None:
            self._memory.unstage(stage)
            return False
        self._read_done(stage, errors)
        return True

    def _start_reads(self, pages: Sequence[SlotPage]) -> None:
        self._reads.add(pages)
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
        gone = [*self._reads.forget(region_id), *self._read_again.forget(region_id)]
        if gone:
            error = Unmapped(f"region {region_id} was unmapped before its pages were read")
            self._deliver_read([page.pfn for page in gone], [error] * len(gone))

    async def _write_all(self) -> None:
        """Run writes until none is left."""
        waiting = self._writes
        try:
            while waiting:
                pages = waiting[:BATCH]
                del waiting[:BATCH]
                errors = await self._write_job(pages)
                self.pages_written += self._count(errors)
                self._deliver_written(pages, self._write_again.sift(pages, errors))
        finally:
            self._writer = None

    async def _write_job(self, pages: Sequence[SlotPage]) -> Sequence[UsmdError | None]:
        """Write pages; one error or None for each."""
        buffers: list[memoryview] = []
        try:
            try:
                buffers.extend(map(self._memory.source, pages))
            except Exception as error:  # noqa: BLE001 - told, and no page of the batch was written
                return _no_memory(pages, error)
            return await self._run_job(self.device.write, pages, buffers)
        finally:
            for buffer in buffers:
                buffer.release()

    def _deliver_written(self, pages: Sequence[SlotPage], errors: Sequence[UsmdError | None]) -> None:
        done = [index for index, error in enumerate(errors) if not isinstance(error, TriedAgain)]
        if done:
            self.writes_owed -= len(done)
            self._deliver(SwapOutDone([pages[index].slot for index in done], [errors[index] for index in done]))

    async def _read_all(self) -> None:
        """Run reads, beside the other readers, until none is left."""
        task = asyncio.current_task()
        try:
            while self._reads:
                idle = self.device.read_jobs - self._reading
                pages = self._reads.take(-(-len(self._reads) // idle), BATCH)
                pages.sort(key=_page_key)  # neighbours come in together
                await self._read_job(pages)
        finally:
            # Not when the task is done, which is a turn later: a read that comes in between would find no reader.
            self._readers -= {task}

    async def _read_job(self, pages: Sequence[SlotPage]) -> None:
        try:
            stage = self._memory.stage(pages)
        except Exception as error:  # noqa: BLE001 - told, and no page of the batch was read
            errors = _no_memory(pages, error)
            self._count(errors)
            sifted = self._read_again.sift(pages, errors)
            failed = [index for index, each in enumerate(sifted) if not isinstance(each, TriedAgain)]
            if failed:
                self._deliver_read([pages[index].pfn for index in failed], [sifted[index] for index in failed])
            return
        self._reading += 1
        try:
            errors = await self._run_job(self.device.read, pages, stage.buffers)
        finally:
            self._reading -= 1
        self._read_done(stage, errors)

    def _read_done(self, stage: Stage, errors: Sequence[UsmdError | None]) -> None:
        """Make the pages of a stage present; those that cannot be at once are tried again, and nobody waits for it."""
        self.pages_read += self._count(errors)
        errors = self._fill(stage, self._read_again.sift(stage.pages, errors))
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
        errors: Sequence[UsmdError | None]
        try:
            errors = self._memory.fill(stage, before)
        except Exception as error:  # noqa: BLE001 - logged with its traceback, and what is not present has failed
            log.event("fill_failed", exc_info=True, pages=len(stage.pages))
            why = SwapIOError(f"the page cannot be brought in: {type(error).__name__}")
            errors = [why if each is None or isinstance(each, Busy) else each for each in before]
        again = any(isinstance(error, Busy) for error in before)
        done = [
            index
            for index, error in enumerate(errors)
            if not isinstance(error, _UNDONE) and (not again or isinstance(before[index], Busy))
        ]
        if done:
            self._deliver_read([stage.pages[index].pfn for index in done], [errors[index] for index in done])
        return errors

    def _deliver_read(self, frames: Sequence[int], errors: Sequence[UsmdError | None]) -> None:
        self.reads_owed -= len(frames)
        self._deliver(SwapInDone(frames, errors))

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
        """Count what failed and what was refused; returns the pages that were moved."""
        undone = [error for error in errors if error is not None]
        refused = sum(isinstance(error, Refused) for error in undone)
        self.pages_refused += refused
        self.errors += len(undone) - refused
        return len(errors) - len(undone)

    async def close(self) -> None:
        """Wait for what is queued, then close the device; raises UsmdError where that fails."""
        while running := self._running():
            await asyncio.wait(running)  # what ends may have begun more
        await asyncio.get_running_loop().run_in_executor(None, self.device.close)
        self._workers.shutdown()

    def _running(self) -> list[asyncio.Task[None]]:
        pauses = [*self._read_again.tasks, *self._write_again.tasks]
        return [*self._readers, *self._filling, *pauses, *([self._writer] if self._writer else ())]


def _no_memory(pages: Sequence[SlotPage], error: Exception) -> Sequence[UsmdError | None]:
    """What the pages of a batch fail with for which the daemon has no memory of its own."""
    why = error.strerror if isinstance(error, OSError) else str(error)
    return [SwapIOError(f"usmd has no memory to move the page: {type(error).__name__} {why or ''}".rstrip())] * len(
        pages
    )

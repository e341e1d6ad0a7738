"""The queue of one swap device: jobs of up to 64 pages, off the loop, so that no device delays another or the loop.

Pages that arrive while a job runs are together in the next one. Writes have a worker of their own, so that a swap-in
does not wait for a batch of swap-outs. Waiting reads are divided among as many workers as the device can use. Of reads
and of writes processes take turns (`waiting_reads`, `waiting_writes`).

A job that takes too long has failed: a page to be read is an error to its waiters, one to be written stays in memory.
It continues in its thread, and never writes into a frame: what is read goes to memory of its own first. Until a write
that is late has ended, nothing else is written to the device, because the core takes its slots for free; reads continue
with the threads that are left.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from usmd import log
from usmd.core.commands import SlotPage
from usmd.core.events import Event
from usmd.core.swap_map import SLOT_MASK
from usmd.errors import SwapIOError, Unmapped, UsmdError
from usmd.mechanism.base import Mechanism, Stage
from usmd.server.device_jobs import READ, WRITE, DeviceHangs, DeviceJobs, Job, Release, no_memory
from usmd.server.mirror_watch import MirrorWatch
from usmd.server.page_results import PageResults
from usmd.server.retries import PAUSES
from usmd.server.waiting_reads import WaitingReads
from usmd.server.waiting_writes import WaitingWrites
from usmd.swap.base import Results, SlotIO, SwapDevice
from usmd.swap.mirror import MirrorStatus, MirrorSwapDevice
from usmd.swap.submitting import SubmittingDevice
from usmd.swap.ways import THREADS

BATCH: Final = 64
GONE_AT_ONCE: Final = 128
"""Reads for regions that are gone, answered before the loop has its turn."""
LOOK_SECONDS: Final = 0.1
"""Time between two looks for jobs that take too long, while the queue closes."""
CLOSE_SECONDS: Final = 1.0
"""How long the daemon's end waits for a device with a late job to close."""
TIMEOUT: Final = 30.0
"""Seconds that a job may take, unless the configuration says otherwise."""


def page_key(page: SlotPage) -> int:
    """The key that reads are sorted by."""
    return page.page


def batch_of(pages: Sequence[SlotPage], buffers: Sequence[memoryview]) -> list[SlotIO]:
    """Entries for a device."""
    return [
        SlotIO(page.slot & SLOT_MASK, page.process_id, page.page, page.generation, buffer)
        for page, buffer in zip(pages, buffers, strict=True)
    ]


class DeviceQueue(PageResults):
    """Reads and writes of one device. `deliver` gets each completion, on the loop; the bytes are those of `memory`.

    Every queued page is delivered once, whatever fails. `pauses`: as for `PageResults`. A job may take `timeout`
    seconds; 0: any time.
    """

    def __init__(
        self,
        device: SwapDevice,
        memory: Mechanism,
        deliver: Callable[[Event], object],
        pauses: Sequence[float] = PAUSES,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(device.name, memory, deliver, pauses, clock, device.patience)
        self.device = device
        self._writes = WaitingWrites()
        self._writer: asyncio.Task[None] | None = None
        self._reads = WaitingReads()
        self._readers: set[asyncio.Task[None]] = set()
        self._reading = 0
        """Readers whose job runs; the others look for one in this turn of the loop."""
        self._jobs = DeviceJobs(device.name, 1 + device.read_jobs, timeout)
        self._hangs_since = 0.0
        self._mirror = MirrorWatch(device) if isinstance(device, MirrorSwapDevice) else None

    @property
    def mirror(self) -> MirrorStatus | None:
        """How the parts of a mirror stand; None: the device is no mirror."""
        return self.device.status() if isinstance(self.device, MirrorSwapDevice) else None

    @property
    def io(self) -> str:
        """How jobs run: `threads`, or a way of usmd.swap.ways."""
        return self.device.way if isinstance(self.device, SubmittingDevice) else THREADS

    @property
    def io_reason(self) -> str:
        """Why jobs run so; empty if there was no other choice."""
        return self.device.why if isinstance(self.device, SubmittingDevice) else ""

    @property
    def hangs(self) -> bool:
        """Whether a job is late and has not ended."""
        return self._hangs_since > 0

    def write(self, pages: Sequence[SlotPage]) -> None:
        """Queue writes of pages to slots."""
        self.writes_owed += len(pages)
        if self.writes.left > 0:
            self.writes.begin([page.slot for page in pages])
        self._start_writes(pages)

    def _start_writes(self, pages: Sequence[SlotPage]) -> None:
        if self._late(WRITE):
            self._give_up_writes(pages)
            return
        self._writes.add(pages)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    def read(self, pages: Sequence[SlotPage]) -> None:
        """Read slots into pages: at once if the device can without waiting, else queued."""
        self._owe_reads(pages)
        if self._reads or len(pages) > BATCH or not self._read_at_once(pages):
            self._start_reads(pages)

    def _owe_reads(self, pages: Sequence[SlotPage]) -> None:
        self.reads_owed += len(pages)
        if self.reads.left > 0:
            self.reads.begin([page.pfn for page in pages])

    def _read_at_once(self, pages: Sequence[SlotPage]) -> bool:
        """Read without waiting; False if the device cannot."""
        pages = sorted(pages, key=page_key) if len(pages) > 1 else pages
        try:
            stage = self._memory.stage(pages, at_once=True)
        except (OSError, MemoryError):
            return False  # a reader reports that, and tries again
        errors = self._read_now(pages, stage)
        if errors is None:
            self._memory.unstage(stage)
            return False
        self._read_done(stage, errors)
        return True

    def _start_reads(self, pages: Sequence[SlotPage]) -> None:
        self._reads.add(pages)
        threads = self._read_threads()
        if not threads:
            self._give_up_reads()
            return
        idle = len(self._readers) - self._reading
        for _ in range(min(len(self._reads), threads - self._reading) - idle):
            self._readers.add(asyncio.get_running_loop().create_task(self._read_all()))

    def _give_up_writes(self, pages: Sequence[SlotPage]) -> None:
        """Fail writes, because a late one may still write to its slots, which the core takes for free."""
        self._written(pages, [self._hangs(WRITE)] * len(pages))

    def _read_threads(self) -> int:
        """Threads for reads that no late job holds."""
        return self.device.read_jobs - self._jobs.late(READ)

    def _give_up_reads(self) -> None:
        """Fail the reads that wait, because every thread for them hangs."""
        pages = self._reads.take_all()
        if pages:
            self._not_read(pages, [self._hangs(READ)] * len(pages))

    def _late(self, operation: str) -> int:
        """Jobs of an operation that are late and have not ended yet."""
        return self._jobs.late(operation)

    def _hangs(self, operation: str) -> DeviceHangs:
        return DeviceHangs(
            f"swap device {self.device.name}: a {operation} hangs, and no other can begin before it ends"
        )

    def look(self, now: float) -> None:
        """Give up the jobs that are late at `now` (seconds of the queue's clock)."""
        self.reads.tick()
        self.writes.tick()
        if self._mirror is not None:
            self._mirror.look(now)
        for job in self._jobs.look(now)[:1]:
            self._begins_to_hang(job.operation, len(job.batch), job.began, now)

    def _begins_to_hang(self, operation: str, pages: int, began: float, now: float) -> None:
        """A job is late: log that, unless another one was late before."""
        if not self._hangs_since:
            self._hangs_since = began
            seconds = round(now - began, 1)
            log.event("swap_device_hangs", device=self.device.name, operation=operation, pages=pages, seconds=seconds)

    def _ended(self, operation: str, batch: Sequence[SlotIO]) -> None:
        """A job that was late has ended: the device is used again."""
        if operation == WRITE:
            # The core has freed these slots, and nothing was written to them since: they hold bytes of no page.
            self.device.discard([entry.slot for entry in batch])
        elif self._reads:
            self._start_reads([])
        if self._hangs_since and not self._late(WRITE) and not self._late(READ):
            seconds = round(self._clock() - self._hangs_since, 1)
            self._hangs_since = 0.0
            log.event("swap_device_returned", device=self.device.name, seconds=seconds)

    def _read_now(self, pages: Sequence[SlotPage], stage: Stage) -> Results | None:
        try:
            return self.device.read_now(batch_of(pages, stage.buffers))
        except Exception:  # noqa: BLE001 - logged with its traceback, and the worker tries as usual
            log.event("swap_device_defect", exc_info=True, device=self.device.name)
            return None

    def regions_gone(self, region_ids: Sequence[int]) -> None:
        """Answer reads of these regions that have not begun with Unmapped, because no fault waits for them."""
        if self.reads_owed == 0:
            return
        gone = [*self._reads.forget(region_ids, GONE_AT_ONCE), *self._read_again.forget(region_ids)]
        if gone:
            error = Unmapped("its region was unmapped before the page was read")
            self._deliver_read([page.pfn for page in gone], [error] * len(gone))
        if len(gone) >= GONE_AT_ONCE:  # the rest in the loop's next turn, because there may be very many
            asyncio.get_running_loop().call_soon(self.regions_gone, region_ids)

    async def _write_all(self) -> None:
        """Run writes until none is left."""
        waiting = self._writes
        try:
            while waiting:
                pages = waiting.take(BATCH)
                self._written(pages, await self._write_job(pages))
                if waiting and self._late(WRITE):
                    self._give_up_writes(waiting.take_all())
        finally:
            self._writer = None

    async def _write_job(self, pages: Sequence[SlotPage]) -> Sequence[UsmdError | None]:
        """Write pages; one error or None for each."""
        buffers: list[memoryview] = []

        def release(*, late: bool) -> None:
            del late
            for buffer in buffers:
                buffer.release()

        try:
            buffers.extend(map(self._memory.source, pages))
        except Exception as error:  # noqa: BLE001 - the error of each page, none of which was written
            release(late=False)
            return no_memory(pages, error)
        return await self._run_job(WRITE, pages, buffers, release)

    async def _read_all(self) -> None:
        """Run reads, beside the other readers, until none is left."""
        task = asyncio.current_task()
        try:
            while self._reads:
                idle = self._read_threads() - self._reading
                if idle < 1:
                    if not self._reading:
                        self._give_up_reads()
                    return  # else the other readers take them
                pages = self._reads.take(-(-len(self._reads) // idle), BATCH)
                pages.sort(key=page_key)  # neighbours are filled together
                stage = self._stage(pages)
                if stage is not None:
                    await self._read_job(stage)
        finally:
            # Not when the task is done, a turn later: a read that arrives in between would find no reader.
            self._readers -= {task}

    def _stage(self, pages: Sequence[SlotPage]) -> Stage | None:
        """Memory to read pages into; None: there is none, and the reads have failed."""
        try:
            return self._memory.stage(pages)
        except Exception as error:  # noqa: BLE001 - the error of each page, none of which was read
            self._not_read(pages, no_memory(pages, error))
            return None

    async def _read_job(self, stage: Stage) -> None:
        pages = stage.pages
        self._reading += 1

        def unstage(*, late: bool) -> None:
            if late:  # else `fill` gives the buffers back
                self._memory.unstage(stage)

        try:
            errors = await self._run_job(READ, pages, stage.buffers, unstage)
        finally:
            self._reading -= 1
        if any(isinstance(error, DeviceHangs) for error in errors):
            self._not_read(pages, errors)
        else:
            self._read_done(stage, errors)

    async def _run_job(
        self, operation: str, pages: Sequence[SlotPage], buffers: Sequence[memoryview], release: Release
    ) -> Sequence[UsmdError | None]:
        """Run a job in a thread; one error or None for each page."""

        def on_end() -> None:
            release(late=job.late)
            if job.late:
                self._ended(job.operation, job.batch)

        perform = self.device.write if operation == WRITE else self.device.read
        job = Job(operation, perform, batch_of(pages, buffers), self._clock(), on_end)
        try:
            return await self._jobs.run(job)
        except DeviceHangs as error:
            return [error] * len(pages)
        except Exception as error:  # noqa: BLE001 - logged with its traceback, and every entry has failed
            # A device returns an I/O error for each entry and never raises one: this is a defect.
            log.event("swap_device_defect", exc_info=True, device=self.device.name)
            return [SwapIOError(f"swap device {self.device.name}: {type(error).__name__}")] * len(pages)

    async def close(self) -> None:
        """Wait for what is queued, then close the device; raises UsmdError if that fails."""
        await self._finish()
        await self._close()

    async def _finish(self) -> None:
        """Wait until no job is left but those that are late."""
        while running := self._running():
            await asyncio.wait(running, timeout=LOOK_SECONDS)  # a task that ends may have begun another
            self.look(self._clock())

    async def _close(self) -> None:
        if not self._hangs_since:
            await asyncio.to_thread(self._jobs.close)
            await asyncio.to_thread(self.device.close)
            return
        # A device closes once its jobs have ended. A daemon thread waits for that, so that the process can end.
        closing = threading.Thread(target=self.device.close, name=f"usmd-{self.device.name}-close", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_SECONDS)
        if closing.is_alive():
            log.event("swap_device_not_closed", device=self.device.name, error="a job that is late has not returned")

    def _running(self) -> list[asyncio.Future[None]]:
        pauses = [*self._read_again.tasks, *self._write_again.tasks]
        return [*self._readers, *self._filling, *pauses, *([self._writer] if self._writer else ())]

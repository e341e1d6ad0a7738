"""The queue of a swap device with a channel: jobs are submitted from the loop and completed there, without a thread.

A job that does not move all its bytes, or cannot be submitted, runs in a thread of `DeviceQueue`, which finds out why.
A read is submitted at once if nothing is in flight, else together with those of the same turn of the loop, as long as
the channel has room and few bytes of reads are in flight. Writes leave room for reads. Bytes to be written are copied
to memory of the job, side by side, so that neighbouring slots are one request.

A job that takes too long has failed, as in `DeviceQueue`. Its memory is the kernel's until it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from usmd import log
from usmd.core.commands import SlotPage
from usmd.core.events import Event
from usmd.errors import SwapIOError
from usmd.mechanism.base import Mechanism, Stage
from usmd.mechanism.staging import MemfdStage, Staging
from usmd.server.device_jobs import READ, WRITE, DeviceHangs, no_memory
from usmd.server.device_queue import BATCH, TIMEOUT, DeviceQueue, batch_of, page_key
from usmd.server.retries import PAUSES
from usmd.swap.base import Results, SwapDevice
from usmd.swap.submitting import Submission, SubmittingDevice

WRITES: Final = 2
"""Writes of up to BATCH pages in flight: enough to keep a device at work, and few for a read to wait behind."""

READ_BYTES: Final = 1 << 20
"""Bytes that reads in flight may have, unless one job of BATCH pages has more.

While the disk reads them they are in the page cache, where the kernel cannot take them back, and in memory of the
daemon. In a memory cgroup with little room more of them have the kernel kill a process. It is the depth of 256 pages.
"""


class _Job(Submission):
    """A job in flight, which began at `began`; `late`: it was given up."""

    __slots__ = ("began", "late", "operation", "stage")

    def __init__(self, operation: str, stage: Stage, began: float, end: Callable[[_Job, Results | None], None]) -> None:
        super().__init__(batch_of(stage.pages, stage.buffers), stage.address, end, writing=operation == WRITE)
        self.operation = operation
        self.stage = stage
        self.began = began
        self.late = False


class SubmittedQueue(DeviceQueue):
    """Reads and writes of one device with a channel; everything else is as for `DeviceQueue`."""

    device: SubmittingDevice

    def __init__(
        self,
        device: SubmittingDevice,
        memory: Mechanism,
        deliver: Callable[[Event], object],
        pauses: Sequence[float] = PAUSES,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(device, memory, deliver, pauses, timeout, clock)
        self._timeout = timeout
        self._staging = Staging(device.page_size)
        self._submitted: dict[_Job, None] = {}
        self._writing = 0
        self._again: set[asyncio.Task[None]] = set()
        """Jobs that run in a thread."""
        self._cached = False
        """Whether the last read was there at once: then the next one is tried by a call that does not wait, which costs
        half of a submission if the page is cached too."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._goes_on = False
        """Whether `_go_on` is due, for jobs that wait."""
        self._change: asyncio.Future[None] | None = None
        """Done when a submitted job has ended or was given up, if `close` waits for that."""

    def read(self, pages: Sequence[SlotPage]) -> None:
        """Read slots into pages; cached ones are there when this returns, if the device can do that."""
        self._owe_reads(pages)
        if self._submitted and len(pages) < BATCH and not self._cached:
            self._reads.add(pages)  # those of one turn of the loop are one job: a submission may have to wake the disk
            self._go_on_soon()
        elif self._reads or len(pages) > BATCH:
            self._start_reads(pages)
        elif self._cached and self._read_at_once(pages):
            pass
        elif not self._may_read():
            self._start_reads(pages)
        else:
            self._submit_read(sorted(pages, key=page_key) if len(pages) > 1 else pages)
            self._cached = self.reads_owed == 0

    def _start_reads(self, pages: Sequence[SlotPage]) -> None:
        self._reads.add(pages)
        while self._reads and self._may_read():
            share = self._reads.take(BATCH, BATCH)
            share.sort(key=page_key)  # neighbours are filled together
            self._submit_read(share)
        if self._reads and all(job.late for job in self._submitted if not job.writing):
            self._give_up_reads()  # there is no room because of jobs that hang

    def _may_read(self) -> bool:
        """Whether there is room for another read of BATCH pages."""
        device = self.device
        most = max(READ_BYTES // device.page_size, BATCH)
        return device.reading + BATCH <= most and device.room >= BATCH

    def _start_writes(self, pages: Sequence[SlotPage]) -> None:
        if self._late(WRITE):
            self._give_up_writes(pages)
            return
        self._writes.add(pages)
        self._submit_writes()

    def _late(self, operation: str) -> int:
        late = sum(1 for job in self._submitted if job.late and job.operation == operation) if self._hangs_since else 0
        return late + super()._late(operation)

    def _submit_read(self, pages: Sequence[SlotPage]) -> None:
        stage = self._stage(pages)
        if stage is not None:
            self._submit(READ, stage)

    def _submit_writes(self) -> None:
        waiting = self._writes
        while waiting and self._writing < WRITES and self.device.room >= BATCH:
            pages = waiting.take(BATCH)
            try:
                stage = self._copied(pages)
            except Exception as error:  # noqa: BLE001 - the error of each page, none of which was written
                self._written(pages, no_memory(pages, error))
                continue
            self._writing += 1
            self._submit(WRITE, stage)

    def _copied(self, pages: Sequence[SlotPage]) -> MemfdStage:
        """The bytes of pages, in memory of the job."""
        stage = self._staging.stage(pages)
        for page, buffer in zip(pages, stage.buffers, strict=True):
            buffer[:] = self._memory.source(page)
        return stage

    def _submit(self, operation: str, stage: Stage) -> None:
        job = _Job(operation, stage, self._clock(), self._end)
        try:
            begun = stage.address > 0 and self.device.submit(job)
        except Exception:  # noqa: BLE001 - logged with its traceback, and a thread tries as usual
            log.event("swap_device_defect", exc_info=True, device=self.device.name)
            begun = False
        if not begun:
            self._run_in_thread(job)
            return
        self._submitted[job] = None
        if self._loop is None:
            self._watch()
        channel = self.device.channel
        if channel is not None and channel.at_once:
            self.device.complete()

    def _watch(self) -> None:
        channel = self.device.channel
        if channel is not None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(channel.descriptor, self.device.complete)

    def _go_on(self) -> None:
        """Submit what waited for room, or for the loop's next turn."""
        self._goes_on = False
        self._submit_writes()
        self._start_reads([])
        self._changed()

    def _end(self, job: _Job, results: Results | None) -> None:
        """A submitted job has ended, which makes room for those that wait; raises nothing.

        It may have ended within the submission of another job. Then the channel is not readable because of it.
        """
        del self._submitted[job]
        try:
            self._done(job, results)
        except Exception:  # noqa: BLE001 - logged with its traceback; the other jobs go on
            log.event("defect", exc_info=True, method=f"end of a {job.operation} of {self.device.name}")
        self._changed()
        if self._writes or self._reads:
            self._go_on_soon()

    def _go_on_soon(self) -> None:
        if not self._goes_on:
            self._goes_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _done(self, job: _Job, results: Results | None) -> None:
        stage = job.stage
        if job.late:
            self._give_back(job)
            self._ended(job.operation, job.batch)
        elif results is None:
            self._run_in_thread(job)
        elif job.operation == READ:
            self._read_done(stage, results)
        else:
            self._give_back(job)
            self._written(stage.pages, results)

    def _give_back(self, job: _Job) -> None:
        """Give back the memory of a job that has ended; of a read only if it is not filled."""
        if job.operation == READ:
            self._memory.unstage(job.stage)
            return
        self._writing -= 1
        for buffer in job.stage.buffers:
            buffer.release()
        if isinstance(job.stage, MemfdStage):
            self._staging.give_back(job.stage)

    def _run_in_thread(self, job: _Job) -> None:
        run = self._read_job(job.stage) if job.operation == READ else self._write_again_in_thread(job)
        task = asyncio.get_running_loop().create_task(run)
        self._again.add(task)
        task.add_done_callback(self._again.discard)

    async def _write_again_in_thread(self, job: _Job) -> None:
        def release(*, late: bool) -> None:
            del late
            self._give_back(job)

        stage = job.stage
        self._written(stage.pages, await self._run_job(WRITE, stage.pages, stage.buffers, release))
        self._submit_writes()

    def look(self, now: float) -> None:
        """Give up the jobs that are late at `now` (seconds of the queue's clock)."""
        super().look(now)
        if not self._timeout:
            return
        for job in list(self._submitted):
            if not job.late and now - job.began >= self._timeout:
                self._give_up(job, now)

    def _give_up(self, job: _Job, now: float) -> None:
        pages = job.stage.pages
        job.late = True
        self._begins_to_hang(job.operation, len(pages), job.began, now)
        error = DeviceHangs.after(self._timeout, self.device.name, job.operation)
        errors: Sequence[SwapIOError] = [error] * len(pages)
        if job.operation == READ:
            self._not_read(pages, errors)
            self._start_reads([])
        else:
            self._written(pages, errors)
            if self._writes:
                self._give_up_writes(self._writes.take_all())
        self._changed()

    def _changed(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    def _running(self) -> list[asyncio.Future[None]]:
        running = [*super()._running(), *self._again]
        if self._goes_on or any(not job.late for job in self._submitted):
            self._change = asyncio.get_running_loop().create_future()
            running.append(self._change)
        return running

    async def close(self) -> None:
        """Wait for what is queued, then close the device; raises UsmdError if that fails."""
        await self._finish()
        # While a job is late the channel stays watched, so that its end lets the device close.
        if self._loop is not None and not self._submitted:
            self._unwatch()
        await self._close()
        if self._loop is not None:
            self._unwatch()

    def _unwatch(self) -> None:
        channel = self.device.channel
        if self._loop is not None and channel is not None:
            self._loop.remove_reader(channel.descriptor)
        self._loop = None


def queue_class(device: SwapDevice) -> type[DeviceQueue]:
    """The class of a device's queue: one that submits if the device has a channel."""
    submits = isinstance(device, SubmittingDevice) and device.channel is not None
    return SubmittedQueue if submits else DeviceQueue

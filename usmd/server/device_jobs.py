"""The threads that run the jobs of one swap device, and the deadline of each job.

For its caller a late job has failed. Its thread continues with it, because no thread can be ended. So a job must use
memory of its own, which its caller does not touch before `on_end`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Final, Protocol

from usmd.core.commands import SlotPage
from usmd.errors import SwapIOError, UsmdError
from usmd.swap.base import Results, SlotIO

Perform = Callable[[Sequence[SlotIO]], Results]
WRITE: Final = "write"
READ: Final = "read"


class Release(Protocol):
    """Called once no thread uses the buffers of a job; `late`: the job was given up."""

    def __call__(self, *, late: bool) -> None:
        """Give the buffers back."""


class DeviceHangs(SwapIOError):
    """A job of the device has not returned in time; it is not tried again."""

    @classmethod
    def after(cls, seconds: float, device: str, operation: str) -> DeviceHangs:
        """The error of a job that has not returned for so long."""
        return cls(f"swap device {device}: a {operation} has not returned for {seconds:g} s")


class Job:
    """One call of a device, which began at `began` (seconds of the caller's clock).

    `on_end` is called on the loop once the thread has finished the job, late or not.
    """

    __slots__ = ("batch", "began", "done", "late", "on_end", "operation", "perform")

    def __init__(
        self, operation: str, perform: Perform, batch: Sequence[SlotIO], began: float, on_end: Callable[[], None]
    ) -> None:
        self.operation = operation
        self.perform = perform
        self.batch = batch
        self.began = began
        self.on_end = on_end
        self.late = False
        self.done: asyncio.Future[Results] = asyncio.get_running_loop().create_future()


class DeviceJobs:
    """Runs jobs of a device in at most `threads` threads; the caller begins no more jobs than that at a time.

    `timeout`: seconds that a job may take, 0 for any time. The threads are daemon threads, so that a device that hangs
    for ever does not keep the process from ending.
    """

    def __init__(self, name: str, threads: int, timeout: float) -> None:
        self.running: list[Job] = []
        """Jobs that have not ended, late ones included."""
        self._name = name
        self._most = threads
        self._timeout = timeout
        self._threads: list[threading.Thread] = []
        self._queue: SimpleQueue[Job | None] = SimpleQueue()

    def late(self, operation: str) -> int:
        """Jobs of an operation that are late and have not ended yet."""
        return sum(1 for job in self.running if job.late and job.operation == operation)

    async def run(self, job: Job) -> Results:
        """Run a job; raises DeviceHangs if it is late, and what the device raises."""
        if len(self._threads) < self._most:
            loop = asyncio.get_running_loop()
            thread = threading.Thread(target=self._work, args=(loop,), name=f"usmd-{self._name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self.running.append(job)
        self._queue.put(job)
        return await job.done

    def look(self, now: float) -> list[Job]:
        """Give up the jobs that take too long at `now`, and return them."""
        if not self._timeout:
            return []
        given_up = [job for job in self.running if not job.late and now - job.began >= self._timeout]
        for job in given_up:
            job.late = True
            if not job.done.done():
                job.done.set_exception(DeviceHangs.after(self._timeout, self._name, job.operation))
        return given_up

    def close(self) -> None:
        """End the threads, and wait for that; no job may be under way."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run jobs, in a thread."""
        while self._run_next(loop):
            pass

    def _run_next(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Run the next job; False if there are no more. A call of its own, so that no local variable keeps the job."""
        job = self._queue.get()
        if job is None:
            return False
        results: Results = []
        failure: Exception | None = None
        try:
            results = job.perform(job.batch)
            if len(results) != len(job.batch):
                raise ValueError(f"{len(results)} results for {len(job.batch)} entries")  # noqa: TRY301 - as others
        except Exception as error:  # noqa: BLE001 - raised where the job is waited for
            failure = error
        try:
            loop.call_soon_threadsafe(self._ended, job, results, failure)
        except RuntimeError:
            return False  # the loop is closed: the daemon has ended without this job
        return True

    def _ended(self, job: Job, results: Results, failure: Exception | None) -> None:
        self.running.remove(job)
        if not job.done.done():
            if failure is None:
                job.done.set_result(results)
            else:
                job.done.set_exception(failure)
        job.on_end()


def no_memory(pages: Sequence[SlotPage], error: Exception) -> Sequence[UsmdError | None]:
    """Errors of the pages of a batch for which the daemon has no memory for buffers."""
    why = error.strerror if isinstance(error, OSError) else str(error)
    return [SwapIOError(f"usmd has no memory to move the page: {type(error).__name__} {why or ''}".rstrip())] * len(
        pages
    )

"""One queue per swap device: jobs of up to 64 pages, off the loop, so that no device delays another or the loop.

Requests that arrive while a job runs travel together in the next one. Reads and writes have a worker each, so that a
swap-in does not wait for a batch of swap-outs. Slots and their order are the core's; bytes are the device's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from usmd.core.commands import SlotPage
from usmd.core.events import Event, SwapInDone, SwapOutDone
from usmd.core.swap_map import SLOT_MASK
from usmd.errors import SwapIOError, UsmdError
from usmd.log import get_logger
from usmd.swap.base import Results, SlotIO, SwapDevice

BATCH: Final = 64
_log = get_logger()


def _run(job: Callable[[Sequence[SlotIO]], Results], batch: Sequence[SlotIO]) -> Results:
    """Run a job in a worker; raises ValueError when the device does not answer for each entry."""
    results = job(batch)
    if len(results) != len(batch):
        raise ValueError(f"{len(results)} results for {len(batch)} entries")
    return results


class DeviceQueue:
    """Reads and writes of one device. `deliver` gets each completion, on the loop; `buffer` gives a frame's bytes."""

    def __init__(
        self, device: SwapDevice, buffer: Callable[[int], memoryview], deliver: Callable[[Event], object]
    ) -> None:
        self.device = device
        self.pages_written = 0
        self.pages_read = 0
        self.errors = 0
        self.in_flight = 0
        self._buffer = buffer
        self._deliver = deliver
        self._waiting: dict[bool, list[SlotPage]] = {False: [], True: []}
        self._running: dict[bool, asyncio.Task[None] | None] = {False: None, True: None}
        self._workers = ThreadPoolExecutor(2, thread_name_prefix=f"usmd-{device.name}")

    def write(self, pages: Sequence[SlotPage]) -> None:
        """Queue writes of frames to slots."""
        self._queue(pages, writing=True)

    def read(self, pages: Sequence[SlotPage]) -> None:
        """Queue reads of slots into frames."""
        self._queue(pages, writing=False)

    def _queue(self, pages: Sequence[SlotPage], *, writing: bool) -> None:
        self._waiting[writing].extend(pages)
        self.in_flight += len(pages)
        if self._running[writing] is None:
            self._running[writing] = asyncio.get_running_loop().create_task(self._work(writing=writing))

    async def _work(self, *, writing: bool) -> None:
        """Run jobs until none is left."""
        loop = asyncio.get_running_loop()
        waiting = self._waiting[writing]
        job = self.device.write if writing else self.device.read
        try:
            while waiting:
                pages = waiting[:BATCH]
                del waiting[:BATCH]
                batch = [
                    SlotIO(page.slot & SLOT_MASK, page.process_id, page.page, page.generation, self._buffer(page.pfn))
                    for page in pages
                ]
                errors: Sequence[UsmdError | None]
                try:
                    errors = await loop.run_in_executor(self._workers, _run, job, batch)
                except Exception as error:  # noqa: BLE001 - logged with its traceback, and every entry has failed
                    # A device answers per entry and never raises for I/O: this is a defect, and every entry has failed.
                    _log.exception("swap_device_defect", device=self.device.name)
                    errors = [SwapIOError(f"swap device {self.device.name}: {type(error).__name__}")] * len(pages)
                for entry in batch:
                    entry.buffer.release()
                self.in_flight -= len(pages)
                failed = sum(1 for error in errors if error is not None)
                self.errors += failed
                if writing:
                    self.pages_written += len(pages) - failed
                    self._deliver(SwapOutDone([page.slot for page in pages], errors))
                else:
                    self.pages_read += len(pages) - failed
                    self._deliver(SwapInDone([page.pfn for page in pages], errors))
        finally:
            self._running[writing] = None

    async def close(self) -> None:
        """Wait for what is queued, then close the device; raises UsmdError where that fails."""
        for task in list(self._running.values()):
            if task is not None:
                await task
        await asyncio.get_running_loop().run_in_executor(None, self.device.close)
        self._workers.shutdown()

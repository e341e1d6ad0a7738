"""A swap device in memory whose reads wait until the test lets them end, job by job."""

from __future__ import annotations

import asyncio
import threading
from typing import ClassVar

from usmd.swap.memory import MemorySwapDevice

SECONDS = 60


class HeldDevice(MemorySwapDevice):
    """A device with four reads at a time. `jobs`: the slots of each read that has begun, in order."""

    read_jobs: ClassVar[int] = 4

    def __init__(self, name="held", number=0, slots=4096, page_size=16):
        super().__init__(number=number, name=name, slots=slots, page_size=page_size)
        self.jobs = []
        self._ended = set()
        self._held = True
        self._changed = threading.Condition()

    def _fetch_now(self, batch):
        return None

    def _fetch(self, batch):
        with self._changed:
            number = len(self.jobs)
            self.jobs.append(sorted(entry.slot for entry in batch))
            self._changed.notify_all()
            let_go = self._changed.wait_for(lambda: not self._held or number in self._ended, SECONDS)
        assert let_go, "a read was never let go"
        return super()._fetch(batch)

    async def begun(self, count):
        """Wait until this many reads have begun."""

        def wait():
            with self._changed:
                assert self._changed.wait_for(lambda: len(self.jobs) >= count, SECONDS)

        await asyncio.to_thread(wait)

    def let_go(self, number=None):
        """Let one job end, by its number from 0; None: all present and future jobs."""
        with self._changed:
            if number is None:
                self._held = False
            else:
                self._ended.add(number)
            self._changed.notify_all()

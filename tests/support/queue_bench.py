"""A queue of a swap device whose completions a test can wait for."""

import asyncio

from usmd.server.device_queue import TIMEOUT
from usmd.server.submitted_queue import queue_class

SECONDS = 60


class QueueBench:
    """A queue over a device and a memory. `events`: its completions; `on_event` is called with each.

    `pauses`: seconds before each further try after a failure; by default there is none.
    """

    def __init__(self, device, memory, pauses=(), timeout=TIMEOUT):
        self.device = device
        self.memory = memory
        self.events = []
        self.changed = asyncio.Event()
        self.on_event = lambda event: None
        self.queue = queue_class(device)(device, memory, self._deliver, pauses, timeout)

    def _deliver(self, event):
        self.events.append(event)
        self.changed.set()
        self.on_event(event)

    async def completed(self, count):
        """Wait until this many pages have completed."""

        async def enough():
            while sum(len(event.errors) for event in self.events) < count:
                self.changed.clear()
                await self.changed.wait()

        await asyncio.wait_for(enough(), SECONDS)

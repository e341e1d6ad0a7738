"""A queue of a swap device on a bench: what it completes is kept, and can be waited for."""

import asyncio

from usmd.server.device_queue import TIMEOUT, DeviceQueue

SECONDS = 60


class QueueBench:
    """A queue over a device and a memory; `events` has its completions, of which `on_event` hears too.

    `pauses`: before each further try of what failed; none is tried again unless it is said.
    """

    def __init__(self, device, memory, pauses=(), timeout=TIMEOUT):
        self.device = device
        self.memory = memory
        self.events = []
        self.changed = asyncio.Event()
        self.on_event = lambda event: None
        self.queue = DeviceQueue(device, memory, self._deliver, pauses, timeout)

    def _deliver(self, event):
        self.events.append(event)
        self.changed.set()
        self.on_event(event)

    async def completed(self, count):
        """Wait until this many pages are done."""

        async def enough():
            while sum(len(event.errors) for event in self.events) < count:
                self.changed.clear()
                await self.changed.wait()

        await asyncio.wait_for(enough(), SECONDS)

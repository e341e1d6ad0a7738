"""Runs jobs of a device as the loop submits them, and waits for their end."""

from __future__ import annotations

import ctypes
import mmap
import select
import threading

from usmd.swap.submitting import Submission

SECONDS = 60


class Submitter:
    """Has `write` and `read` of a device with a channel submit their jobs, in memory as the loop has it.

    Only a job with an entry that fails may end in a thread. Several threads may call.
    """

    def __init__(self, device):
        self._device = device
        self._write, self._read = device.write, device.read
        device.write, device.read = self.write, self.read
        self._lock = threading.Lock()

    def write(self, batch):
        return self._run(batch, self._write, writing=True)

    def read(self, batch):
        return self._run(batch, self._read, writing=False)

    def _run(self, batch, thread, *, writing):
        device = self._device
        device._check(batch)
        results = []
        for first in range(0, len(batch), 64):
            with self._lock:
                results += self._job(batch[first : first + 64], thread, writing)
        return results

    def _job(self, batch, thread, writing):
        size = self._device.page_size
        memory = mmap.mmap(-1, 64 * size)
        view = memoryview(memory)
        places = [view[place * size : (place + 1) * size] for place in range(len(batch))]
        if writing:
            for place, entry in zip(places, batch, strict=True):
                place[:] = entry.buffer
        ended = []
        entries = [entry._replace(buffer=place) for entry, place in zip(batch, places, strict=True)]
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        if not self._device.submit(
            Submission(entries, address, lambda _, results: ended.append(results), writing=writing)
        ):
            ended.append(None)
        while not ended:
            ready = select.poll()
            ready.register(self._device.channel.descriptor, select.POLLIN)
            assert ready.poll(SECONDS * 1000)
            self._device.complete()
        (results,) = ended
        if results is None:
            found = thread(batch)
            assert any(found), "a job without a failure was not submitted"
            return found
        if not writing:
            for place, entry in zip(places, batch, strict=True):
                entry.buffer[:] = place
        return results

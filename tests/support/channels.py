"""A channel that completes what a test says, and a submitted queue over it."""

from __future__ import annotations

import ctypes
import os

from usmd.swap.channel import Channel
from usmd.swap.submitting import SubmittingDevice


class HeldChannel(Channel):
    """Moves bytes between memory and a bytearray, when a test lets it. `submitted`: requests in flight, in order."""

    way = "held"
    at_once = False

    def __init__(self, size):
        self.data = bytearray(size)
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK)
        self.submitted = []
        self.takes = None
        """How many requests each submission takes; None: all."""
        self.immediate = False
        self.closed = False
        self._done = []

    def submit(self, requests):
        taken = list(requests if self.takes is None else requests[: self.takes])
        self.submitted += taken
        if self.immediate:
            self.let_go()
        return len(taken)

    def let_go(self, count=None, result=None):
        """Complete the first `count` requests (None: all), with `result` in place of what they moved."""
        for write, offset, address, length, number in self.submitted[:count]:
            memory = (ctypes.c_char * length).from_address(address)
            if write:
                self.data[offset : offset + length] = memory.raw
            else:
                memory[:] = bytes(self.data[offset : offset + length])
            self._done.append((number, length if result is None else result))
            os.eventfd_write(self.descriptor, 1)
        del self.submitted[:count]

    def completed(self):
        if self._done:
            os.eventfd_read(self.descriptor)
        found, self._done = self._done, []
        return found

    def close(self):
        assert not self.submitted
        self.closed = True
        os.close(self.descriptor)


class HeldSubmittingDevice(SubmittingDevice):
    """A device over a HeldChannel. `in_threads`: slots of each job that ran in a thread; `fails`: its results."""

    kind = "held"
    read_jobs = 2

    def __init__(self, slots=256, page_size=16):
        super().__init__(number=0, name="held", path=None, slots=slots, page_size=page_size)
        self.held = HeldChannel(slots * page_size)
        self._open_channel(self.held, "a test says so")
        self.in_threads = []
        self.fails = None

    def _offset(self, slot):
        return slot * self.page_size

    def _store(self, batch):
        return self._in_thread(batch, writing=True)

    def _fetch(self, batch):
        return self._in_thread(batch, writing=False)

    def _in_thread(self, batch, *, writing):
        self.in_threads.append([entry.slot for entry in batch])
        if self.fails is not None:
            return [self.fails] * len(batch)
        for entry in batch:
            place = slice(self._offset(entry.slot), self._offset(entry.slot + 1))
            if writing:
                self.held.data[place] = entry.buffer
            else:
                entry.buffer[:] = self.held.data[place]
        return [None] * len(batch)

    def _close(self):
        self.held.close()

"""A core that records its events as `usmd serve --trace-events` does, for tests of event logs and their replay."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

from usmd.core.machine import Core
from usmd.lab.event_records import Recorder, header_line
from usmd.policies import registry


class RecordedCore(Core):
    """A core with clocks that differ at each reading. `lines()`: its log so far."""

    def __init__(self, settings, devices, make_policy=registry.make, step=0.001):
        self.log = bytearray(header_line(settings, devices, complete=True))
        self.recorder = Recorder(self.log)
        ticks = count()
        stopwatch, cpu_clock = (self.recorder.clock(lambda: next(ticks) * step) for _ in range(2))
        super().__init__(settings, devices, make_policy, stopwatch, cpu_clock=cpu_clock)
        self._unrecorded = SimpleNamespace(handle=super().handle, state=self.state)

    def handle(self, event, now):
        todo = self.recorder.handle(self._unrecorded, event, now)
        assert self.recorder.failure is None
        return todo

    def lines(self):
        return bytes(self.log).splitlines(keepends=True)

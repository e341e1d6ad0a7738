"""A mirror of two devices that fail as the test says, and its pages."""

from __future__ import annotations

import contextlib
import time

from tests.support.failing_device import FailingDevice
from tests.support.waiting import wait_until
from usmd.swap import reachable
from usmd.swap.base import SlotIO
from usmd.swap.mirror import MirrorSwapDevice

PAGE = 16
SLOTS = 16
AT_ONCE = 1 << 40
"""Bytes a second of repairs that need not be waited for."""
NEVER_LATE = 60.0


def out(slot, fill, generation=1):
    """An entry to write."""
    return SlotIO(slot, 7, 1000 + slot, generation, memoryview(bytearray([fill]) * PAGE))


def into(entry):
    """An entry that reads what `entry` wrote."""
    return entry._replace(buffer=memoryview(bytearray(PAGE)))


def types_of(results):
    return [None if result is None else type(result) for result in results]


class Mirror:
    """A mirror, `far` and `local`. It is closed at the end, when nothing fails any more."""

    def __init__(self, repair_rate=AT_ONCE, slots=SLOTS, clock=time.monotonic):
        self.far = FailingDevice("m.far", slots=slots, page_size=PAGE)
        self.local = FailingDevice("m.local", slots=slots, page_size=PAGE)
        self.device = MirrorSwapDevice(
            number=0, name="m", far=self.far, local=self.local, late=NEVER_LATE, repair_rate=repair_rate, clock=clock
        )

    @property
    def status(self):
        return self.device.status()

    def is_late_after(self, seconds):
        """Give calls of the far part so long from now on."""
        self.device._late = seconds

    def write(self, *entries):
        return types_of(self.device.write(entries))

    def read(self, *entries):
        """Results and bytes of reads of what these entries wrote."""
        targets = [into(entry) for entry in entries]
        results = self.device.read(targets)
        return [
            bytes(target.buffer) if result is None else type(result)
            for target, result in zip(targets, results, strict=True)
        ]

    def settled(self):
        """Wait until the far part has what it shall have."""
        wait_until(lambda: self.status.in_step and not self.status.coming, "the parts are in step")

    def degraded(self, pages):
        """Wait until the far part is away, and so many pages are to be repaired."""
        wait_until(lambda: self.status.away and self.status.to_repair == pages, f"away, {pages} pages to repair")


@contextlib.contextmanager
def mirror(monkeypatch=None, pause=0.001, **more):
    """A mirror whose far part is tried again after `pause` seconds."""
    if monkeypatch is not None:
        monkeypatch.setattr(reachable, "FIRST_PAUSE", pause)
        monkeypatch.setattr(reachable, "LONGEST_PAUSE", pause)
    found = Mirror(**more)
    try:
        yield found
    finally:
        for part in (found.far, found.local):
            part.mend()
        found.device.close()

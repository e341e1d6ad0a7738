"""A swap device in memory that fails as the test says, also silently, and whose calls can be held."""

from __future__ import annotations

import threading

from usmd.errors import NoRoom, Refused, SwapIOError
from usmd.swap.memory import MemorySwapDevice

SECONDS = 60


class FailingDevice(MemorySwapDevice):
    """`faults` has what `write` and `read` do wrong; without an entry they do what is right.

    `io`: SwapIOError. `old`: a write succeeds and changes nothing, as after a failover that lost it. `noise`: other
    bytes are read. `full`, `refuse`: NoRoom, Refused. `hold`: the call waits for `let_go`. `slots`: the faults are of
    these slots alone. `begun` counts calls.
    """

    def __init__(self, name="failing", number=0, slots=16, page_size=16):
        super().__init__(number=number, name=name, slots=slots, page_size=page_size)
        self.faults = {}
        self.slots_at_fault = None
        self.begun = {"write": 0, "read": 0}
        self.at_once = False
        self._changed = threading.Condition()

    def fail(self, operation, fault, slots=None):
        """Do this wrong from now on; calls that are held go on."""
        with self._changed:
            self.faults[operation] = fault
            self.slots_at_fault = slots
            self._changed.notify_all()

    def mend(self):
        """Do nothing wrong any more; calls that are held go on."""
        with self._changed:
            self.faults.clear()
            self._changed.notify_all()

    def wait_for_call(self, operation, count=1):
        """Wait until so many calls have begun."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.begun[operation] >= count, SECONDS)

    def _fault(self, operation):
        with self._changed:
            self.begun[operation] += 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self.faults.get(operation) != "hold", SECONDS)
            return self.faults.get(operation)

    def _is_at_fault(self, entry):
        return self.slots_at_fault is None or entry.slot in self.slots_at_fault

    def _store(self, batch):
        fault = self._fault("write")
        errors = {"io": SwapIOError("write fails"), "full": NoRoom("full"), "refuse": Refused("not this one")}
        wrong = [fault is not None and self._is_at_fault(entry) for entry in batch]
        super()._store([entry for entry, at_fault in zip(batch, wrong, strict=True) if not at_fault])
        return [errors.get(fault) if at_fault else None for at_fault in wrong]

    def _fetch_now(self, batch):
        return super()._fetch(batch) if self.at_once and not self.faults else None

    def _fetch(self, batch):
        fault = self._fault("read")
        results = super()._fetch(batch)
        for index, entry in enumerate(batch):
            if self._is_at_fault(entry) and fault == "io":
                entry.buffer[:] = b"\xee" * self.page_size
                results[index] = SwapIOError("read fails")
            elif self._is_at_fault(entry) and fault == "noise":
                entry.buffer[0] ^= 1
        return results

"""Takes the fault of a uThread on one page as a plain one where that costs the kernel thread less than a message.

A plain fault blocks the kernel thread until the page is there, which a page that is cached, or of zeros, is at once. By
a message other uThreads run meanwhile, but sending and receiving takes time too, less for each fault the more travel
together. So both are measured, and the cheaper way is taken. Now and then the other one is tried.
"""

from __future__ import annotations

import ctypes
import errno
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from lib_usm.mapping import Mapping

_POPULATE_READ: Final = 22
_POPULATE_WRITE: Final = 23
"""MADV_POPULATE_READ and _WRITE (Linux 5.14): touch pages; where a touch would be SIGBUS, they fail."""
TRIAL: Final = 64
"""Faults by message in a trial: enough for them to travel together, if they do."""
PLAIN_TRIAL: Final = 5
"""Plain faults in a trial."""
PAUSE: Final = 16
"""Between two trials there is this many times their number of faults by the cheaper way, and so many times more as the
other way cost more in the last trial."""
SLOW: Final = 0.02
"""A single plain fault of more seconds counts for all: no other uThread runs meanwhile."""
BETTER: Final = 0.9
"""The other way is taken if it costs at most this share."""

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def populate(mapping: Mapping, offset: int, length: int, *, write: bool) -> bool:
    """Touch a range of pages, which waits for them in the kernel; False if a page cannot be had so.

    Other Python threads run meanwhile. Raises ClosedError.
    """
    memory = mapping.memory  # stays mapped until the call returns
    while _libc.madvise(mapping.address + offset, length, _POPULATE_WRITE if write else _POPULATE_READ):
        if ctypes.get_errno() != errno.EINTR:
            return False
    del memory
    return True


class PlainFaults:
    """The choice of one kThread. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.count = 0
        """Plain faults so far."""
        self.works = True
        """False once a page could not be had so: a message tells why."""
        self._plain = False
        """The way in use, but for trials."""
        self._costs = {False: 0.0, True: 0.0}
        """Seconds a fault by each way, as of its last trial or use."""
        self._trying = False
        """Whether a trial is under way."""
        self._left = TRIAL
        """Faults of the present way until the next decision."""
        self._spent = 0.0
        self._sent = 0
        self._took: deque[float] = deque(maxlen=TRIAL)
        """Seconds of the last plain faults."""
        self._taken = 0

    def chosen(self) -> bool:
        """Whether the next fault on one page is to be a plain one."""
        return self.works and self._plain is not self._trying

    def sent(self, seconds: float, faults: int = 0) -> None:
        """Count CPU time spent on messages, or time slept while there was none to do else, and faults sent."""
        self._spent += seconds
        self._sent += faults
        if self._sent >= self._left and not self.chosen():
            self._decide(self._spent / self._sent)

    def took(self, mapping: Mapping, offset: int, length: int, *, write: bool) -> bool:
        """Take a fault as a plain one; False if it has to be sent. Raises ClosedError."""
        began = self._clock()
        if not populate(mapping, offset, length, write=write):
            self.works = False
            return False
        self.count += 1
        seconds = self._clock() - began
        self._took.append(seconds)
        self._taken += 1
        if seconds > SLOW:
            self._decide(seconds)
        elif self._taken >= self._left:
            self._decide(statistics.median(self._took))  # the thread may have waited for a CPU in some
        return True

    def _decide(self, cost: float) -> None:
        """Begin or end a trial, by what a fault of the present way has cost."""
        self._costs[self.chosen()] = cost
        if not self._trying:
            self._trying = True
            self._left = TRIAL if self._plain else PLAIN_TRIAL
        else:
            self._trying = False
            if self._costs[not self._plain] < self._costs[self._plain] * BETTER:
                self._plain = not self._plain
            mine, other = self._costs[self._plain], self._costs[not self._plain]
            trial = TRIAL if self._plain else PLAIN_TRIAL
            self._left = int(trial * PAUSE * max(1.0, other / mine if mine > 0 else 1.0))
        self._spent = 0.0
        self._sent = self._taken = 0
        self._took.clear()

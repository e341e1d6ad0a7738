"""Moves many pages in one system call: joins neighbouring slots, and continues after short transfers."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence

VectoredCall = Callable[[int, Sequence[memoryview], int], int]
"""os.preadv or os.pwritev: takes descriptor, buffers, offset in bytes; returns the number of bytes moved."""

MAX_TRIES = 100
PAUSE_SECONDS = 0.001
"""Between two tries. Only worker threads call this, never the loop."""
_PASSING = (errno.EINTR, errno.EAGAIN)
IOV_MAX = 1024
"""Most buffers that Linux takes in one call (UIO_MAXIOV)."""


def adjacent_runs(slots: Sequence[int]) -> list[list[int]]:
    """Indexes into `slots`, by slot number, split where a slot is not the neighbour of the previous one."""
    if len(slots) == 1:  # the usual case of a read
        return [[0]]
    runs: list[list[int]] = []
    run: list[int] = []
    expected = -1
    for index in sorted(range(len(slots)), key=slots.__getitem__):
        slot = slots[index]
        if slot == expected:
            run.append(index)
        else:
            run = [index]
            runs.append(run)
        expected = slot + 1
    return runs


def transfer(
    call: VectoredCall, descriptor: int, buffers: Sequence[memoryview], offset: int
) -> dict[int, OSError | EOFError]:
    """Move every buffer, one behind the other from byte `offset`; return the failures by index into `buffers`.

    There is at least one buffer, and all have one length. EOFError: no byte moved; for a read, the end of the file. If
    a buffer fails, the others are still moved. A call that fails with EINTR or EAGAIN is tried again, up to MAX_TRIES
    times.
    """
    tries = 0
    failures: dict[int, OSError | EOFError] = {}
    size = len(buffers[0])
    total = size * len(buffers)
    position = 0
    limit = IOV_MAX
    while position < total:
        first, done = divmod(position, size)
        pending = buffers[first : first + limit]
        if done:
            pending = [pending[0][done:], *pending[1:]]
        try:
            moved = call(descriptor, pending, offset + position)
        except OSError as error:
            tries += 1
            if error.errno in _PASSING and tries < MAX_TRIES:
                time.sleep(PAUSE_SECONDS)
                continue
            if len(pending) > 1:
                limit = 1  # the first one is tried alone, to find the one that fails
                continue
            failures[first] = error
            moved = size - done
        else:
            if moved == 0:
                failures[first] = EOFError(f"no byte at offset {offset + position}")
                moved = size - done
        position += moved
        limit = IOV_MAX
    return failures

"""A change to a daemon: its swap files fail or wait, as tests.support.swap_faults says.

$USMD_TEST_FAULTS names a file with a JSON object. For `read` and `write` that has `slots` (null: all), `file` (the name
of a swap file; null: all) and `error`: an
errno by name; `wait`: until the file changes; or `sometimes`: of five calls two fail with EIO, one fails with EAGAIN,
and one moves half a page. Only the system call is replaced, and jobs run in threads. While reads fail, none is tried
without waiting.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from usmd.swap import file
from usmd.swap.base import Results, SlotIO
from usmd.swap.vectored import VectoredCall

_FAULTS = Path(os.environ["USMD_TEST_FAULTS"])
_transfer = file.transfer
_fetch_now = file.FileSwapDevice._fetch_now


def _fault(operation: str, slots: set[int], descriptor: int) -> str:
    """The `error` of an operation on slots of an open file now; empty if there is none."""
    told = json.loads(_FAULTS.read_text()).get(operation)
    if told is None or not (told["slots"] is None or slots & set(told["slots"])):
        return ""
    if told["file"] not in (None, os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))):
        return ""
    return str(told["error"])


def _faulty_transfer(
    call: VectoredCall, descriptor: int, buffers: Sequence[memoryview], offset: int
) -> dict[int, OSError | EOFError]:
    operation = "write" if call.__name__ == "pwritev" else "read"

    def faulty(descriptor: int, pending: Sequence[memoryview], position: int) -> int:
        first = position // len(buffers[0]) - 1
        slots = set(range(first, first + len(pending)))
        while fault := _fault(operation, slots, descriptor):  # waits: until the test changes the file
            if fault == "sometimes":
                return _sometimes(call, descriptor, pending, position)
            if fault != "wait":
                raise OSError(getattr(errno, fault), os.strerror(getattr(errno, fault)))
            time.sleep(0.002)  # waits: likewise
        return call(descriptor, pending, position)

    return _transfer(faulty, descriptor, buffers, offset)


_calls = itertools.count()


def _sometimes(call: VectoredCall, descriptor: int, pending: Sequence[memoryview], position: int) -> int:
    match next(_calls) % 5:
        case 0 | 1:  # the first divides a batch, the second fails a page
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        case 2:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        case 3:
            return call(descriptor, [pending[0][: (len(pending[0]) + 1) // 2]], position)
    return call(descriptor, pending, position)


def _faulty_fetch_now(self: file.FileSwapDevice, batch: Sequence[SlotIO]) -> Results | None:
    return None if _fault("read", {entry.slot for entry in batch}, self._descriptor) else _fetch_now(self, batch)


def fail_as_told() -> None:
    """Change the swap files of this process."""
    file.FileSwapDevice._fetch_now = _faulty_fetch_now  # type: ignore[method-assign]
    file.transfer = _faulty_transfer
    file.ways.choose = lambda way, descriptor, *, direct: (None, "its faults are those of threads")

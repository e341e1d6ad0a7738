"""A daemon on asyncio's own loop that writes down how much CPU time the longest callbacks took, as `longest` reads it.

CPU time and not wall time: a machine that is busy with something else makes no stretch longer. What waits in the
kernel takes none, so waits are for other tests to see.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Final

VARIABLE: Final = "USMD_TEST_STRETCHES"
"""Names the file."""


def write_down() -> None:
    """Have each callback timed, and a line written for each that took longer than all before."""
    out = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    run = asyncio.Handle._run
    most = 0.0

    def timed(self: asyncio.Handle) -> None:
        nonlocal most
        what = self._callback  # type: ignore[attr-defined]
        begun = time.thread_time()
        run(self)
        took = time.thread_time() - begun
        if took > most:
            most = took
            os.write(out, f"{took:.6f} {what!r}\n".encode())

    asyncio.Handle._run = timed  # type: ignore[method-assign]


def longest(file: Path) -> tuple[float, str]:
    """Seconds of the longest callback, and what it was."""
    took, _, what = file.read_text().splitlines()[-1].partition(" ")
    return float(took), what

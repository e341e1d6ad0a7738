"""A change to a daemon on asyncio's own loop: it writes the CPU time of its longest callbacks to a file.

CPU time does not depend on how busy the machine is. It does not include waits in the kernel, which other tests find.
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
    """Time each callback, and write a line for each that took longer than all before."""
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
    """Seconds and text of the longest callback."""
    took, _, what = file.read_text().splitlines()[-1].partition(" ")
    return float(took), what

"""A change to a daemon: its farewells to clients wait until a process writes to a FIFO."""

from __future__ import annotations

import os
from pathlib import Path

from usmd.mechanism.client_memory import ClientMemory

VARIABLE = "USMD_TEST_FAREWELL"
"""Names the FIFO. Nothing waits if it does not exist."""


def wait() -> None:
    """Make every farewell wait."""
    fifo = Path(os.environ[VARIABLE])
    poison_all = ClientMemory.poison_all

    def slow(self: ClientMemory) -> None:
        if fifo.exists():
            fifo.read_bytes()
        poison_all(self)

    ClientMemory.poison_all = slow  # type: ignore[method-assign]

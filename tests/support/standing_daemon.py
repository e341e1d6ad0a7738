"""A change to a daemon: its event loop stands while a FIFO exists that no process writes to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from usmd.server.notify import Notifier

VARIABLE = "USMD_TEST_STAND"
"""Names the FIFO."""


def stand() -> None:
    """Make the loop wait for the FIFO at each of its beats."""
    fifo = Path(os.environ[VARIABLE])
    alive = Notifier.alive

    def wait(self: Notifier, now: float, check: Callable[[], str | None]) -> None:
        if fifo.exists():
            fifo.read_bytes()
        alive(self, now, check)

    Notifier.alive = wait  # type: ignore[method-assign]

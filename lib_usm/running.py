"""Which kThread of a LocalManager the calling code runs on, if any. What that means is in lib_usm.kthread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib_usm.kthread import KThread


class _Running(threading.local):
    kthread: KThread | None = None


running = _Running()
"""`running.kthread` is the calling thread's; None outside of LocalManager.run."""

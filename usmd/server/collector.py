"""The garbage collector of the daemon: how often it runs, and on what.

Almost nothing of the daemon is in a cycle. But every page on its way to or from swap has a record or two, so the
collector took a tenth of the time of an eviction.
"""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (4_000, 20, 20)
"""New objects before a collection of the youngest (up to 1 ms), and such collections before one of older."""


def collect_rarely() -> None:
    """Make the collector run rarely, and never on what exists already: modules, classes, the configuration."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)

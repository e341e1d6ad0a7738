"""The garbage collector of the daemon: how often it runs, and on what.

Almost nothing of the daemon is in a cycle. But every page on its way to or from swap has a record or two, so the
collector took a tenth of the time of an eviction.
"""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (2_000, 2, 300)
"""New objects before a collection of the youngest, such collections before one of the next older, and of those before
one of all. An object takes up to 0.2 us, and the loop stands meanwhile: 0.4 ms for the youngest, 1.5 ms for the next.
So what very many clients bring at once is looked at in many short collections."""


def collect_rarely() -> None:
    """Make the collector run rarely, and never on what exists already: modules, classes, the configuration."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)

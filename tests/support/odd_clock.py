"""Changes to a daemon: its wall clock jumps back and forth, or its monotonic clock leaps a day at each reading."""

from __future__ import annotations

import itertools
import time

_monotonic = time.monotonic
_leaps = itertools.count(1)


def set_back_and_forth() -> None:
    """Make the wall clock return 1970 and 2099 in turn."""
    years = itertools.cycle((0.0, 4.1e9))
    time.time = lambda: next(years)  # waits: this is the clock that is odd


def leap() -> None:
    """Make the monotonic clock a day later at each reading."""
    time.monotonic = lambda: _monotonic() + 86_400.0 * next(_leaps)  # waits: this is the clock that is odd

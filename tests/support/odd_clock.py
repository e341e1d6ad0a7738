"""Changes to a daemon: its wall clock is set back and forth, or its own clock leaps a day ahead at each look."""

from __future__ import annotations

import itertools
import time

_monotonic = time.monotonic
_leaps = itertools.count(1)


def set_back_and_forth() -> None:
    """The wall clock reads 1970 and 2100 in turn."""
    years = itertools.cycle((0.0, 4.1e9))
    time.time = lambda: next(years)  # waits: this is the clock that is odd


def leap() -> None:
    """The monotonic clock is a day later at each look, as after a suspend that counted."""
    time.monotonic = lambda: _monotonic() + 86_400.0 * next(_leaps)  # waits: this is the clock that is odd

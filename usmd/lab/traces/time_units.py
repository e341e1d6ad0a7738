"""Seconds in the unit that the times of a table have: as given, as the column's name says, or as their size tells."""

from __future__ import annotations

import re
from typing import Final

UNITS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Seconds in a unit, by its name."""

FILETIME: Final = 1e-7
"""Seconds in a tick of the clock of Windows, which counts from 1601."""

_SPELLED: Final = {
    "s": r"s|secs?|seconds?",
    "ms": r"ms|msecs?|millis|milliseconds?",
    "us": r"us|µs|μs|usecs?|micros|microseconds?",
    "ns": r"ns|nsecs?|nanos|nanoseconds?",
}
_NAMED: Final = {
    unit: re.compile(rf"(?P<base>.+?)(?:[_.]\(?|[_.]?\[|\(|/{'' if unit == 's' else '|'})(?:{words})[)\]]?")
    for unit, words in _SPELLED.items()
}
_FILETIMES: Final = (1.16e17, 1.5e17)
_MOST: Final = 1e20
_EPOCHS: Final = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))
"""A count from 1970 of at least so many is in this unit: seconds would be beyond the year 5000."""


def split_unit(name: str) -> tuple[str, float | None]:
    """A column's name, in lower case, without the unit at its end, and the seconds in that unit; None without a unit.

    `time_ms`, `ts(us)`, `timestamp_[ns]` and `timens` have one.
    """
    for unit in ("ms", "us", "ns", "s"):
        match = _NAMED[unit].fullmatch(name)
        if match:
            return match["base"].rstrip("_"), UNITS[unit]
    return name, None


def guess(first: float) -> float:
    """Seconds in the unit of a table whose first time is `first`, by its size; 1 for what can be seconds."""
    if _FILETIMES[0] <= first < _FILETIMES[1]:  # nanoseconds since 1970 are more, but for those of 1973 and 1974
        return FILETIME
    return next((unit for least, unit in _EPOCHS if least <= first < _MOST), 1.0)

"""The unit of a table's times in seconds: as given, by the column's name, or by the size of the first time."""

from __future__ import annotations

import re
from typing import Final

UNITS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Units in seconds, by name."""

FILETIME: Final = 1e-7
"""A tick of Windows' clock in seconds; it counts from 1601."""

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
"""A count from 1970 of at least this much is in this unit: as seconds it would be after the year 5000."""


def split_unit(name: str) -> tuple[str, float | None]:
    """A column's name, in lower case, without the unit at its end, and the unit in seconds; None without a unit.

    `time_ms`, `ts(us)`, `timestamp_[ns]` and `timens` have one.
    """
    for unit in ("ms", "us", "ns", "s"):
        match = _NAMED[unit].fullmatch(name)
        if match:
            return match["base"].rstrip("_"), UNITS[unit]
    return name, None


def guess(first: float) -> float:
    """The unit in seconds of a table whose first time is `first`, by its size; 1 if it can be seconds."""
    if _FILETIMES[0] <= first < _FILETIMES[1]:  # nanoseconds since 1970 are larger, except in 1973 and 1974
        return FILETIME
    return next((unit for least, unit in _EPOCHS if least <= first < _MOST), 1.0)

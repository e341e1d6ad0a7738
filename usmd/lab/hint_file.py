"""Hints for a replay: on which pages, and when.

One hint a line: `[@SECONDS] PAGES HINT`. PAGES is `*` for all, an id of the trace, or `FIRST-LAST`; numbers are decimal
or 0x hexadecimal, and are page numbers if the trace has addresses. An id with blanks stands in double quotes. HINT is
text as applications give it, or `-` to clear hints. A hint without a time is set before the first access. Lines that
begin with # are comments.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from usmd.core.hints import Hint, parse_hint
from usmd.errors import InvalidHint, TraceError
from usmd.lab.loading import Numbering
from usmd.lab.traces.context import shown
from usmd.lab.traces.keys import hashed, parse_integer
from usmd.text_files import read_text

_LINE = re.compile(r'(?:@(?P<time>\S+)\s+)?(?P<pages>"[^"]+"|\S+)\s+(?P<hint>.+)')
_RANGE = re.compile(r"(?P<first>-?[0-9]+|0[xX][0-9a-fA-F]+)-(?P<last>-?[0-9]+|0[xX][0-9a-fA-F]+)")
_PAGES_ALLOWED = "*, an id of the trace, or FIRST-LAST with numbers of at most 64 bits, decimal or 0x hex"
_SIGNED = 1 << 63


class TimedHint(msgspec.Struct, frozen=True):
    """A hint on pages `first` to `end` - 1, set at `time` seconds of the trace; `hint` None clears their hints."""

    time: float
    first: int
    end: int
    hint: Hint | None


def read_hints(path: str, numbering: Numbering) -> list[TimedHint]:
    """The hints of a file, in the order of their times, without those on pages that the trace never touches.

    Raises TraceError, which names the line and what is allowed.
    """
    try:
        text = read_text(Path(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TraceError(f"hints {path} cannot be read: {reason}") from error
    found: list[TimedHint] = []
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            hints = _parse(stripped, f"{path}, line {number}", numbering)
            found += [hint for hint in hints if hint.first < hint.end]
    return sorted(found, key=lambda each: each.time)


def _parse(line: str, place: str, numbering: Numbering) -> list[TimedHint]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise TraceError(
            f"{place}: {shown(line)} is not a hint; allowed is [@SECONDS] PAGES HINT, such as 0-99 PRIORITY=LOW"
        )
    time = _time(match["time"], place)
    try:
        hint = None if match["hint"].strip() == "-" else parse_hint(match["hint"])
    except InvalidHint as error:
        raise TraceError(f"{place}: {error}") from error
    return [TimedHint(time, first, end, hint) for first, end in _pages(match["pages"], place, numbering)]


def _time(text: str | None, place: str) -> float:
    try:
        time = float(text or 0.0)
    except ValueError:
        time = -1.0
    if not 0 <= time < float("inf"):
        raise TraceError(f"{place}: @{text} is not a time; allowed are seconds from 0")
    return time


def _pages(text: str, place: str, numbering: Numbering) -> list[tuple[int, int]]:
    """The ranges (first page, end page) that a text names: two if its ids lie on both sides of 2^63."""
    if text == "*":
        return [(0, numbering.pages)]
    ends = _RANGE.fullmatch(text)
    if ends is None:
        low = high = _identity(text, place, numbering)
    else:
        numbers = parse_integer(ends["first"]), parse_integer(ends["last"])
        if None in numbers:
            raise TraceError(f"{place}: {shown(text)} has no 64 bits; allowed is {_PAGES_ALLOWED}")
        low, high = (number or 0 for number in numbers)
    if high < low:
        raise TraceError(f"{place}: {shown(text)}; allowed is a range whose end is not below its start")
    # Ids are ordered as signed numbers, so those of 2^63 and more are first.
    spans = [(low, min(high, _SIGNED - 1)), (max(low, _SIGNED) - 2 * _SIGNED, high - 2 * _SIGNED)]
    return [
        (numbering.page_from(first), numbering.page_from(last + 1))
        for first, last in spans
        if -_SIGNED <= first <= last
    ]


def _identity(text: str, place: str, numbering: Numbering) -> int:
    """An id as a number. A key that is not a number is hashed as by the trace's reader. Raises TraceError."""
    number = parse_integer(text)
    if number is not None:
        return number
    key = hashed(text.strip('"'))
    page = numbering.page_from(key)
    if page < numbering.pages and numbering.identity(page) == key:
        return key
    raise TraceError(f"{place}: {shown(text)} is not an id of the trace; allowed is {_PAGES_ALLOWED}")

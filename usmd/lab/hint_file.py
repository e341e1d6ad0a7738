"""Hints for a replay: which pages are told what, and when.

One hint a line: `[@SECONDS] PAGES HINT`. PAGES is `*` for all, an id of the trace, or `FIRST-LAST`; ids are decimal or
0x hexadecimal, as in the trace (numbers of pages where it has addresses). HINT is what an application would say, or `-`
to clear. A hint without a time is set before the first access. Lines that begin with # are comments.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from usmd.core.hints import Hint, parse_hint
from usmd.errors import InvalidHint, TraceError
from usmd.lab.loading import Numbering

_LINE = re.compile(r"(?:@(?P<time>\S+)\s+)?(?P<pages>\*|[0-9a-fA-Fx]+(?:-[0-9a-fA-Fx]+)?)\s+(?P<hint>.+)")


class TimedHint(msgspec.Struct, frozen=True):
    """A hint on pages `first` to `end` - 1, set at `time` seconds of the trace; `hint` None clears them."""

    time: float
    first: int
    end: int
    hint: Hint | None


def read_hints(path: str, numbering: Numbering) -> list[TimedHint]:
    """The hints of a file, in the order of their times; those on pages that the trace never touches are left out.

    Raises TraceError, which names the line and what is allowed.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"hints {path} cannot be read: {error}") from error
    found: list[TimedHint] = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            hint = _parse(stripped, f"{path}, line {number}", numbering)
            if hint.first < hint.end:
                found.append(hint)
    return sorted(found, key=lambda each: each.time)


def _parse(line: str, place: str, numbering: Numbering) -> TimedHint:
    match = _LINE.fullmatch(line)
    if match is None:
        raise TraceError(
            f"{place}: {line[:80]!r} is no hint; allowed is [@SECONDS] PAGES HINT, such as 0-99 PRIORITY=LOW"
        )
    try:
        time = float(match["time"] or 0.0)
        first, _, last = match["pages"].partition("-")
        low, high = (int(first, 0), int(last or first, 0)) if first != "*" else (0, 0)
    except ValueError as error:
        raise TraceError(f"{place}: {error}; allowed are decimal or 0x hexadecimal ids, and seconds") from None
    if not 0 <= time < float("inf") or high < low:
        raise TraceError(
            f"{place}: {line[:80]!r}; allowed are seconds from 0 and a range whose end is not below its start"
        )
    try:
        hint = None if match["hint"].strip() == "-" else parse_hint(match["hint"])
    except InvalidHint as error:
        raise TraceError(f"{place}: {error}") from error
    if first == "*":
        return TimedHint(time, 0, numbering.pages, hint)
    return TimedHint(time, numbering.page_from(low), numbering.page_from(high + 1), hint)

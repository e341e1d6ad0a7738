"""Parses the options of `usmctl replay`; each error names the option, its value and what is allowed."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from usmd.ctl.options import listed
from usmd.errors import InvalidArgument, InvalidSize
from usmd.lab.loading import Trace
from usmd.lab.miss_ratio_curve import sizes
from usmd.policies import registry
from usmd.sizes import parse_frames, parse_size


def page_size_of(text: str) -> int:
    """Bytes of a page. Raises InvalidArgument."""
    try:
        size = parse_size(text)
    except InvalidSize as error:
        raise InvalidArgument(f"--page-size {text}: {error}") from None
    if size < 1:
        raise InvalidArgument(f"--page-size {text}; allowed is 1 byte and more")
    return size


def columns_of(texts: Sequence[str]) -> dict[str, str]:
    """Names of columns by meaning. A part with a comma stands in double quotes as a whole. Raises InvalidArgument."""
    found: dict[str, str] = {}
    for part in (part for text in texts for part in next(csv.reader([text], skipinitialspace=True)) if part.strip()):
        what, equals, name = part.partition("=")
        what = what.strip().lower()
        if not (what and equals):
            raise InvalidArgument(f"--columns {part}: it names no column; write what=name, such as id=object")
        if what in found:
            raise InvalidArgument(f"--columns {part}: {what} is named twice; name it once")
        found[what] = name.strip()
    return found


def specifications_of(kind: str, text: str) -> list[str]:
    """Specifications separated by commas outside parentheses, checked, without duplicates. Raises InvalidArgument."""
    found = list(dict.fromkeys(registry.several(text)))
    if not found:
        raise InvalidArgument(f"--{kind} {text!r} names no policy; `usmctl replay --help` shows how")
    for each in found:
        registry.find(kind, each)
    return found


def frames_of(given: Sequence[str] | None, trace: Trace, page_size: int, points: int, *, mrc: bool) -> list[int]:
    """Sizes of memory in frames: as given, else the default. Raises InvalidArgument."""
    if given is None and mrc:
        return sizes(trace.distinct, points)
    text = listed(given, "10%")
    found = [_size(part, text, trace.distinct, page_size) for part in text.split(",") if part.strip()]
    if not found:
        raise _no_frames(text)
    return found


def _size(part: str, text: str, distinct: int, page_size: int) -> int:
    """Frames given as a number, as a share of the distinct pages, or as a size with a unit. Raises InvalidArgument."""
    part = part.strip()
    try:
        if part.endswith("%"):
            share = float(part[:-1])
            if share > 0:
                return max(round(share / 100 * distinct), 1)
        elif part.lstrip("+-").isdecimal():
            if int(part) > 0 and not part.startswith("0"):
                return int(part)
        else:
            return parse_frames(part, page_size)
    except (ValueError, OverflowError, InvalidSize):
        pass
    raise _no_frames(text)


def _no_frames(text: str) -> InvalidArgument:
    return InvalidArgument(
        f"--frames {text}; allowed are numbers of frames without commas in them, shares of the trace's pages, and "
        "sizes of at least a page, such as 4096,10%,64MiB"
    )

"""Sizes as text: reads `64MiB` or `64M`, and formats them. Pure."""

from __future__ import annotations

import re

from usmd.errors import InvalidSize

_UNITS = {
    "": 1,
    "B": 1,
    **{f"{letter}{end}": 1 << 10 * power for power, letter in enumerate("KMGT", 1) for end in ("", "B", "I", "IB")},
}
"""Units are powers of 1,024, however they are written."""
_PATTERN = re.compile(r"([0-9]{1,18})\s*([A-Za-z]*)")
_ALLOWED = (
    "a whole number with one of the units B, KiB, MiB, GiB, TiB (K, Ki or KB for KiB, and so on; all are powers of "
    "1,024), for example 64MiB"
)


def parse_size(text: str | int) -> int:
    """Bytes in `text`; a bare number is bytes. Raises InvalidSize, which names the text and what is allowed."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    match = _PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise InvalidSize(f"size {text!r} cannot be read; allowed is {_ALLOWED}")
    return int(match[1]) * unit


def parse_frames(text: str, page_size: int) -> int:
    """Frames in `text`: a bare number of them, or a size with a unit, in pages of `page_size` bytes, rounded down.

    Raises InvalidSize, which names the text and what is allowed; a size of less than a page is invalid.
    """
    plain = text.strip()
    if plain.isascii() and plain.isdecimal():
        return int(plain)
    frames = parse_size(plain) // page_size
    if not frames:
        raise InvalidSize(f"size {text!r} is less than a page; allowed is at least {format_size(page_size)}")
    return frames


def exact_size(size: int) -> str:
    """`size` bytes as text that `parse_size` reads: in the largest unit in which they are whole."""
    for name, unit in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return f"{size}B"


def format_size(size: int) -> str:
    """`size` bytes as text: in the largest unit, with one decimal if it is not whole."""
    for name, unit in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= unit:
            return f"{size // unit} {name}" if size % unit == 0 else f"{size / unit:.1f} {name}"
    return f"{size} B"

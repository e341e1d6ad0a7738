"""Finds the lines of keys in a TOML file, for messages; the TOML reader of Python's library tells no lines.

It reads what people write: headers of tables, and keys at the beginning of lines. A key within an inline table is on
the line of that table.
"""

from __future__ import annotations

import re
from typing import Final

_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY: Final = re.compile(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[\w-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_QUOTES: Final = ('"""', "'''")


def lines_of(text: str) -> dict[str, int]:
    """Keys such as `memory.size` and `swap[0].kind`, and tables, with their lines, the first of which is 1."""
    found: dict[str, int] = {}
    counts: dict[str, int] = {}
    table, quote = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if quote:  # within text of several lines
            if quote in line:
                quote = ""
            continue
        if (header := _HEADER.fullmatch(line)) is not None:
            table = _name(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = f"{table}[{counts[table]}]"
            else:
                table = _in_array(table, counts)
            found.setdefault(table, number)
        elif (key := _KEY.match(line)) is not None:
            name = _name(key[1])
            found.setdefault(f"{table}.{name}" if table else name, number)
            quote = next((each for each in _QUOTES if line.count(each) == 1), "")
    return found


def line_of(key: str, lines: dict[str, int]) -> int | None:
    """The line of a key, else of the table that it is in or missing from; None if that is not in the file."""
    while key:
        if key in lines:
            return lines[key]
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return None


def _in_array(table: str, counts: dict[str, int]) -> str:
    """The table of a header such as `[swap.far]`, which is within the last table of its array: `swap[1].far`."""
    for array, last in counts.items():
        if table.startswith(f"{array}."):
            return f"{array}[{last}]{table[len(array) :]}"
    return table


def _name(text: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in text.split("."))

"""Which column of a table means what: the header line of a csv trace, or what is known of a table without one.

Covers names, aliases, numbers and the delimiter. Does not cover the rows (csv_table).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from typing import Final, cast

import msgspec

from usmd.errors import TraceError
from usmd.lab.traces.context import Context
from usmd.lab.traces.keys import parse_integer
from usmd.lab.traces.operations import kind_of
from usmd.lab.traces.time_units import FILETIME, split_unit

DELIMITERS = ",;\t|"
NAMES: Final = {
    "time": ("time", "timestamp", "ts", "op_time", "time_stamp", "arrival_time", "request_time", "epoch"),
    "id": (
        *("id", "key", "obj_id", "object", "page", "object_id", "objectid", "obj", "key_id", "keyid", "anonymized_key"),
        *("hashed_key", "key_hash", "cache_key", "item", "item_id", "page_id", "vpn", "lbn", "lba", "block_id", "url"),
    ),
    "address": ("address", "addr", "vaddr", "virtual_address", "offset", "byte_offset"),
    "size": ("size", "length", "obj_size", "len", "object_size", "bytes", "io_size", "request_size"),
    "op": (
        *("op", "operation", "type", "rw", "cmd", "command", "verb", "method", "opcode", "op_type", "request_type"),
        *("req_type", "iotype", "io_type", "rwbs", "is_write"),
    ),
}
"""Column names by what they mean, the first that a header has wins; case does not matter, and `_` may be a blank."""
_SEPARATORS: Final = re.compile(r"[\s-]+")


class Columns(msgspec.Struct, frozen=True):
    """Where to find what, as indexes into a row; None for what the table does not have."""

    delimiter: str
    count: int
    """Columns in a row."""
    key: int
    """The column with the id or address."""
    is_address: bool
    """Whether `key` is a byte address rather than an id."""
    time: int | None = None
    size: int | None = None
    op: int | None = None
    time_unit: float | None = None
    """Seconds in the unit of the times, where the table tells it."""


class Layout(msgspec.Struct, frozen=True):
    """A table without a header that is known by its rows."""

    row: re.Pattern[str]
    columns: Columns


LAYOUTS: Final = (
    # Twitter's cache clusters: time, key, its size, the value's size, client, operation, time to live.
    Layout(
        re.compile(r"\d+,[^,]+,\d+,\d+,\d+,[a-z]+,\d+\r?"),
        Columns(",", 7, key=1, is_address=False, time=0, op=5),
    ),
    # Microsoft's servers in Cambridge: time, host, disk, Read or Write, offset, size, time to answer.
    Layout(
        re.compile(r"\d{17,18},[\w.-]+,\d+,(?:Read|Write),\d+,\d+,\d+\r?", re.IGNORECASE),
        Columns(",", 7, key=4, is_address=True, time=0, size=5, op=3, time_unit=FILETIME),
    ),
)


def recognised(line: str, overrides: Mapping[str, str]) -> bool:
    """Whether `line` has the names of columns, among them one for ids or addresses, or is a row of a known layout."""
    names = _split(line, _delimiter(line, overrides))
    return _key_meaning(names, overrides) is not None or any(each.row.fullmatch(line) for each in LAYOUTS)


def commented_header(line: str) -> str | None:
    """The names of columns in a comment, as some tools write them; None for any other comment."""
    text = line.lstrip("# ")
    return text if _key_meaning(_split(text, _delimiter(text, {})), {}) is not None and len(_words(text)) == 1 else None


def choose_columns(line: str, number: int, comment: str | None, context: Context) -> tuple[Columns, bool]:
    """The columns of a table whose first line that is no comment is `line`, and whether that line is its header.

    `number` counts lines; `comment` has names of columns from a comment before it. Raises TraceError where there is no
    column for ids, or one that was asked for is missing or there twice.
    """
    overrides = context.columns
    check_overrides(overrides)
    if comment is not None and _key_meaning(_split(line, _delimiter(line, overrides)), overrides) is None:
        return find_columns(comment, number, context), False
    key = overrides.get("id", overrides.get("address", ""))
    if key.isdecimal() and all(not name or name.isdecimal() for name in overrides.values()):
        delimiter = _delimiter(line, overrides)
        if _is_row([field.strip() for field in _split(line, delimiter)], overrides):
            return _by_number(line, number, delimiter, context), False
    if not overrides and _key_meaning(_split(line, _delimiter(line, {})), {}) is None:
        layout = next((each for each in LAYOUTS if each.row.fullmatch(line)), None)
        if layout is not None:
            return layout.columns, False
    return find_columns(line, number, context), True


def find_columns(header: str, line: int, context: Context) -> Columns:
    """The columns that line number `line` names, where `context.columns` may name them otherwise, or by number from 1.

    Raises TraceError when there is none for ids, or one that was asked for is missing or there twice.
    """
    overrides = context.columns
    check_overrides(overrides)
    delimiter = _delimiter(header, overrides)
    names = _split(header, delimiter)
    found = {meaning: _find(names, meaning, header, line, context) for meaning in NAMES}
    key = _key_meaning(names, overrides)
    where = found[key] if key else None
    if key is None or where is None:
        usual = ", ".join(NAMES["id"][:5] + NAMES["address"][:2])
        allowed = f"one of {usual} and the like, or one that --columns names, or numbers if there is no header: id=2"
        raise context.bad_line(line, header, "has no column for ids", allowed)
    time = found["time"]
    unit = None if time is None else split_unit(_plain(names[time]))[1]
    return Columns(
        delimiter, len(names), where, key == "address", time=time, size=found["size"], op=found["op"], time_unit=unit
    )


def check_overrides(overrides: Mapping[str, str]) -> None:
    """Raise TraceError unless `overrides` names columns only for what a column can mean, and one kind of id.

    An empty name leaves the column out, which an id's cannot be.
    """
    for meaning, name in overrides.items():
        if meaning not in NAMES:
            raise TraceError(f"a column cannot mean {meaning!r}; allowed is {', '.join(NAMES)}")
        if meaning in ("id", "address") and not name:
            raise TraceError(f"column {meaning}= has no name; allowed is the name of a column, or its number from 1")
    if "id" in overrides and "address" in overrides:
        raise TraceError("columns are named for id and for address; allowed is one of the two")


def _key_meaning(names: list[str], overrides: Mapping[str, str]) -> str | None:
    """Whether ids or addresses are there: "id", "address" or None; what was asked for is looked for alone."""
    asked = [meaning for meaning in ("id", "address") if meaning in overrides]
    return next((meaning for meaning in asked or ("id", "address") if _where(names, meaning, overrides)), None)


def _where(names: list[str], meaning: str, overrides: Mapping[str, str]) -> list[int]:
    """The columns that could be meant: as named exactly, else in another case, else by number; else by usual names."""
    given = overrides.get(meaning)
    if given is None:
        plain = [_plain(name) for name in names]
        if meaning == "time":
            plain = [split_unit(name)[0] if name not in NAMES["time"] else name for name in plain]
        wanted = next((name for name in NAMES[meaning] if name in plain), None)
        return [n for n, name in enumerate(plain) if name == wanted]
    exact = [n for n, name in enumerate(names) if name.strip() == given.strip()]
    close = exact or [n for n, name in enumerate(names) if _plain(name) == _plain(given)]
    if close or not given.isdecimal():
        return close
    return [int(given) - 1] if 1 <= int(given) <= len(names) else []


def _find(names: list[str], meaning: str, header: str, line: int, context: Context) -> int | None:
    overrides = context.columns
    if overrides.get(meaning) == "":
        return None
    where = _where(names, meaning, overrides)
    if not where and meaning in overrides:
        there = ", ".join(name.strip() for name in names)
        raise context.bad_line(
            line, header, f"has no column {overrides[meaning]!r}", f"one of {there}, or a number from 1 to {len(names)}"
        )
    if len(where) > 1:
        raise context.bad_line(line, header, f"has the column {names[where[0]].strip()!r} twice", "one, or its number")
    return where[0] if where else None


def _is_row(fields: list[str], overrides: Mapping[str, str]) -> bool:
    """Whether a line whose columns are known by number is a row already, and no header."""

    def of(meaning: str) -> str | None:
        name = overrides.get(meaning)
        return fields[int(name) - 1] if name and 1 <= int(name) <= len(fields) else None

    time, address, op, identity = of("time"), of("address"), of("op"), of("id")
    return (
        not any(field in overrides.values() and not field.isdecimal() for field in fields)
        and (time is None or _is_number(time))
        and (address is None or parse_integer(address) is not None)
        and (op is None or kind_of(op) is not None)
        and (identity is None or _plain(identity) not in NAMES["id"])
    )


def _by_number(line: str, number: int, delimiter: str, context: Context) -> Columns:
    names = [str(n) for n in range(1, len(_split(line, delimiter)) + 1)]
    found = {meaning: _find(names, meaning, line, number, context) for meaning in context.columns}
    key = "id" if "id" in found else "address"
    where = cast(int, found.pop(key))  # which was asked for, so that it is there
    return Columns(delimiter, len(names), where, key == "address", **found)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _delimiter(header: str, overrides: Mapping[str, str]) -> str:
    """The delimiter that yields a column for ids, then the one that yields most columns."""

    def worth(delimiter: str) -> tuple[bool, int]:
        names = _split(header, delimiter)
        return _key_meaning(names, overrides) is not None, len(names)

    return max(DELIMITERS, key=worth)


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r")], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []


def _words(text: str) -> list[str]:
    return text.split() if not any(each in text for each in DELIMITERS) else [text]


def _plain(name: str) -> str:
    return _SEPARATORS.sub("_", name.strip().casefold())

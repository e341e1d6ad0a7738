"""The meaning of a table's columns: from the header line of a csv trace, or known for a table without one."""

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
"""Names of columns by meaning; of several in a header, the first here counts. Case is ignored; `_` may be a blank."""
_SEPARATORS: Final = re.compile(r"[\s-]+")


class Columns(msgspec.Struct, frozen=True):
    """Indexes of a row's fields by meaning; None if the table has no such column."""

    delimiter: str
    count: int
    """Number of columns in a row."""
    key: int
    """The column of the id or address."""
    is_address: bool
    """True if `key` is a byte address, false if it is an id."""
    time: int | None = None
    size: int | None = None
    op: int | None = None
    time_unit: float | None = None
    """The unit of the times in seconds, if the table gives it."""


class Layout(msgspec.Struct, frozen=True):
    """A table without a header, recognised by its rows."""

    row: re.Pattern[str]
    columns: Columns


LAYOUTS: Final = (
    # Twitter's cache clusters: time, key, key size, value size, client, operation, time to live.
    Layout(
        re.compile(r"\d+,[^,]+,\d+,\d+,\d+,[a-z]+,\d+\r?"),
        Columns(",", 7, key=1, is_address=False, time=0, op=5),
    ),
    # Microsoft's servers in Cambridge: time, host, disk, Read or Write, offset, size, response time.
    Layout(
        re.compile(r"\d{17,18},[\w.-]+,\d+,(?:Read|Write),\d+,\d+,\d+\r?", re.IGNORECASE),
        Columns(",", 7, key=4, is_address=True, time=0, size=5, op=3, time_unit=FILETIME),
    ),
)


def recognised(line: str, overrides: Mapping[str, str]) -> bool:
    """True if `line` names columns, one of them for ids or addresses, or is a row of a known layout."""
    names = _split(line, _delimiter(line, overrides))
    return _key_meaning(names, overrides) is not None or any(each.row.fullmatch(line) for each in LAYOUTS)


def commented_header(line: str) -> str | None:
    """The names of columns in a comment, as some tools write them; None for any other comment."""
    text = line.lstrip("# ")
    return text if _key_meaning(_split(text, _delimiter(text, {})), {}) is not None and len(_words(text)) == 1 else None


def choose_columns(line: str, number: int, comment: str | None, context: Context) -> tuple[Columns, bool]:
    """The columns of a table, and whether `line`, its first line that is not a comment, is its header.

    `number` is the line's; `comment` has the names of columns from an earlier comment. Raises TraceError if there is no
    column for ids, or one that was asked for is missing or occurs twice.
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
    """The columns that `header`, line number `line`, names. `context.columns` may give other names, or numbers from 1.

    Raises TraceError if there is no column for ids, or one that was asked for is missing or occurs twice.
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
    """Raise TraceError unless `overrides` names columns by their meanings, and at most one of id and address.

    An empty name leaves the column out, except for id and address.
    """
    for meaning, name in overrides.items():
        if meaning not in NAMES:
            raise TraceError(f"a column cannot mean {meaning!r}; allowed is {', '.join(NAMES)}")
        if meaning in ("id", "address") and not name:
            raise TraceError(f"column {meaning}= has no name; allowed is the name of a column, or its number from 1")
    if "id" in overrides and "address" in overrides:
        raise TraceError("columns are named for id and for address; allowed is one of the two")


def _key_meaning(names: list[str], overrides: Mapping[str, str]) -> str | None:
    """Whether there are ids or addresses: "id", "address" or None.

    If `overrides` asks for one, only that is searched.
    """
    asked = [meaning for meaning in ("id", "address") if meaning in overrides]
    return next((meaning for meaning in asked or ("id", "address") if _where(names, meaning, overrides)), None)


def _where(names: list[str], meaning: str, overrides: Mapping[str, str]) -> list[int]:
    """Candidates for a column: by the given name, in this or another case, else by number; by usual names if none."""
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
    """True if a line, whose columns are given by number, is a row and not a header."""

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
    where = cast(int, found.pop(key))  # not None, because it was asked for
    return Columns(delimiter, len(names), where, key == "address", **found)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _delimiter(header: str, overrides: Mapping[str, str]) -> str:
    """The delimiter that yields a column for ids, and of several the one that yields most columns."""

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

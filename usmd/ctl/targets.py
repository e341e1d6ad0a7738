"""Parses what an operator names: a process, a page, a range of pages, a policy. The daemon checks that it exists."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usmd.errors import InvalidArgument, InvalidSize, NotFound
from usmd.sizes import parse_size

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

MAX_NUMBER = (1 << 64) - 1
LAST_ORDER = 99_999
"""Numbers of processes are drawn above; up to it, a number tells which process attached first, second, and so on."""
_FILE = re.compile(r"[^\s(),=][^(),=]*\.py(?=:)")
_UNDECODED = re.compile("[\udc80-\udcff]")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}")


@dataclass(frozen=True)
class Address:
    """Any address of a page, in bytes."""

    address: int


@dataclass(frozen=True)
class Place:
    """A byte in a region; the region by number, or by name if the number is 0."""

    region_id: int
    region_name: str
    offset: int


def from_argument(text: str) -> str:
    """An argument of the command line as the UTF-8 text that the daemon expects, whatever the locale.

    Raises InvalidArgument for bytes that are not UTF-8, which no name has.
    """
    try:
        return text if not _UNDECODED.search(text) else os.fsencode(text).decode()
    except UnicodeError:
        raise InvalidArgument(f"{text!r} is not UTF-8 text, which all names and specifications are") from None


def parse_number(text: str) -> int | None:
    """A decimal or 0x number of at most 64 bits; None if `text` is not one."""
    if not _NUMBER.fullmatch(text):
        return None
    number = int(text, 16) if text[:2].lower() == "0x" else int(text)
    return number if number <= MAX_NUMBER else None


def parse_process(text: str) -> int | str:
    """A process number (at least 1), or a process name.

    Raises InvalidArgument for an empty text or an invalid number.
    """
    text = from_argument(text)
    if not text.isascii() or not text.isdecimal():
        if not text:
            raise InvalidArgument("the process is empty; allowed is a process number or a process name")
        return text
    number = parse_number(text)
    if not number:
        raise InvalidArgument(f"process number {text} does not exist; allowed is 1 to {MAX_NUMBER}, or a process name")
    return number


def parse_page(text: str) -> Address | Place:
    """An address, or REGION+OFFSET. Raises InvalidArgument, which names the text and what is allowed."""
    text = from_argument(text)
    region, plus, offset = text.rpartition("+")
    if plus:
        return _parse_place(text, region, offset)
    address = parse_number(text)
    if address is None:
        raise InvalidArgument(
            f"page {text!r} cannot be read; allowed is an address (decimal or 0x hex, 64 bits) "
            f"or REGION+OFFSET, for example {_example(text)}"
        )
    return Address(address)


def parse_range(text: str) -> tuple[Place, int | None]:
    """A range of bytes: REGION, REGION+OFFSET or REGION+OFFSET:LENGTH; None: to the end of the region.

    Raises InvalidArgument, which names the text and what is allowed.
    """
    text = from_argument(text)
    region, plus, rest = text.rpartition("+")
    if not plus:
        return _parse_place(text, text, "0"), None
    offset, colon, length = rest.partition(":")
    return _parse_place(text, region, offset), _parse_offset(text, length) if colon else None


def absolute_files(specification: str) -> str:
    """A policy's specification with absolute paths, because the daemon's current folder is another one.

    Raises InvalidArgument for bytes that are not UTF-8.
    """
    text = _FILE.sub(lambda match: os.path.abspath(os.path.expanduser(match[0])), specification)  # noqa: PTH100, PTH111
    return from_argument(text)


def find_process(name: str, processes: Iterable[admin_pb2.Process]) -> int:
    """The number of the process called `name`. Raises NotFound if there is none, or several, which it lists."""
    found = [process for process in processes if process.name == name]
    if not found:
        raise NotFound(f"no process is named {name!r}; `usmctl processes` lists those there are")
    if len(found) > 1:
        listed = ", ".join(f"{process.process_id} (pid {process.pid or 'unknown'})" for process in found)
        raise NotFound(f"{len(found)} processes are named {name!r}: {listed}; name one by its number")
    return found[0].process_id


def in_order(number: int, processes: Iterable[admin_pb2.Process]) -> int:
    """The number of the process with a small number, or else of the one that was so many-th to attach.

    If there is neither, `number` itself, of which the daemon says that there is none.
    """
    numbers = {process.order: process.process_id for process in processes}
    return number if number in numbers.values() else numbers.get(number, number)


def _parse_place(text: str, region: str, offset_text: str) -> Place:
    if not region:
        raise InvalidArgument(f"page {text!r} names no region; allowed is REGION+OFFSET, for example index+64KiB")
    offset = _parse_offset(text, offset_text)
    if not region.isascii() or not region.isdecimal():
        return Place(0, region, offset)
    number = parse_number(region)
    if not number:
        raise InvalidArgument(f"region number {region} does not exist; allowed is 1 to {MAX_NUMBER}, or a region name")
    return Place(number, "", offset)


def _parse_offset(text: str, offset_text: str) -> int:
    offset = parse_number(offset_text)
    if offset is None:
        try:
            offset = parse_size(offset_text)
        except InvalidSize:
            offset = MAX_NUMBER + 1
    if offset > MAX_NUMBER:
        raise InvalidArgument(
            f"offset {offset_text!r} of page {text!r} cannot be read; allowed is decimal, 0x hex, "
            "or a size such as 64KiB, within 64 bits"
        )
    return offset


def _example(text: str) -> str:
    return f"{text}+64KiB" if text.isidentifier() else "index+64KiB"

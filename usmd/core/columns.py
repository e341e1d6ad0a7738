"""Columns: one number for each frame or counter, which the hot path reads and writes singly.

Compiled, a column is a `vec` of librt, mypyc's runtime library: an item costs one machine instruction, where an array's
costs a call and an object. As Python, a column is an array, whose items cost less than those of a `vec` there.
"""

from __future__ import annotations

import sys
from array import array
from typing import Any, Final, cast

from librt.vecs import vec
from mypy_extensions import i32, i64

from usmd.core.consecutive import consecutive

_CODE: Final = "I"
"""Of an array: an unsigned item is stored in two thirds of the time of a signed one."""
_WIDE: Final = "q"
_LOWER_BITS: Final = array(_CODE, [0x7FFFFFFF]).tobytes()


def column(count: int) -> vec[i32]:
    """A column of `count` zeros; its numbers are less than 2^31, and not negative."""
    if NATIVE:
        return vec[i32]([0] * count)
    return cast("vec[i32]", array(_CODE, [0]) * count)


def wide_column(count: int, value: int) -> vec[i64]:
    """A column of `count` numbers of 64 bits, all of one value."""
    if NATIVE:
        return vec[i64]([value] * count)
    return cast("vec[i64]", array(_WIDE, [value]) * count)


NATIVE: Final = not hasattr(column, "__code__")
"""Whether this module is compiled."""


def fill(numbers: vec[i32], first: int, end: int, value: int) -> None:
    """Set the numbers from `first` to before `end` to one value."""
    if NATIVE:
        for index in range(first, end):
            numbers[index] = value
    else:
        cast("Any", numbers)[first:end] = array(_CODE, [value]) * (end - first)


def count_up(numbers: vec[i32], first: int, end: int, value: int) -> None:
    """Set the numbers from `first` to before `end` to consecutive values from `value` on."""
    if NATIVE:
        for index in range(first, end):
            numbers[index] = value + index - first
    else:
        cast("Any", numbers)[first:end] = consecutive(_CODE, value, end - first)


def count_up_wide(numbers: vec[i64], first: int, end: int, value: int) -> None:
    """As `count_up`."""
    if NATIVE:
        for index in range(first, end):
            numbers[index] = value + index - first
    else:
        cast("Any", numbers)[first:end] = consecutive(_WIDE, value, end - first)


def put_wide(numbers: vec[i64], first: int, values: list[int]) -> None:
    """Set the numbers from `first` on to these values."""
    if NATIVE:
        for index in range(len(values)):
            numbers[first + index] = values[index]
    else:
        cast("Any", numbers)[first : first + len(values)] = array(_WIDE, values)


def all_zero(numbers: vec[i32], first: int, end: int) -> bool:
    """Whether the numbers from `first` to before `end` are all zero. Arrays of one type are compared as bytes."""
    if NATIVE:
        return all(numbers[index] == 0 for index in range(first, end))
    return bool(cast("Any", numbers)[first:end] == array(_CODE, [0]) * (end - first))


def all_zero_wide(numbers: vec[i64], first: int, end: int) -> bool:
    """As `all_zero`."""
    if NATIVE:
        return all(numbers[index] == 0 for index in range(first, end))
    return bool(cast("Any", numbers)[first:end] == array(_WIDE, [0]) * (end - first))


def halve(numbers: vec[i32]) -> None:
    """Halve each number, rounding down."""
    if NATIVE:
        for index in range(len(numbers)):
            numbers[index] >>= 1
    else:  # as one large number, of which the highest bit of each is cleared, because it was the lowest of the next one
        plain = cast("Any", numbers)
        halves = int.from_bytes(plain.tobytes(), sys.byteorder) >> 1
        halves &= int.from_bytes(_LOWER_BITS * len(plain), sys.byteorder)
        plain[:] = array(_CODE, halves.to_bytes(len(plain) * plain.itemsize, sys.byteorder))


def as_bytes(numbers: vec[i32] | vec[i64]) -> bytes:
    """The numbers, 4 bytes each, or 8 of a wide column, in the machine's order."""
    return memoryview(cast("Any", numbers)).tobytes()

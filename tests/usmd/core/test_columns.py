"""Columns of numbers, against plain lists."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from usmd.core.columns import (
    all_zero,
    all_zero_wide,
    as_bytes,
    column,
    count_up,
    count_up_wide,
    fill,
    halve,
    put_wide,
    wide_column,
)

LENGTH = 700
MOST = (1 << 31) - 1
PART = st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)).map(sorted)


def column_of(values):
    numbers = column(len(values))
    for index, value in enumerate(values):
        numbers[index] = value
    return numbers


def test_a_column_is_of_zeros_and_takes_four_bytes_a_number():
    assert list(column(5)) == [0] * 5
    assert as_bytes(column_of([1, MOST])) == (1).to_bytes(4, "little") + MOST.to_bytes(4, "little")
    assert (list(column(0)), as_bytes(column(0))) == ([], b"")
    assert as_bytes(wide_column(2, -1)) == b"\xff" * 16


@given(part=PART, value=st.integers(0, MOST - LENGTH))
@examples(30)
def test_a_part_is_filled_or_counted_up(part, value):
    first, end = part
    filled, counted, wide = column(LENGTH), column(LENGTH), wide_column(LENGTH, -1)
    fill(filled, first, end, value)
    count_up(counted, first, end, value)
    count_up_wide(wide, first, end, value << 31)
    number = value << 31
    assert list(wide) == [-1] * first + list(range(number, number + end - first)) + [-1] * (LENGTH - end)
    assert list(filled) == [0] * first + [value] * (end - first) + [0] * (LENGTH - end)
    assert list(counted) == [0] * first + list(range(value, value + end - first)) + [0] * (LENGTH - end)


@given(values=st.lists(st.integers(0, MOST)))
@examples(30)
def test_each_number_is_halved_whatever_is_beside_it(values):
    numbers = column_of(values)
    halve(numbers)
    assert list(numbers) == [value // 2 for value in values]


@given(part=PART, at=st.integers(0, LENGTH - 1))
@examples(30)
def test_a_part_is_all_zero_if_the_one_number_is_beside_it(part, at):
    first, end = part
    numbers, wide = column(LENGTH), wide_column(LENGTH, 0)
    numbers[at] = wide[at] = 1
    assert all_zero(numbers, first, end) == all_zero_wide(wide, first, end) == (not first <= at < end)


def test_values_are_put_side_by_side():
    numbers = wide_column(5, -1)
    put_wide(numbers, 1, [1 << 40, -(1 << 45), 0])
    assert list(numbers) == [-1, 1 << 40, -(1 << 45), 0, -1]

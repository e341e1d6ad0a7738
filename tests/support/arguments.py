"""Valid and invalid arguments for an integer or for bytes."""

import array
import enum
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np

INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
NOT_INTEGERS = [1.0, np.float32(1), np.float64(2), "1", b"1", None, [1], Decimal(1), Fraction(1), 1j, object()]


def label(value):
    """A test's id for a value, the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))[:50]


class Number(enum.IntEnum):
    ONE = 1


class Index:
    def __index__(self):
        return 7


RECORD = np.array([(1, 2)], dtype=[("Open", "<i4"), ("b", "u1")])
BUFFERS = [
    b"",
    b"abc",
    bytearray(b"abc"),
    memoryview(b"abcdef")[::2],
    memoryview(b"abcdef")[::-1],
    array.array("I", [1, 2]),
    np.arange(6, dtype="<u2").reshape(2, 3),
    np.arange(6, dtype="<u2").reshape(2, 3).T,
    np.arange(6, dtype=">i4"),
    np.zeros((0, 3)),
    np.array([True, False]),
    RECORD,
    RECORD[0],
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
]
NOT_BUFFERS = [0, 5, True, 1.5, 1j, None, "text", [1, 2], (1,), {}, object(), Number.ONE, Decimal(1)] + [
    kind(5) for kind in (*INTEGERS, np.float32, np.float64, np.bool_)
]
UNREADABLE = [np.array([object()]), np.array(["2020"], "M8[s]"), np.zeros(2, [("a", "O")])]

"""Arrays of consecutive numbers, made at once: `array(code, range(...))` takes six times as long for a run of pages.

An array is looked at as one large number, with a lane for each of its own. One addition then adds to all of them.
"""

from __future__ import annotations

import sys
from array import array
from typing import Final

LANES: Final = 512
"""Numbers that are made at once; fewer are made one by one if that is faster."""
_FEW: Final = 64


def _lanes(code: str) -> tuple[int, int]:
    """0, 1, 2 … in the lanes, and 1 in each."""
    counting, ones = array(code, range(LANES)), array(code, [1]) * LANES
    return int.from_bytes(counting.tobytes(), sys.byteorder), int.from_bytes(ones.tobytes(), sys.byteorder)


_OF_CODE: Final = {code: (array(code).itemsize * LANES, *_lanes(code)) for code in "Iq"}


def consecutive(code: str, first: int, count: int) -> array[int]:
    """`array(code, range(first, first + count))`. `code`: I or q, which must have room for LANES more."""
    if count < _FEW:
        return array(code, range(first, first + count))
    size, counting, ones = _OF_CODE[code]
    made = array(code)
    for done in range(0, count, LANES):
        made.frombytes((counting + ones * (first + done)).to_bytes(size, sys.byteorder))
    del made[count:]
    return made

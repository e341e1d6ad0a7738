"""The batch entry: the daemon builds it by position, so its order is part of the interface."""

from __future__ import annotations

from usmd.swap.slot_io import SlotIO


def test_fields_are_in_the_order_that_callers_build_them():
    buffer = memoryview(bytearray(1))
    entry = SlotIO(1, 2, 3, 4, buffer)
    assert entry._asdict() == {"slot": 1, "process": 2, "page": 3, "generation": 4, "buffer": buffer}

"""The checksum: stable, never 0, and different whenever bytes or key differ."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from usmd.swap.checksum import checksums
from usmd.swap.slot_io import SlotIO

PAGE = bytes(range(256)) * 16
WORDS = st.integers(0, 2**64 - 1)


def checksum(process=1, page=2, generation=3, data=PAGE, slot=0):
    return checksums([SlotIO(slot, process, page, generation, memoryview(bytearray(data)))])[0]


def test_permuted_and_neighbouring_keys_have_different_checksums():
    keys = list(itertools.product(range(8), repeat=3))
    assert len({checksum(*key) for key in keys}) == len(keys)


@given(st.tuples(WORDS, WORDS, WORDS), st.tuples(WORDS, WORDS, WORDS))
def test_equal_keys_and_only_those_have_equal_checksums(one, other):
    assert (checksum(*one) == checksum(*other)) == (one == other)


@given(st.integers(0, len(PAGE) * 8 - 1))
def test_any_flipped_bit_changes_the_checksum(bit):
    flipped = bytearray(PAGE)
    flipped[bit // 8] ^= 1 << bit % 8
    assert checksum(data=flipped) != checksum()


def test_the_slot_does_not_count():
    assert checksum(slot=5) == checksum(slot=6)


def test_zero_is_never_a_checksum(monkeypatch):
    monkeypatch.setattr("usmd.swap.checksum.xxh3_64_intdigest", lambda *_: 0)
    assert checksum() == 1


def test_a_batch_yields_one_checksum_per_entry_in_order():
    entries = [SlotIO(0, n, 0, 0, memoryview(bytearray(PAGE))) for n in range(3)]
    assert checksums(entries) == [checksum(n, 0, 0) for n in range(3)]

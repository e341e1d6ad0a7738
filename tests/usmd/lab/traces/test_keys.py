from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.lab.traces.keys import as_keys, hashed, parse_integer, touched
from usmd.lab.traces.trace import BATCH_LIMIT


def accesses(batches):
    """All (key, write, time) of `batches`."""
    return [
        (key, batch.writes[n] if batch.writes else 0, None if batch.times is None else batch.times[n])
        for batch in batches
        for n, key in enumerate(batch.keys)
    ]


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_ids_of_64_bits_stay_distinct(ids):
    keys = as_keys(ids)
    assert [key % 2**64 for key in keys] == ids


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_more_than_64_bits_is_refused(value):
    with pytest.raises(OverflowError):
        as_keys([2**63, value])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("007", 7),
        ("-5", -5),
        ("0x1F", 31),
        ("0Xff", 255),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", None),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", None),
        ("9" * 5000, None),
        ("", None),
        ("1f", None),
        ("1_0", None),
        ("0x", None),
        ("0x" + "1" * 17, None),
        ("\uff11", None),
        ("1 ", None),
        ("-", None),
    ],
)
def test_integers_are_decimal_or_0x_hex_of_64_bits(text, value):
    assert parse_integer(text) == value


def test_other_ids_are_hashed_to_63_bits():
    hashes = {hashed(f"user:{n}") for n in range(10_000)}
    assert len(hashes) == 10_000
    assert all(0 <= value < 2**63 for value in hashes)
    assert hashed("é") == hashed("é")


@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 10), st.integers(0, 3), st.booleans(), st.floats(0, 9)), max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_an_access_touches_each_of_its_pages_once(rows, with_writes, with_times):
    first = [page for page, _, _, _ in rows]
    last = [page + more for page, more, _, _ in rows]
    writes = bytes(write for _, _, write, _ in rows) if with_writes else b""
    times = array("d", [time for _, _, _, time in rows]) if with_times else None
    assert accesses(touched(first, last, writes, times)) == [
        (as_keys([page + n])[0], int(write and with_writes), time if with_times else None)
        for page, more, write, time in rows
        for n in range(more + 1)
    ]


def test_long_accesses_do_not_pile_up():
    batches = touched([0] * 4, [BATCH_LIMIT - 1] * 4, b"\1\0\1\0")
    assert [(len(batch.keys), bytes(batch.writes[:1])) for batch in batches] == [
        (BATCH_LIMIT, b"\1"),
        (BATCH_LIMIT, b""),
        (BATCH_LIMIT, b"\1"),
        (BATCH_LIMIT, b""),
    ]

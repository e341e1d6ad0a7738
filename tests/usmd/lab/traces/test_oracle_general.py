import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.errors import TraceError
from usmd.lab.traces.context import Context
from usmd.lab.traces.oracle_general import RECORD, plausible, read_oracle_general

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(-(2**63), 2**63 - 1),
    )
)


def pack(rows):
    return b"".join(RECORD.pack(*row) for row in rows)


def read(data, size=1 << 16):
    chunks = [data[n : n + size] for n in range(0, len(data), size)]
    batches = list(read_oracle_general(chunks, Context("t")))
    assert all(batch.writes == b"" for batch in batches)
    return [(time, key % 2**64) for batch in batches for time, key in zip(batch.times, batch.keys, strict=True)]


def test_a_record_as_it_stands_in_a_file():
    data = bytes.fromhex("05000000080706050403020100100000ffffffffffffffff")
    assert read(data) == [(5.0, 0x0102030405060708)]


@given(ROWS, st.integers(1, 60))
def test_records_come_back_however_they_are_cut(rows, size):
    assert read(pack(rows), size) == [(time, key) for time, key, _, _ in rows]


@pytest.mark.parametrize("missing", [1, 12, 23])
def test_a_record_that_is_cut_off_is_an_error(missing):
    with pytest.raises(TraceError, match=f"t, byte 48: .* {24 - missing} bytes .* multiple of 24"):
        read(pack([(1, 2, 3, 4)] * 3)[:-missing], 10)


def test_a_real_beginning_is_plausible():
    assert plausible(pack([(5, 99, 10, 3), (5, 98, 10, -1), (6, 99, 1, 2**63 - 1)]) + b"cut")


@pytest.mark.parametrize(
    "sample",
    [
        b"",
        bytes(23),
        pack([(6, 1, 1, -1), (5, 1, 1, -1)]),
        pack([(5, 1, 1, 2**60)]),
        pack([(5, 1, 1, -7)]),
        "1\n2\n3\n4\n5\n6\n7\n8\n".encode("utf-16"),
        b"\x7fELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0\x3e\0\1\0\0\0\x70\x25\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\x10\x5f\2\0\0\0\0\0",
    ],
)
def test_other_binary_files_are_not(sample):
    assert not plausible(sample)

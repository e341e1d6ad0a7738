import struct
from array import array

from hypothesis import given
from hypothesis import strategies as st

from usmd.lab.traces import records
from usmd.lab.traces.records import floats, numbers, whole_records
from usmd.lab.traces.trace import BATCH_LIMIT


@given(st.binary(max_size=100), st.integers(1, 30), st.integers(1, 12))
def test_chunks_cut_anywhere_become_whole_records_and_a_rest(data, size, length):
    chunks = [data[n : n + size] for n in range(0, len(data), size)]
    runs = list(whole_records(chunks, length, 1000))
    assert b"".join(run for _, run in runs) == data
    at = 1000
    for offset, run in runs:
        assert offset == at
        at += len(run)
    assert all(len(run) % length == 0 for _, run in runs[:-1])
    if len(data) % length:
        assert len(runs[-1][1]) == len(data) % length


def test_a_run_is_no_more_than_a_batch():
    runs = [len(run) for _, run in whole_records([bytes(2 * (2 * BATCH_LIMIT + 1))], 2)]
    assert runs == [2 * BATCH_LIMIT, 2 * BATCH_LIMIT, 2]


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))))
def test_fields_are_those_that_were_packed(rows):
    record = struct.Struct("<dQI")
    data = b"".join(record.pack(*row) for row in rows)
    assert list(floats(data, record.size, 0)) == [row[0] for row in rows]
    assert [key % 2**64 for key in numbers(data, record.size, 8, "q")] == [row[1] for row in rows]
    assert list(numbers(data, record.size, 16, "I")) == [row[2] for row in rows]


def test_a_big_endian_machine_swaps(monkeypatch):
    monkeypatch.setattr(records.sys, "byteorder", "big" if records.sys.byteorder == "little" else "little")
    swapped = array("I", [1])
    swapped.byteswap()
    assert numbers((1).to_bytes(4, records.sys.byteorder), 4, 0, "I") == array("I", [1])
    assert floats(struct.pack("=d", 1.5)[::-1], 8, 0) == array("d", [1.5])

import io
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.errors import TraceError
from usmd.lab.traces.context import Context
from usmd.lab.traces.recording import (
    BUFFERED,
    MAGIC,
    READ_FAULT,
    READ_HIT,
    WRITE_FAULT,
    WRITE_HIT,
    Header,
    Recorder,
    read_recording,
)

HEADER = Header(page_size=4096, process="a\nname", started=1.5e9, frames=64, evict="lru")
ACCESSES = [(0.25, 7 << 32 | 3, READ_HIT), (0.5, 2**64 - 1, WRITE_HIT), (1.0, 1, READ_FAULT), (9.0, 2, WRITE_FAULT)]


class Kept(io.BytesIO):
    """A file whose bytes outlive it."""

    def close(self):
        self.kept = self.getvalue()
        super().close()


class Full(io.BytesIO):
    """A file on a disk that becomes full."""

    full = False

    def write(self, data):
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(data)

    def close(self):
        super().close()
        if self.full:
            raise OSError(28, "No space left on device")


def record(accesses):
    file = Kept()
    with Recorder(file, HEADER) as recorder:
        recorder.add_many(accesses)
    return file.kept


def read(data, size=1 << 16):
    context = Context("t")
    batches = list(read_recording([data[n : n + size] for n in range(0, len(data), size)], context))
    rows = [
        (batch.times[n], key % 2**64, batch.writes[n] if batch.writes else 0)
        for batch in batches
        for n, key in enumerate(batch.keys)
    ]
    return rows, context


def test_the_file_is_magic_header_and_records():
    magic, header, records = record(ACCESSES[:1]).split(b"\n", 2)
    assert magic == b"USMTRACE1"
    assert json.loads(header) == {
        "page_size": 4096,
        "process": "a\nname",
        "started": 1.5e9,
        "frames": 64,
        "evict": "lru",
    }
    assert records == struct.pack("<dQB", *ACCESSES[0])


@given(
    st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**64 - 1), st.integers(0, 3))),
    st.integers(1, 70),
)
def test_what_was_recorded_is_read_however_it_is_cut(accesses, size):
    rows, context = read(record(accesses), size)
    assert rows == [(time, key, kind & 1) for time, key, kind in accesses]
    assert context.header == HEADER
    assert not context.truncated


@given(st.integers(0, 200))
def test_a_recording_may_be_cut_anywhere_in_its_records(length):
    data = record(ACCESSES)
    start = len(data) - 17 * len(ACCESSES)
    rows, context = read(data[: start + min(length, len(data) - start)], 13)
    whole, part = divmod(min(length, len(data) - start), 17)
    assert len(rows) == whole
    assert context.truncated is bool(part)


def test_the_header_is_known_before_the_first_access():
    context = Context("t")
    read_recording([record([])], context)
    assert context.header == HEADER


def test_accesses_one_by_one_and_many_at_a_time_are_the_same():
    file = Kept()
    with Recorder(file, HEADER) as recorder:
        for access in ACCESSES:
            recorder.add(*access)
    assert file.kept == record(ACCESSES)


def test_accesses_are_buffered_until_there_are_many():
    file = Kept()
    recorder = Recorder(file, HEADER)
    before = len(file.getvalue())
    assert before
    recorder.add_many(ACCESSES)
    assert len(file.getvalue()) == before
    recorder.flush()
    assert len(file.getvalue()) == before + 17 * len(ACCESSES)
    recorder.add_many(ACCESSES * (BUFFERED // 17))
    assert len(file.getvalue()) > BUFFERED
    written = len(file.getvalue())
    for _ in range(BUFFERED // 17 + 1):
        recorder.add(*ACCESSES[0])
    assert len(file.getvalue()) > written
    recorder.add(*ACCESSES[0])
    recorder.close()
    recorder.close()
    assert len(file.kept) == before + 17 * (len(ACCESSES) * (1 + BUFFERED // 17) + BUFFERED // 17 + 2)


@pytest.mark.parametrize(
    "access", [(0.0, 2**64, 0), (0.0, -1, 0), (0.0, 1, 4), (0.0, 1, -1), (0.0, 1, 256), ("x", 1, 0)]
)
def test_an_access_out_of_range_is_refused_and_nothing_added(access):
    file = Kept()
    with Recorder(file, HEADER) as recorder, pytest.raises(TraceError, match="cannot be recorded"):
        recorder.add_many([ACCESSES[0], access])
    assert file.kept == record([])
    file = Kept()
    with Recorder(file, HEADER) as recorder, pytest.raises(TraceError, match="cannot be recorded"):
        recorder.add(*access)
    assert file.kept == record([])


def test_a_name_without_end_is_refused():
    with pytest.raises(TraceError, match="too long a name"):
        Recorder(io.BytesIO(), Header(4096, "x" * (1 << 16), 1.0, 1, "lru"))


def test_a_full_disk_is_an_error_and_the_file_is_closed():
    file = Full()
    recorder = Recorder(file, HEADER)
    recorder.add(*ACCESSES[0])
    file.full = True
    with pytest.raises(TraceError, match="No space left"):
        recorder.close()
    assert file.closed


def test_adding_after_the_end_is_an_error():
    recorder = Recorder(io.BytesIO(), HEADER)
    recorder.close()
    recorder.add(*ACCESSES[0])
    with pytest.raises(TraceError, match="closed file"):
        recorder.flush()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "byte 0: '' does not begin a recording"),
        (b"USMTRACE2\n{}\n", "byte 0: .* does not begin a recording"),
        (MAGIC, "byte 10: '' is not a header"),
        (record([])[:-1], "byte 10: .* is not a header"),
        (MAGIC + b"{}\n", "byte 10: '{}' is not a header .*page_size"),
        (MAGIC + b"nonsense\n", "byte 10: 'nonsense' is not a header"),
        (MAGIC + b'{"page_size": "x"}\n', "is not a header"),
        (MAGIC + b'"\xff"\n', "is not a header"),
        (MAGIC + b'{"x": ' + b"[" * 60000 + b"\n", "is not a header"),
        (MAGIC + b"x" * 100_000, "is not a header"),
    ],
)
def test_another_beginning_is_an_error(data, message):
    with pytest.raises(TraceError, match=f"t, {message}" if message.startswith("byte") else message):
        read(data, 1000)


@pytest.mark.parametrize(
    ("record_", "message"),
    [
        (struct.pack("<dQB", 0.0, 1, 4), "'4' is not a kind"),
        (struct.pack("<dQB", float("nan"), 1, 1), "'nan' is not a time"),
        (struct.pack("<dQB", float("inf"), 1, 1), "'inf' is not a time"),
    ],
)
def test_a_damaged_record_is_an_error_with_its_place(record_, message):
    data = record(ACCESSES)
    with pytest.raises(TraceError, match=f"t, byte {len(data)}: {message}"):
        read(data + record_ + record_)


def test_times_too_large_to_add_up_are_times():
    accesses = [(1.7e308, 1, 0), (1.7e308, 2, 0)]
    assert read(record(accesses))[0] == accesses

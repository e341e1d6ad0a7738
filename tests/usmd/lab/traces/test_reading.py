import bz2
import contextlib
import gzip
import lzma
import os
import threading

import lz4.frame
import pytest
import zstandard
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.support.examples import examples
from usmd.errors import TraceError
from usmd.lab.traces.formats import FORMATS
from usmd.lab.traces.oracle_general import RECORD
from usmd.lab.traces.reading import open_trace
from usmd.lab.traces.recording import Recorder
from usmd.lab.traces.records import Header
from usmd.lab.traces.trace import BATCH_LIMIT

HEADER = Header(page_size=4096, process="app", started=1.0, frames=8, evict="clock")
WAYS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": bz2.compress,
    "lz4": lz4.frame.compress,
}
SAMPLES = {
    "csv": b"time,id\n1,2\n",
    "lackey": b"==1== Lackey\n==1==\n L 1ff0,8\n",
    "oracle_general": RECORD.pack(1, 2, 3, -1),
    "perf": b"app 12 1.5: 1 mem-loads: 7f00\n",
    "text": b"12\n",
}
FORMS_AND_WAYS = [("text", way) for way in WAYS] + [(form, "gzip") for form in ("csv", "oracle_general", "usm")]


def recording(path, ids):
    with Recorder(path.open("wb"), HEADER) as recorder:
        recorder.add_many((n / 8, key, n % 4) for n, key in enumerate(ids))
    return path.read_bytes()


def encoded(form, ids, path):
    if form == "text":
        return "".join(f"{key}\n" for key in ids).encode()
    if form == "csv":
        return ("id,ts\n" + "".join(f"{key},{n}\n" for n, key in enumerate(ids))).encode()
    if form == "oracle_general":
        return b"".join(RECORD.pack(n, key, 1, -1) for n, key in enumerate(ids))
    return recording(path, ids)


def ids_of(trace):
    batches = list(trace)
    assert all(0 < len(batch.keys) <= BATCH_LIMIT for batch in batches)
    return [key % 2**64 for batch in batches for key in batch.keys]


@pytest.mark.parametrize(("form", "way"), FORMS_AND_WAYS)
@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_ids_come_back_from_every_format_and_compression(form, way, ids, tmp_path):
    path = tmp_path / "trace.txt"
    path.write_bytes(WAYS[way](encoded(form, ids, tmp_path / "recording")))
    with open_trace(str(path)) as trace:
        assert ids_of(trace) == ids
        assert (trace.name, trace.format, trace.accesses) == ("trace.txt", form, len(ids))
        assert trace.position == trace.size == path.stat().st_size


@pytest.mark.parametrize(("form", "way"), FORMS_AND_WAYS)
def test_a_pipe_is_read_like_a_file(form, way, tmp_path, monkeypatch):
    ids = [n * n for n in range(30_000)]
    data = WAYS[way](encoded(form, ids, tmp_path / "recording"))
    reading, writing = os.pipe()

    def write():
        with open(writing, "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with open(reading, encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with open_trace("-") as trace:
            assert (trace.name, trace.size) == ("stdin", None)
            assert ids_of(trace) == ids
            assert trace.position == len(data)
        assert not stdin.closed
    writer.join()


@pytest.mark.parametrize("form", SAMPLES)
def test_the_format_is_found_or_may_be_given(form, tmp_path):
    path = tmp_path / "t"
    path.write_bytes(SAMPLES[form])
    for given_format in ("auto", form):
        with open_trace(str(path), given_format) as trace:
            assert trace.format == form
            assert len(ids_of(trace)) == 1
            assert not trace.truncated
            assert trace.header is None


def test_every_format_has_a_reader():
    assert set(FORMATS) == {*SAMPLES, "usm"}


def test_a_recording_tells_its_header_and_whether_it_was_cut(tmp_path):
    path = tmp_path / "t"
    path.write_bytes(recording(path, [1, 2, 3])[:-1])
    with open_trace(str(path)) as trace:
        assert trace.header == HEADER
        assert ids_of(trace) == [1, 2]
        assert trace.truncated


def test_lines_without_an_access_are_counted(tmp_path):
    path = tmp_path / "t"
    path.write_text("1.5: 7f0000\nlost 3\n")
    with open_trace(str(path), "perf") as trace:
        assert ids_of(trace) == [0x7F0]
        assert trace.skipped == 1


def test_page_size_and_columns_are_passed_on(tmp_path):
    path = tmp_path / "t"
    path.write_text("where,what\n1000,2\n")
    with open_trace(str(path), page_size=100, columns={"address": "where"}) as trace:
        assert ids_of(trace) == [10]


def test_progress_can_be_told_between_batches(tmp_path):
    path = tmp_path / "t"
    path.write_text("123456789\n" * 300_000)
    with open_trace(str(path)) as trace:
        seen = [(trace.accesses, trace.position) for _ in trace]
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert seen[0][1] < seen[-1][1] == trace.size


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (b"", {}, "t is empty"),
        (b"", {"format": "text"}, "t is empty"),
        (gzip.compress(b"", mtime=0), {}, "t is empty"),
        (b"# nothing\n", {"format": "text"}, "t has no access; give a trace with at least one"),
        (b"id,op\n", {}, "t has no access"),
        (b"one\ntwo\n", {"format": "perf"}, "t has no access in 2 lines; record addresses of data with perf record -d"),
        (b"hello\n", {}, "t is in no format known"),
        (b"12\n", {"format": "usm"}, "does not begin a recording"),
        (b"12\n", {"format": "oracle_general"}, "multiple of 24"),
        (RECORD.pack(1, 2, 3, -1) + b"\0", {}, "byte 24: .* multiple of 24"),
        (gzip.compress(b"12\n" * 99, mtime=0)[:-9], {}, "gzip stream ends early"),
        (WAYS["zstd"](b"12\n" * 99)[:-1], {}, "zstd stream ends early"),
        (b"12\n\xff\n", {"format": "text"}, "line 2: .* not UTF-8"),
        (b"12\n", {"format": "xml"}, "format 'xml' is unknown; allowed are auto, csv, lackey"),
        (b"12\n", {"page_size": 0}, "page size 0 is invalid"),
        (b"12\n", {"columns": {"id": "x"}}, "columns are named, but .*/t is read as text"),
        (b"id\n1\n", {"columns": {"ids": "x"}}, "cannot mean 'ids'"),
    ],
)
def test_what_cannot_be_read_is_an_error(data, arguments, message, tmp_path):
    path = tmp_path / "t"
    path.write_bytes(data)
    with pytest.raises(TraceError, match=message), open_trace(str(path), **arguments) as trace:
        list(trace)


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file"), (".", "Is a directory")])
def test_a_missing_file_and_a_folder_are_errors(tmp_path, name, reason):
    with pytest.raises(TraceError, match=reason):
        open_trace(str(tmp_path / name))


def test_a_trace_without_accesses_is_an_error_only_when_there_was_none(tmp_path):
    path = tmp_path / "t"
    path.write_text("1\n")
    with open_trace(str(path)) as trace:
        assert ids_of(trace) == [1]
        assert list(trace) == []


def test_reading_on_after_closing_is_an_error(tmp_path):
    path = tmp_path / "t"
    path.write_text("1\n")
    trace = open_trace(str(path))
    trace.close()
    trace.close()
    with pytest.raises(TraceError, match="is closed"):
        next(trace)


@examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(st.binary(max_size=200), st.text('0123,x \n"#.:r\r\0ILid', max_size=80).map(str.encode)),
    form=st.sampled_from(["auto", *FORMATS]),
    way=st.sampled_from(list(WAYS)),
)
def test_nothing_but_our_error_ever_comes_of_any_file(data, form, way, tmp_path):
    path = tmp_path / "t"
    path.write_bytes(WAYS[way](data))
    with contextlib.suppress(TraceError), open_trace(str(path), form) as trace:
        assert ids_of(trace)

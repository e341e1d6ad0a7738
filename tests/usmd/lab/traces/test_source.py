import errno
import gzip
import io
import os
import threading

import pytest

from usmd.errors import TraceError
from usmd.lab.traces.source import CHUNK, Source

DATA = bytes(range(1, 256)) * 5000


@pytest.fixture
def source(tmp_path):
    opened = []

    def make(data, name="trace"):
        path = tmp_path / name
        path.write_bytes(data)
        opened.append(Source(str(path)))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


class Input:
    """Standard input with `data` that comes in bits."""

    def __init__(self, reads):
        self.buffer = self
        self.reads = iter(reads)

    def fileno(self):
        raise io.UnsupportedOperation("fileno")

    def read1(self, size):
        item = next(self.reads, b"")
        if isinstance(item, Exception):
            raise item
        return item


def test_a_file_is_read_in_chunks_from_first_to_last(source):
    chunks = list(source(DATA).chunks())
    assert b"".join(chunks) == DATA
    assert all(0 < len(chunk) <= CHUNK for chunk in chunks)
    assert len(chunks) == -(-len(DATA) // CHUNK)


def test_what_was_peeked_comes_again(source):
    opened = source(DATA)
    assert opened.peek(10) == DATA[:10]
    assert opened.peek(CHUNK + 1) == DATA[: CHUNK + 1]
    assert opened.peek(3) == DATA[:3]
    assert b"".join(opened.chunks()) == DATA


def test_a_peek_beyond_the_end_yields_all_there_is(source):
    opened = source(b"abc")
    assert opened.peek(100) == b"abc"
    assert list(opened.chunks()) == [b"abc"]


def test_an_empty_file_has_no_chunks(source):
    opened = source(b"")
    assert opened.peek(1) == b""
    assert list(opened.chunks()) == []


def test_size_and_position_count_compressed_bytes(source):
    data = gzip.compress(os.urandom(3 * CHUNK))
    opened = source(data, "no_gz_in_its_name")
    assert opened.size == len(data)
    assert opened.position <= CHUNK
    positions = [opened.position for _ in opened.chunks()]
    assert positions == sorted(positions)
    assert positions[-1] == len(data)


def test_large_pieces_of_a_stream_are_cut(source):
    plain = bytes(5 * CHUNK + 1)
    assert {len(chunk) for chunk in source(gzip.compress(plain)).chunks()} <= {CHUNK, 1}


def test_the_name_is_without_the_folder(source, tmp_path):
    opened = source(b"1", "some.trace")
    assert (opened.name, opened.path) == ("some.trace", str(tmp_path / "some.trace"))


def test_a_named_pipe_has_no_size(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(DATA,))
    writer.start()
    opened = Source(str(path))
    try:
        assert opened.size is None
        assert b"".join(opened.chunks()) == DATA
    finally:
        opened.close()
        writer.join()
    assert opened.position == len(DATA)


def test_standard_input_may_come_in_bits(monkeypatch):
    data = gzip.compress(DATA)
    monkeypatch.setattr("sys.stdin", Input(data[n : n + 1] for n in range(len(data))))
    opened = Source("-")
    assert (opened.name, opened.path, opened.size) == ("stdin", "stdin", None)
    assert opened.peek(1) == DATA[:1]
    assert b"".join(opened.chunks()) == DATA


def test_standard_input_from_a_file_has_a_size_and_stays_open(monkeypatch, tmp_path):
    path = tmp_path / "trace"
    path.write_bytes(DATA)
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        opened = Source("-")
        assert opened.size == len(DATA)
        opened.close()
        assert not file.closed


def test_without_standard_input_there_is_an_error(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(TraceError, match="stdin cannot be opened"):
        Source("-")


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file"), ("", "Is a directory"), ("a\0b", "null")])
def test_what_cannot_be_opened_is_an_error(tmp_path, name, reason):
    with pytest.raises(TraceError, match=rf"(?s){tmp_path}.*cannot be .*{reason}.*readable file"):
        Source(f"{tmp_path}/{name}")


def test_a_failing_read_is_an_error(monkeypatch):
    monkeypatch.setattr("sys.stdin", Input([b"1234567890", OSError(errno.EIO, "Input/output error")]))
    opened = Source("-")
    with pytest.raises(TraceError, match=r"stdin cannot be read \(Input/output error\)"):
        list(opened.chunks())


def test_a_file_that_fails_at_once_is_closed(monkeypatch):
    closed = []
    monkeypatch.setattr(
        Source, "_open", lambda self, path: (Input([OSError("no")]).read1, lambda: closed.append(True), None)
    )
    with pytest.raises(TraceError):
        Source("x")
    assert closed


def test_a_pipe_that_does_not_block_is_refused(monkeypatch):
    monkeypatch.setattr("sys.stdin", Input([b"12345", None]))
    with pytest.raises(TraceError, match="does not wait"):
        list(Source("-").chunks())

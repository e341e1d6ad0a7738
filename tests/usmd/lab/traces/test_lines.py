import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.errors import TraceError
from usmd.lab.traces.context import Context
from usmd.lab.traces.lines import LINE_LIMIT, line_blocks, text_of


@given(st.lists(st.text("ab\n\r", max_size=8)))
def test_chunks_cut_anywhere_become_whole_numbered_lines(chunks):
    blocks = list(line_blocks([chunk.encode() for chunk in chunks], Context("t")))
    whole = "".join(chunks)
    expected = whole + "\n" if whole and not whole.endswith("\n") else whole
    assert b"".join(block for _, block in blocks).decode() == expected
    number = 1
    for first, block in blocks:
        assert first == number
        assert block.endswith(b"\n")
        number += block.count(b"\n")


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_byte_order_marks_are_dropped_where_lines_begin(size):
    data = b"\xef\xbb\xbf1\n\xef\xbb\xbf2\n3 \xef\xbb\xbf"
    chunks = [data[n : n + size] for n in range(0, len(data), size)]
    assert b"".join(block for _, block in line_blocks(chunks, Context("t"))) == b"1\n2\n3 \xef\xbb\xbf\n"


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_other_encodings_are_known_by_their_mark(size, encoding):
    text = "one\ntwo \N{SNOWMAN} \N{SLIGHTLY SMILING FACE}\n"
    data = f"\ufeff{text}".encode(encoding)
    chunks = [data[n : n + size] for n in range(0, len(data), size)]
    assert b"".join(block for _, block in line_blocks(chunks, Context("t"))).decode() == text
    with pytest.raises(TraceError, match=r"t begins as UTF-.*; give UTF-8 text"):
        list(line_blocks([data[:-1]], Context("t")))


def test_a_file_shorter_than_a_byte_order_mark_is_read():
    assert list(line_blocks([b"1"], Context("t"))) == [(1, b"1\n")]
    assert list(line_blocks([], Context("t"))) == []


def test_a_line_without_end_is_an_error():
    chunks = iter([b"1\n2"] + [b"x" * 1000] * (LINE_LIMIT // 500))
    with pytest.raises(TraceError, match=r"t, line 2: '2xxx.*without end"):
        list(line_blocks(chunks, Context("t")))
    assert next(chunks)


def test_what_is_not_utf_8_is_an_error_with_its_line():
    block = b"one\ntwo\nthr\xffee\n"
    with pytest.raises(TraceError, match=r"t, line 12: 'thr\\\\xffee\\n' is not UTF-8"):
        text_of(block, 10, Context("t"))

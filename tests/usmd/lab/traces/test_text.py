import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.errors import TraceError
from usmd.lab.traces.context import Context
from usmd.lab.traces.text import read_text


def read(text, size=1 << 16):
    data = text.encode()
    batches = list(read_text([data[n : n + size] for n in range(0, len(data), size)], Context("t")))
    assert all(batch.times is None for batch in batches)
    keys = [key for batch in batches for key in batch.keys]
    return keys, [write for batch in batches for write in batch.writes or bytes(len(batch.keys))]


@pytest.mark.parametrize(
    ("text", "keys", "writes"),
    [
        ("1\n2\n3\n", [1, 2, 3], [0, 0, 0]),
        ("1\r\n2\r\n3", [1, 2, 3], [0, 0, 0]),
        ("\n\n1\n\n2\n", [1, 2], [0, 0]),
        ("007\n  8 \n", [7, 8], [0, 0]),
        ("0x10\n0XfF\n3\n", [16, 255, 3], [0, 0, 0]),
        ("# page\n5\n#6\n", [5], [0]),
        ("1 r\n2 w\n3 w\n", [1, 2, 3], [0, 1, 1]),
        ("1 R\n2 W\n", [1, 2], [0, 1]),
        ("1 w\r\n2 r\r\n", [1, 2], [1, 0]),
        ("1 write\n2\tread\n3\n0x4 w\n", [1, 2, 3, 4], [1, 0, 0, 1]),
        ("-1\n", [-1], [0]),
        ("18446744073709551615\n9223372036854775808\n", [-1, -(2**63)], [0, 0]),
        ("18446744073709551615 w\n1 r\n", [-1, 1], [1, 0]),
        ("\n\n", [], []),
        ("# nothing", [], []),
    ],
)
def test_each_line_is_an_id_and_perhaps_a_kind(text, keys, writes):
    assert read(text) == (keys, writes)


@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.sampled_from(["", " r", " w", " W", "\tread", " write"]))),
    st.sampled_from(["{}", "0x{:x}", "0{}"]),
    st.integers(1, 50),
)
def test_lines_come_back_however_they_are_cut(accesses, form, size):
    text = "".join(f"{form.format(key)}{kind}\n" for key, kind in accesses if len(str(key)) < 20 or form != "0{}")
    accesses = [(key, kind) for key, kind in accesses if len(str(key)) < 20 or form != "0{}"]
    keys, writes = read(text, size)
    assert [key % 2**64 for key in keys] == [key for key, _ in accesses]
    assert writes == [int("w" in kind.lower()) for _, kind in accesses]


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.booleans())), st.integers(1, 60))
def test_the_short_ways_and_the_long_way_agree(accesses, size):
    plain = "".join(f"{key} {'rw'[write]}\n" for key, write in accesses)
    assert read(plain, size) == read("# the long way\n" + plain) == read(plain.replace("\n", "  \n"))
    ids = "".join(f"{key}\n" for key, _ in accesses)
    assert read(ids, size) == read("# the long way\n" + ids)


@pytest.mark.parametrize(
    ("text", "line", "value"),
    [
        ("1\n2\nx\n", 3, "x"),
        ("1\n1.5\n", 2, "1.5"),
        ("1\n1_000\n", 2, "1_000"),
        ("1,2\n", 1, "1,2"),
        ("1,2 r\n", 1, "1,2"),
        ("7f00\n", 1, "7f00"),
        ("1\n18446744073709551616\n", 2, "18446744073709551616"),
        ("1 r\n18446744073709551616 r\n", 2, "18446744073709551616"),
        ("1\r2\n", 1, "2"),
        ("1 2\n", 1, "2"),
        ("1 x\n", 1, "x"),
        ("1 r\n2 r w\n", 2, "r w"),
        ("r 1\n", 1, "r"),
        (" r\n", 1, "r"),
        ("1r\n", 1, "1r"),
        ("[1]\n", 1, "[1]"),
    ],
)
def test_any_other_line_is_an_error_that_names_it(text, line, value):
    with pytest.raises(TraceError) as caught:
        read(text)
    assert str(caught.value).startswith(f"t, line {line}: {value!r} is not a ")
    assert "allowed is" in str(caught.value)


def test_lines_are_numbered_across_chunks():
    with pytest.raises(TraceError, match="t, line 5001: 'x'"):
        read("1\n" * 5000 + "x\n", 77)


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(TraceError) as caught:
        read("y" * 1000)
    assert len(str(caught.value)) < 200


def test_text_that_is_not_utf_8_is_an_error():
    with pytest.raises(TraceError, match=r"line 2: .* is not UTF-8"):
        list(read_text([b"1\n\xff\n"], Context("t")))

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.text_output import ESCAPES, complain, encoding_of, printable, to_json, use_escapes

ENCODINGS = ["ascii", "latin-1", "iso8859-15", "cp1252", "koi8-r", "euc-jp", "utf-8", "utf-16"]
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT, st.sampled_from(ENCODINGS))
def test_no_text_from_elsewhere_can_steer_a_terminal_or_fail_to_be_written(text, encoding):
    shown = printable(text, encoding)
    assert shown.isprintable()
    shown.encode(encoding)


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("café [x] a+b", "utf-8", "café [x] a+b"),
        ("café", "ascii", "caf\\xe9"),
        ("café €", "latin-1", "café \\u20ac"),
        ("café €", "iso8859-15", "café €"),
        ("a\x1b[2Jb\nc\x9b1m\x7f", "utf-8", "a\\x1b[2Jb\\nc\\x9b1m\\x7f"),
        ("tr\udcff", "utf-8", "tr\\xff"),
        ("\ud800", "utf-8", "\\ud800"),
        ("a\u202eb", "utf-8", "a\\u202eb"),
        ("日本語 שלםאב", "utf-8", "日本語 שלםאב"),
        ("日本", "euc-jp", "日本"),
        ("\U0001f600", "ascii", "\\U0001f600"),
    ],
)
def test_what_is_shown_of_a_name(text, encoding, shown):
    assert printable(text, encoding) == shown


def test_a_name_is_shown_as_standard_output_can(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert printable("é") == "\\xe9"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert printable("é") == "é"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)  # fmt: skip


@given(PLAIN, st.sampled_from(ENCODINGS), st.sampled_from([0, 2]))
def test_json_is_valid_in_every_encoding_and_says_the_same(document, encoding, indent):
    text = to_json(document, encoding, indent=indent)
    assert json.loads(text.encode(encoding).decode(encoding)) == document
    assert text.replace("\n", "").isprintable()


@given(ANY_TEXT, st.sampled_from(ENCODINGS))
def test_json_takes_text_that_no_encoding_can_hold(text, encoding):
    written = to_json({"name": text, "list": (text,)}, encoding)
    assert written.isprintable()
    found = json.loads(written.encode(encoding).decode(encoding))
    found["name"].encode()  # no half of a pair is left
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert found == {"name": text, "list": [text]}


def test_a_byte_of_a_name_that_is_no_text_is_told_in_json():
    assert json.loads(to_json({"file": "tr\udcff.txt"})) == {"file": "tr\\xff.txt"}


@pytest.mark.parametrize(
    ("encoding", "text", "written"),
    [
        ("ascii", "N[,N…] 5 µs · é \udcff", b"N[,N...] 5 us . \\xe9 \\xff"),
        ("latin-1", "N[,N…] 5 µs · é", b"N[,N...] 5 \xb5s \xb7 \xe9"),
        ("utf-8", "… \udcff", "… \\xff".encode()),
    ],
)
def test_a_stream_writes_what_its_encoding_lacks_in_ascii(encoding, text, written):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    use_escapes(stream, None, io.StringIO())
    stream.write(text)
    stream.flush()
    assert raw.getvalue() == written


def test_only_what_cannot_be_encoded_is_escaped():
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", ESCAPES)


def test_a_complaint_is_one_line_on_standard_error(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="ascii"))
    complain("usmctl", "no process é\n\x1b[31m")
    assert raw.getvalue() == b"usmctl: no process \\xe9\\n\\x1b[31m\n"


def test_a_complaint_that_cannot_be_written_is_no_second_error(monkeypatch):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(28, "No space left on device")

    full = Full()
    monkeypatch.setattr(sys, "stderr", full)
    complain("usmctl", "x")
    assert full.getvalue() == "usmctl: x\n"


def test_a_stream_without_an_encoding_is_utf_8():
    assert encoding_of(io.StringIO()) == "utf-8"
    assert encoding_of(None) == "utf-8"

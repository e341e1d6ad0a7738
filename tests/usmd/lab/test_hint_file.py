"""Hints in a file: which pages, when, and what is wrong with a line."""

import pytest

from usmd.core.hints import Priority
from usmd.errors import TraceError
from usmd.lab.hint_file import read_hints
from usmd.lab.loading import number
from usmd.lab.traces.keys import hashed

NUMBERING = number(set(range(100, 200)))


def hints_of(tmp_path, text, numbering=NUMBERING):
    path = tmp_path / "hints"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_hints(str(path), numbering)


@pytest.mark.parametrize(
    ("pages", "ids"),
    [
        ("0XA", [10]),
        ("0xA-0XFF", [10, 255]),
        ("007", [7]),
        ("007-0010", [7, 10]),
        ("-7", [-7]),
        ("-7-8", [-7, -3, -1, 7]),
        ("-7--3", [-7, -3]),
        ("18446744073709551615", [-1]),
        ("0xffffffffffffffff", [-1]),
        ("18446744073709551609-18446744073709551615", [-7, -3, -1]),
        ("user:1", [hashed("user:1")]),
        ('"two words"', [hashed("two words")]),
        ("a-b", [hashed("a-b")]),
    ],
)
def test_ids_are_written_as_in_the_trace(tmp_path, pages, ids):
    known = [7, 10, 255, 1 << 62, -1, -3, -7, hashed("user:1"), hashed("two words"), hashed("a-b")]
    numbering = number(set(known))
    found = hints_of(tmp_path, f"{pages} PRIORITY=HIGH\n", numbering)
    covered = {numbering.identity(page) for hint in found for page in range(hint.first, hint.end)} & set(known)
    assert covered == set(ids)


def test_a_range_may_lie_on_both_sides_of_2_to_the_63(tmp_path):
    known = [5, (1 << 63) - 1, -(1 << 63), -1]
    numbering = number(set(known))
    found = hints_of(tmp_path, "6-0x8000000000000000 PRIORITY=HIGH\n", numbering)
    covered = {numbering.identity(page) for hint in found for page in range(hint.first, hint.end)} & set(known)
    assert covered == {(1 << 63) - 1, -(1 << 63)}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_files_of_other_systems_are_read(tmp_path, encoding, end):
    text = f"* PRIORITY=LOW{end}100-102 PRIORITY=HIGH{end}"
    assert [hint.hint.priority for hint in hints_of(tmp_path, text.encode(encoding))] == [Priority.LOW, Priority.HIGH]


def test_hints_come_in_order_of_their_times_on_the_pages_they_name(tmp_path):
    later, first, all_pages = sorted(
        hints_of(tmp_path, "# hot\n@2.5 150-0x9f PRIORITY=HIGH; TTL=3\n\n100 EVICTION=DENY\n* -\n"),
        key=lambda each: -each.time,
    )
    assert (later.time, later.end - later.first, later.hint.priority) == (2.5, 10, Priority.HIGH)
    assert (first.first, first.end) == (NUMBERING.page_from(100), NUMBERING.page_from(101))
    assert first.hint.deny
    assert (all_pages.first, all_pages.end, all_pages.hint) == (0, NUMBERING.pages, None)


def test_pages_that_the_trace_never_touches_are_left_out(tmp_path):
    assert hints_of(tmp_path, "5000-6000 PRIORITY=LOW\n") == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("PRIORITY=LOW", "is not a hint"),
        ("1-9 PRIORITY=URGENT", "PRIORITY=LOW|NORMAL|HIGH"),
        ("9-1 PRIORITY=LOW", "not below its start"),
        ("0xzz PRIORITY=LOW", "'0xzz' is not an id of the trace"),
        ("1x PRIORITY=LOW", "decimal or 0x"),
        ("1_0 PRIORITY=LOW", "'1_0' is not an id of the trace"),
        ("user:9 PRIORITY=LOW", "'user:9' is not an id of the trace"),
        ("PRIORITY=LOW; TTL=5", "is not an id of the trace"),
        ("0-99999999999999999999 PRIORITY=LOW", "no 64 bits"),
        ("99999999999999999999 PRIORITY=LOW", "is not an id of the trace"),
        ("-3--7 PRIORITY=LOW", "not below its start"),
        ("1 PRIORTY=LOW", "did you mean PRIORITY"),
        ("@soon 1 PRIORITY=LOW", "seconds"),
        ("@-1 1 PRIORITY=LOW", "seconds from 0"),
        ("@nan 1 PRIORITY=LOW", "seconds from 0"),
    ],
)
def test_a_line_that_is_no_hint_is_an_error_that_names_it(tmp_path, line, told):
    with pytest.raises(TraceError, match="line 2") as raised:
        hints_of(tmp_path, f"# first\n{line}\n")
    assert told in str(raised.value)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(TraceError, match="cannot be read"):
        read_hints(str(tmp_path / "none"), NUMBERING)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="cannot be read"):
        read_hints(str(tmp_path / "binary"), NUMBERING)

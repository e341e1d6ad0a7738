"""Hints in a file: which pages, when, and what is wrong with a line."""

import pytest

from usmd.core.hints import Priority
from usmd.errors import TraceError
from usmd.lab.hint_file import read_hints
from usmd.lab.loading import number

NUMBERING = number(set(range(100, 200)))


def hints_of(tmp_path, text):
    path = tmp_path / "hints"
    path.write_text(text)
    return read_hints(str(path), NUMBERING)


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
        ("PRIORITY=LOW", "is no hint"),
        ("1-9 PRIORITY=URGENT", "PRIORITY=LOW|NORMAL|HIGH"),
        ("9-1 PRIORITY=LOW", "not below its start"),
        ("0xzz PRIORITY=LOW", "is no hint"),
        ("1x PRIORITY=LOW", "decimal or 0x"),
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

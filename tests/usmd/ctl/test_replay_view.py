"""What a replay looks like: notes on what went wrong, and names that could upset a terminal."""

import io
from array import array

import msgspec
import pytest
from rich.console import Console

from usmd.ctl.replay_view import as_document, label, show
from usmd.lab.loading import gather
from usmd.lab.replay import Replay, Setup
from usmd.lab.traces.trace import cut


@pytest.fixture
def trace():
    return gather(cut(array("q", [1, 2, 3, 1])), "tr\x1b[2Jace", lambda: "made")


def row_of(trace, evict="lru", **changes):
    replay = Replay(trace, Setup(2, evict))
    list(replay.run())
    return msgspec.structs.replace(replay.row(), **changes)


def shown(trace, rows, *, curve=False, width=200):
    file = io.StringIO()
    show(Console(file=file, width=width), trace, rows, 4096, curve=curve)
    return file.getvalue()


def test_a_name_from_elsewhere_does_not_steer_the_terminal(trace):
    assert "\x1b" not in shown(trace, [row_of(trace)])
    assert "tr\\x1b[2Jace" in shown(trace, [row_of(trace)])


def test_what_went_wrong_is_told_below_the_table(trace):
    rows = [
        row_of(trace, policy_errors=3, policy_error="evict policy lru: it raised"),
        row_of(trace, refused=2),
        row_of(trace, complete=False, accesses=3),
    ]
    text = shown(trace, rows)
    assert "lru, first_fit: 3 answers of the policy were not used; the first: evict policy lru: it raised" in text
    assert "2 misses found nothing that may be evicted" in text
    assert "the first 3 accesses" in text


def test_a_curve_has_a_gap_where_a_replay_is_missing(trace):
    text = shown(trace, [row_of(trace), row_of(trace, frames=3), row_of(trace, evict="fifo")], curve=True)
    lines = [line.split() for line in text.splitlines()[1:]]
    assert lines[0] == ["FRAMES", "OF", "PAGES", "fifo", "lru"]
    assert lines[2][2] == "-"


def test_labels_name_the_alloc_policy_only_where_there_are_several(trace):
    row = row_of(trace)
    assert label(row, [row]) == "lru"
    assert label(row, [row, row_of(trace, alloc="prealloc")]) == "lru, first_fit"


def test_the_document_says_whether_it_is_complete(trace):
    document = as_document(trace, [row_of(trace)], 4096, complete=False)
    assert (document["complete"], document["accesses"], document["trace_format"]) == (False, 4, "made")
    assert document["rows"][0].frames == 2


@pytest.mark.parametrize("width", range(40, 141, 4))
def test_no_number_is_cut_at_any_width(trace, width):
    row = row_of(trace, evict="hint_aware(fallback=lru)", hits=1_234_567, misses=7_654_321, accesses_per_s=987_654.0)
    text = "".join(shown(trace, [row], width=width).split())
    assert ("hint_aware(fallback=lru)" in text) == (width >= 56)
    assert all(each in text for each in ("7,654,321", f"{row.miss_ratio:.4f}"))
    assert ("1,234,567" in text) == (width >= 68)
    assert ("987,654" in text) == (width >= 112)
    curve = "".join(shown(trace, [row], width=width, curve=True).split())
    assert "hint_aware(fallback=lru)" in curve

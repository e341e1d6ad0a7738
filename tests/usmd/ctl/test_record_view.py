import pytest

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.record_view import Summary, as_document, lines, progress


@pytest.fixture
def summary():
    header = pb.RecordingHeader(
        process_id=3, process_name="app", page_size=4096, frames=240, evict_policy="arc", mechanism="simulated"
    )
    found = Summary(header)
    found.count([1, 2, 1, 1], b"\2\3\0\1")
    return found


def test_what_was_recorded_and_what_is_next(summary):
    first, second, last = lines(summary, "my file.usm")
    assert first.startswith("4 accesses of app in 0.0 s to my file.usm (68 B)")
    assert second == "2 pages (8 KiB); 50.0% writes; 2 faults (50.0%), with arc"
    assert last == "next: usmctl replay 'my file.usm' --frames 10%,50% --evict lru,arc,s3_fifo"
    summary.header.frames = 1  # fewer than there are pages, so that the live process had to evict
    assert "--frames 1,10% " in lines(summary, "my file.usm")[-1]


def test_what_is_missing_is_said(summary):
    summary.dropped = 1200
    summary.ended = "killed"
    summary.header.faults_only = True
    summary.header.mechanism = "userfaultfd"
    text = "\n".join(lines(summary, "-"))
    assert "to standard output" in text
    assert "the process ended: killed" in text
    assert "1,200 accesses were lost" in text
    assert "real memory (userfaultfd): these are page faults, first writes to clean pages, and no other" in text
    summary.header.sampling = "pageout"
    assert "and a sample of the other touches of pages in memory (pageout)" in "\n".join(lines(summary, "-"))
    assert "next:" not in text


def test_nothing_recorded_is_no_reason_to_fail():
    assert lines(Summary(pb.RecordingHeader(process_name="a")), "f")[0].startswith("0 accesses of a")


def test_the_line_meanwhile_has_the_rate_and_the_loss(summary):
    assert progress(summary).startswith("recording app: 4 accesses in 0 s, ")
    summary.dropped = 7
    assert "7 lost" in progress(summary)


def test_programs_get_the_same(summary):
    document = as_document(summary, "f")
    counted = {key: document[key] for key in ("file", "accesses", "faults", "writes", "distinct_pages", "frames")}
    assert counted == {"file": "f", "accesses": 4, "faults": 2, "writes": 2, "distinct_pages": 2, "frames": 240}

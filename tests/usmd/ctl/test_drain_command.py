import json

import pytest

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.drain_command import parse_seconds
from usmd.errors import InvalidArgument

LOSSES = [
    pb.MemoryLoss(process_id=1, name="indexer", pid=211, bytes=6 << 20),
    pb.MemoryLoss(process_id=2, name="ca\x1bche", bytes=4096),
]
TABLE = [["PROCESS", "NAME", "PID", "MEMORY", "LOST"], ["1", "indexer", "211", "6", "MiB"],
         ["2", "ca\\x1bche", "-", "4", "KiB"]]  # fmt: skip


def words(text):
    return [line.split() for line in text.splitlines()]


def test_it_says_first_who_loses_memory_asks_and_takes_no_for_an_answer(daemon, start):
    daemon.admin.losses = LOSSES
    process = start("drain", "--notice", "30s", "--format", "json", stdin=True, stdout=True)
    out, err = process.communicate("n\n", timeout=90)
    assert process.returncode == 1
    assert out == ""
    *table, question = err.splitlines()
    assert words("\n".join(table)) == TABLE
    assert "This ends 2 sessions in 30 s. [y/N]" in question
    assert daemon.admin.drained is None


def test_with_nobody_to_ask_it_does_nothing(daemon, start):
    process = start("drain")
    _, err = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "nothing was done; --yes does not ask" in err
    assert daemon.admin.drained is None


def test_it_goes_ahead_when_told_so(daemon, start):
    out, _ = start("drain", "--format", "json", stdin=True, stdout=True).communicate("y\n", timeout=90)
    assert json.loads(out) == {"sessions": 2, "seconds_left": 0.0, "losses": []}
    daemon.admin.drained = None
    assert daemon.ctl("drain", "--yes", "--grace", "2.5") == (0, "2 sessions ended\n", "")
    assert (daemon.admin.drained.grace_seconds, daemon.admin.drained.notice_seconds) == (2.5, 0.0)


def test_a_notice_is_given_and_shown_with_the_losses_in_both_formats(daemon):
    daemon.admin.losses = LOSSES[:1]
    code, text, err = daemon.ctl("drain", "--yes", "--notice", "1.5m")
    assert (code, err) == (0, "")
    assert text.splitlines()[0] == "usmd takes no new session, and ends 2 sessions in 90 s"
    assert words(text)[1:] == TABLE[:2]
    assert daemon.admin.drained.notice_seconds == 90.0
    assert json.loads(daemon.ctl("drain", "--yes", "--notice", "90", "--format", "json")[1]) == {
        "sessions": 2,
        "seconds_left": 90.0,
        "losses": [{"process_id": 1, "name": "indexer", "pid": 211, "bytes": 6 << 20}],
    }


def test_a_dry_run_asks_and_changes_nothing(daemon):
    assert daemon.ctl("drain", "--dry-run") == (0, "2 sessions would end\n", "")
    assert daemon.ctl("drain", "--dry-run", "--notice", "5") == (0, "2 sessions would end in 5 s\n", "")
    assert daemon.admin.drained is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("30", 30), ("30s", 30), (" 0.5 s ", 0.5), ("5m", 300), ("24h", 86400)]
)
def test_a_time_is_read(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "soon", "1d", "nan", "25h", "1e3", "30 30", "s"])
def test_a_time_that_cannot_be_read_is_named_with_what_is_allowed(daemon, text):
    with pytest.raises(InvalidArgument, match=r"allowed are 0 to 86400 seconds, for example 30s, 5m or 1h"):
        parse_seconds(text)


def test_a_bad_time_is_bad_usage(daemon):
    code, out, err = daemon.ctl("drain", "--yes", "--notice", "soon")
    assert (code, out) == (2, "")
    assert "--notice 'soon'" in err
    assert daemon.admin.drained is None

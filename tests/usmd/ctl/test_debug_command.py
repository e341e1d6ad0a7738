"""usmctl debug validate and replay-events: what they say, and their exit codes."""

import json

import pytest

from tests.support.recorded_core import RecordedCore
from usmd.core import events
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.ctl.cli import main
from usmd.lab.event_records import Record, end_line, read_record, record_line

WELL = "all holds: 1,024 frames, 3 regions and 4,096 swap slots in 0.012 s\n"


def test_where_all_holds_it_says_what_was_checked_and_exits_with_0(daemon):
    assert daemon.ctl("debug", "validate") == (0, WELL, "")


def test_what_does_not_hold_is_told_line_by_line_and_the_exit_code_is_1(daemon):
    daemon.admin.validation.violations.extend(["frame 3 is [bold]both", "slot 7 has 2 users"])
    daemon.admin.validation.violation_count = 2
    daemon.admin.validation.regions = 1
    code, out, err = daemon.ctl("debug", "validate")
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "frame 3 is [bold]both",
        "slot 7 has 2 users",
        "2 do not hold: 1,024 frames, 1 region and 4,096 swap slots in 0.012 s",
    ]


def test_what_is_not_told_of_is_counted(daemon):
    daemon.admin.validation.violations.append("frame 3")
    daemon.admin.validation.violation_count = 1300
    _, out, _ = daemon.ctl("debug", "validate")
    assert out.splitlines()[-1].startswith("1,300 do not hold, of which 1,299 are not shown: 1,024 frames")


def test_programs_get_all_of_it_and_the_same_exit_code(daemon):
    daemon.admin.validation.violations.append("frame 3")
    daemon.admin.validation.violation_count = 1
    code, out, _ = daemon.ctl("debug", "validate", "--format", "json")
    assert code == 1
    assert json.loads(out)["violations"] == ["frame 3"]


@pytest.fixture
def lines():
    """An event log, line by line."""
    settings = CoreSettings(frames=8, page_size=4096, deny_budget=4, deny_budget_total=4)
    core = RecordedCore(settings, [DeviceInfo("swap0", 8)])
    core.handle(events.Attach("app", "first_fit", "lru", "refuse"), 5.0)
    core.handle(events.Map(1, 4096, ""), 7.5)
    return core.lines()


@pytest.fixture
def replay(tmp_path, capsys):
    """Replays a log; exit code, standard output and standard error."""
    path = tmp_path / "events.jsonl"

    def run(lines, *flags):
        if lines is not None:
            path.write_bytes(b"".join(lines))
        code = main(["debug", "replay-events", str(path), *flags])
        return code, *capsys.readouterr()

    return run


def test_a_log_that_comes_out_the_same_is_told_with_its_size(replay, lines):
    code, out, err = replay(lines)
    assert (code, err) == (0, "")
    assert out == "same commands and state: 2 events of 2.5 s by usmd 0.1.0, state compared 0 times\n"


def test_the_first_difference_is_told_and_the_exit_code_is_1(replay, lines):
    record = read_record(lines[1])
    lines[1] = record_line(Record(record.now, record.event, 0, record.readings))
    code, out, err = replay(lines)
    assert (code, err) == (1, "")
    first, second = out.splitlines()
    assert first.startswith("differs at event 1, 0.000 s after the first: Attach(name='app'")
    assert second.startswith("its commands differ; the replay has ")


def test_a_log_that_ended_early_says_why(replay, lines):
    code, out, _ = replay([*lines, end_line("it is full")])
    assert code == 0
    assert out.splitlines()[1] == "the log goes no further: it is full"


def test_events_without_digests_are_not_said_to_be_the_same(replay, lines):
    bare = [record_line(Record(each.now, each.event)) for each in map(read_record, lines[1:])]
    code, out, _ = replay([lines[0], *bare])
    assert code == 0
    assert out.startswith("replayed, not compared, because the log has no digests: 2 events")


def test_programs_get_the_whole_result_of_a_replay(replay, lines):
    code, out, _ = replay(lines, "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert (found["same"], found["events"], found["difference"], found["violations"]) == (True, 2, None, [])


@pytest.mark.parametrize("content", [None, [b"precious\n"]])
def test_what_is_no_event_log_is_refused_by_name(replay, content):
    code, out, err = replay(content)
    assert (code, out) == (1, "")
    assert "events.jsonl" in err

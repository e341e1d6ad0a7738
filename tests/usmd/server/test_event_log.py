"""The event log of a daemon: what is in the file, when it ends, and that it never holds the loop up."""

import os
import stat
import threading

import pytest

from tests.support.waiting import wait_until
from usmd.core import events
from usmd.core.machine import Core
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.errors import ConfigError, NotFound
from usmd.lab import event_records
from usmd.lab.event_records import MARK, End, read_header, read_record
from usmd.lab.event_replay import Replay
from usmd.policies import registry
from usmd.server import event_log
from usmd.server.event_log import BEFORE, CHUNK, LAST_EVENTS, EventLog, write_last_events

SETTINGS = CoreSettings(frames=8, page_size=16, deny_budget=4, deny_budget_total=4)
DEVICES = [DeviceInfo("swap0", 8)]
EVENTS_A_CHUNK = CHUNK // 20


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def begin(path, limit=1 << 20):
    """A log, and a core whose events go there."""
    made = EventLog(path, limit)
    made.begin(SETTINGS, DEVICES)
    return made, Core(SETTINGS, DEVICES, registry.make, made.clock(float), cpu_clock=made.clock(float))


def lines(path):
    return path.read_bytes().splitlines(keepends=True)


def test_every_event_is_in_the_file_once_the_log_is_closed(path, logged):
    made, core = begin(path)
    made.handle(core, events.Attach("app", "first_fit", "fifo", "refuse"), 1.0)
    with pytest.raises(NotFound):
        made.handle(core, events.Unmap(1, 7), 2.0)
    made.close()
    made.close()
    found = Replay(lines(path)).run()
    assert (found.events, found.same, found.ended) == (2, True, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert logged == []


def test_what_is_flushed_is_written_while_the_log_goes_on(path):
    made, core = begin(path)
    made.handle(core, events.Tick(), 1.0)
    made.flush()
    wait_until(lambda: len(lines(path)) == 2, "the event is in the file")
    made.close()


def test_a_log_that_has_its_size_ends_and_says_so(path, logged):
    made, core = begin(path, limit=2 * CHUNK)
    for number in range(3 * EVENTS_A_CHUNK):
        made.handle(core, events.Tick(), float(number))
    made.handle(core, events.Tick(), 1e9)
    made.flush()
    made.close()
    assert path.stat().st_size < 2 * CHUNK + 256
    last = read_record(lines(path)[-1])
    assert isinstance(last, End)
    assert "server.trace_events_size" in last.stopped
    (told,) = logged
    assert (told["event"], told["why"], told["log_level"]) == ("event_log_ended", last.stopped, "warning")
    found = Replay(lines(path)).run()
    assert (found.same, found.ended) == (True, last.stopped)
    assert 0 < found.events <= told["events"]


def test_a_disk_that_is_slower_than_the_events_ends_the_log_and_holds_nothing_up(path, logged, monkeypatch):
    goes_on = threading.Event()
    write = os.write

    def slow(descriptor, data):
        goes_on.wait(60)
        return write(descriptor, data)

    monkeypatch.setattr(event_log.os, "write", slow)
    monkeypatch.setattr(event_log, "MAX_CHUNKS", 8)
    made, core = begin(path, limit=1 << 40)
    now = 0.0
    while not logged and now < 2 * 8 * EVENTS_A_CHUNK:
        made.handle(core, events.Tick(), now)
        now += 1.0
    assert logged[0]["why"] == "the disk is slower than the events"
    made.handle(core, events.Tick(), now)
    goes_on.set()
    made.close()
    found = Replay(lines(path)).run()
    assert found.same
    assert 0 < found.events < now


def test_a_disk_that_is_full_ends_the_log(path, logged, monkeypatch):
    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    made, core = begin(path)
    monkeypatch.setattr(event_log.os, "write", full)

    def ended():
        made.handle(core, events.Tick(), 1.0)
        made.flush()
        return bool(logged)

    wait_until(ended, "the log has ended")
    made.close()
    assert [line["why"] for line in logged] == ["it cannot be written: No space left on device"]


def test_an_event_that_cannot_be_written_ends_the_log_and_is_handled(path, logged, monkeypatch):
    made, core = begin(path)
    monkeypatch.setattr(event_records, "_encoder", None)
    attached, *_ = made.handle(core, events.Attach("app", "first_fit", "fifo", "refuse"), 1.0)
    made.close()
    assert attached.process_id == 1
    assert logged[0]["why"].startswith("an event cannot be written: ")


def test_an_older_log_is_kept_beside_the_new_one(path):
    for number in (1.0, 2.0):
        made, core = begin(path)
        made.handle(core, events.Tick(), number)
        made.close()
    older = path.with_name(path.name + BEFORE)
    assert [read_record(lines(each)[1]).now for each in (older, path)] == [1.0, 2.0]


def test_a_file_that_is_no_event_log_is_left_alone(path):
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is not an event log"):
        EventLog(path, 1 << 20)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("kind", ["link", "folder", "missing"])
def test_a_place_where_no_file_can_be_made_is_refused(path, kind, tmp_path):
    (tmp_path / "log").write_bytes(MARK)
    place = path
    if kind == "link":
        path.symlink_to(tmp_path / "log")
    elif kind == "folder":
        path.mkdir()
    else:
        place = tmp_path / "none" / "events.jsonl"
    with pytest.raises(ConfigError, match=r"server\.trace_events"):
        EventLog(place, 1 << 20)
    assert (tmp_path / "log").read_bytes() == MARK


def test_the_last_events_are_written_for_reading_and_take_the_place_of_older_ones(tmp_path):
    attach, tick = events.Attach("app", "first_fit", "fifo", "refuse"), events.Tick([])
    write_last_events(tmp_path, SETTINGS, DEVICES, [(1.0, attach)], complete=True)
    written = write_last_events(tmp_path, SETTINGS, DEVICES, [(1.0, attach), (2.0, tick)], complete=True)
    assert [each.name for each in tmp_path.iterdir()] == [LAST_EVENTS]
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert [(each.now, each.event) for each in map(read_record, lines(written)[1:])] == [(1.0, attach), (2.0, tick)]
    assert Replay(lines(written)).run().same
    written = write_last_events(tmp_path, SETTINGS, DEVICES, [(2.0, tick)], complete=False)
    assert not read_header(lines(written)[0]).complete


def test_last_events_that_cannot_be_written_leave_nothing_behind(tmp_path):
    with pytest.raises(NotImplementedError):
        write_last_events(tmp_path, SETTINGS, DEVICES, [(1.0, events.Punched(object()))], complete=True)
    assert list(tmp_path.iterdir()) == []

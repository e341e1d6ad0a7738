"""The replay of an event log: any sequence of events makes the same state again, and the first difference is named."""

import msgspec
import pytest

from tests.support.examples import steps
from tests.support.policy_files import write_policies
from tests.support.real_core_machine import RealMachine
from tests.support.recorded_core import RecordedCore
from tests.support.shell import PAGE
from usmd.core import events
from usmd.core.hints import parse_hint
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.errors import EventLogError, SwapIOError
from usmd.lab.event_records import STATE_EVERY, Record, end_line, header_line, read_record, record_line
from usmd.lab.event_replay import KILLED, Replay

SETTINGS = CoreSettings(frames=8, page_size=PAGE, low=1, high=2, deny_budget=4, deny_budget_total=4, hold_budget=2)
DEVICES = [DeviceInfo("fast", 8), DeviceInfo("slow", 64)]


def everything(core):
    """All of a state that a replay must make again."""
    frames, state = core.state.frames, core.state
    return (
        bytes(frames.state), bytes(frames.flags), list(frames.page), list(frames.slot), frames.free,
        [(each.region_id, list(each.table.entries())) for each in state.regions.values()],
        [(each.process_id, each.policies.specifications, each.resident) for each in state.processes.values()],
        [(bytes(each.used), list(each.generation)) for each in state.swap.devices],
        state.totals().as_dict(), list(state.holds.items()), state.now,
    )  # fmt: skip


class RecordedMachine(RealMachine):
    """Whatever events the core's own property tests make."""

    def make_shell(self, core):
        infos = [DeviceInfo(each.name, each.slots) for each in core.state.swap.devices]
        return super().make_shell(RecordedCore(core.state.settings, infos))

    def end(self):
        """Also replays it, with the same number of pages an event."""
        super().end()
        core = self.shell.core
        replay = Replay(core.lines())
        found = replay.run()
        assert found.same
        assert found.events == found.compared == core.recorder.handled
        assert everything(replay.core) == everything(core)


RecordedMachine.TestCase.settings = steps(8, 40)


class TestReplay(RecordedMachine.TestCase):
    """Run by pytest."""


def recorded(*, step=0.001):
    """A core in whose log are an eviction, a refusal, a failed write and some time."""
    core = RecordedCore(SETTINGS, DEVICES, step=step)
    core.handle(events.Attach("app", "first_fit", "lru", "refuse"), 10.0)
    core.handle(events.Map(1, 16 * PAGE, ""), 10.5)
    with pytest.raises(Exception, match="no region 9"):
        core.handle(events.Unmap(1, 9), 11.0)
    for page in range(8):
        core.handle(events.Faults(1, [events.FaultRequest(page, 1, page, 1, True)]), 12.0 + page)
        core.handle(events.Access(1, 1, page, 1, True), 12.5 + page)
    core.handle(events.SetHint(1, 1, 0, 2 * PAGE, parse_hint("DONTNEED")), 30.0)
    return core


def test_a_log_that_is_replayed_comes_out_the_same():
    replay = Replay(recorded().lines())
    found = replay.run()
    assert found.same
    assert (found.events, found.compared, found.seconds, found.ended) == (20, 20, 20.0, "")
    assert msgspec.to_builtins(found)["difference"] is None


def test_slow_calls_of_policies_are_slow_in_the_replay_too():
    core = recorded(step=1.0)
    assert core.state.totals().policy_slow_calls > 0
    replay = Replay(core.lines())
    assert replay.run().same
    assert replay.core.state.totals().policy_slow_calls == core.state.totals().policy_slow_calls


def test_the_first_event_that_comes_out_otherwise_is_named():
    lines = recorded().lines()
    record = read_record(lines[7])
    lines[7] = record_line(Record(record.now, record.event, record.digest + 1, record.readings))
    found = Replay(lines).run()
    assert not found.same
    assert (found.difference.number, found.difference.seconds, found.events) == (7, record.now - 10.0, 7)
    assert found.difference.event == repr(record.event)
    assert found.difference.what.startswith("its commands differ; the replay has ")


def test_a_state_that_differs_is_noticed():
    core = RecordedCore(SETTINGS, DEVICES)
    for _ in range(STATE_EVERY - 1):
        core.handle(events.Tick(), 0.0)
    core.state.frames.flags[0] ^= 1
    core.handle(events.Tick(), 0.0)
    found = Replay(core.lines()).run()
    assert (found.difference.number, found.states) == (STATE_EVERY, 1)
    assert "the state after it differs" in found.difference.what


@pytest.mark.parametrize("readings", [(), (1.0,) * 40])
def test_policies_that_are_called_otherwise_are_a_difference(readings):
    lines = recorded().lines()
    record = read_record(lines[4])
    assert record.readings
    lines[4] = record_line(Record(record.now, record.event, record.digest, readings))
    assert "more or less often" in Replay(lines).run().difference.what


def test_events_without_digests_are_replayed_and_not_compared():
    core = recorded()
    bare = [record_line(Record(each.now, each.event)) for each in map(read_record, core.lines()[1:])]
    replay = Replay([core.lines()[0], *bare])
    found = replay.run()
    assert found.same
    assert (found.events, found.compared) == (20, 0)
    assert everything(replay.core)[:4] == everything(core)[:4]


def test_an_event_after_which_an_invariant_does_not_hold_makes_the_replay_differ():
    core = RecordedCore(SETTINGS, DEVICES)
    replay = Replay(core.lines())
    replay.core.state.frames.flags[3] = 255
    found = replay.run()
    assert found.violations
    assert not found.same


def test_a_log_ends_where_its_daemon_was_killed_or_it_was_full_or_a_policy_hung():
    lines = recorded().lines()
    cut = Replay([*lines[:5], lines[5][:-4]]).run()
    assert (cut.events, cut.ended, cut.same) == (4, KILLED, True)
    full = Replay([*lines[:5], end_line("it is full")]).run()
    assert (full.events, full.ended, full.same) == (4, "it is full", True)
    hung = Replay([*lines[:5], record_line(Record(11.0, events.Tick(), 0, (), None, True)), *lines[5:]]).run()
    assert (hung.events, hung.same) == (4, True)
    assert hung.ended.startswith("event 5 ended a call of a policy")


def test_a_line_that_is_no_event_is_named_by_its_number():
    lines = recorded().lines()
    with pytest.raises(EventLogError, match="line 3: "):
        Replay([*lines[:2], b"nonsense\n"]).run()


def test_a_log_without_the_first_event_is_refused():
    with pytest.raises(EventLogError, match="not its first"):
        Replay([header_line(SETTINGS, DEVICES, complete=False)])


def test_a_policy_in_a_file_is_executed_only_where_that_is_allowed(policy_file):
    core = RecordedCore(SETTINGS, DEVICES)
    core.handle(events.Attach("app", "first_fit", policy_file, "refuse"), 0.0)
    refused = Replay(core.lines()).run()
    assert "InvalidArgument" in refused.difference.what
    assert "which a replay would execute" in refused.difference.what
    assert Replay(core.lines(), policy_files=True).run().same


@pytest.fixture
def policy_file(tmp_path):
    path = write_policies(tmp_path, "from usmd.policies.evict.lru import Lru\n\n\nclass Mine(Lru):\n    pass\n")
    return f"{path}:Mine"


def test_errors_of_devices_are_replayed():
    core = recorded()
    protect = events.Protected(1, [0, 1], [False, False])
    core.handle(protect, 30.5)
    slots = [slot for slot, used in enumerate(core.state.swap.devices[0].used) if used]
    core.handle(events.SwapOutDone(slots, [SwapIOError("no")] * len(slots)), 31.0)
    assert slots
    assert Replay(core.lines()).run().same
    assert [each.args for each in read_record(core.lines()[-1]).event.errors] == [("no",)] * len(slots)

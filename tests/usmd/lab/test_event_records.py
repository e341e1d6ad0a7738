"""The lines of an event log: each event comes back as it was, and what is no event log is a typed error."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.recorded_core import RecordedCore
from tests.support.shell import PAGE, make_core
from usmd.core import commands, events
from usmd.core.hints import parse_hint
from usmd.core.running import PolicyHung
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.errors import DataLoss, EventLogError, NotFound, SwapIOError
from usmd.lab import event_records
from usmd.lab.event_records import (
    FORMAT,
    STATE_EVERY,
    End,
    Record,
    Recorder,
    digest_of,
    digest_of_state,
    end_line,
    header_line,
    read_header,
    read_record,
    record_line,
)
from usmd.policies import registry

SETTINGS = CoreSettings(frames=8, page_size=PAGE, deny_budget=4, deny_budget_total=4, hold_seconds=0.3)
DEVICES = [DeviceInfo("fast", 8), DeviceInfo("slow", 64)]
NUMBERS = st.integers(0, (1 << 63) - 1)
ERRORS = st.one_of(st.none(), st.builds(SwapIOError, st.text()), st.builds(DataLoss, st.text()))
HINTS = st.sampled_from(["PRIORITY=LOW; X_NOTE=ä", "WILLNEED; TTL=1.5", "SWAP=slow; FHP=64B"]).map(parse_hint)


def an_event(kind):
    """Any event of a kind: its fields by their annotations."""
    return st.builds(kind, **{name: FIELDS[kind_of] for name, kind_of in kind.__annotations__.items()})


FIELDS = {
    "int": NUMBERS,
    "int | None": st.none() | NUMBERS,
    "str": st.text(),
    "str | None": st.none() | st.text(),
    "bool": st.booleans(),
    "Hint | None": st.none() | HINTS,
    "tuple[str, str, str]": st.tuples(st.text(), st.text(), st.text()),
    "Sequence[int]": st.lists(NUMBERS),
    "Sequence[tuple[int, float]]": st.lists(st.tuples(st.integers(0, 31), st.floats(0, 1)), max_size=3),
    "Sequence[bool | None]": st.lists(st.none() | st.booleans()),
    "Sequence[UsmdError | None]": st.lists(ERRORS),
}
FIELDS["Quotas"] = an_event(events.Quotas)
FIELDS["Sequence[FaultRequest]"] = st.lists(an_event(events.FaultRequest))
FIELDS["Sequence[PageFault]"] = st.lists(an_event(events.PageFault))
EVENTS = st.one_of(
    *(
        an_event(each)
        for each in vars(events).values()
        if isinstance(each, type) and issubclass(each, events.Event) and each is not events.Event
    )
)


def plain(event):
    """An event with errors as text, for they are equal to themselves alone."""
    found = msgspec.structs.asdict(event)
    if "errors" in found:
        found["errors"] = [None if each is None else (type(each), str(each)) for each in found["errors"]]
    return type(event), {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


@given(event=EVENTS, now=st.floats(allow_nan=False, allow_infinity=False), readings=st.lists(st.floats(0, 1e9)))
def test_each_event_comes_back_as_it_was_and_its_times_to_the_bit(event, now, readings):
    line = record_line(Record(now, event, 7, readings, None, False))
    assert line.count(b"\n") == 1
    found = read_record(line)
    assert (found.now, found.digest, list(found.readings), found.state, found.hung) == (now, 7, readings, None, False)
    assert plain(found.event) == plain(event)


def test_a_header_comes_back_as_it_was():
    header = read_header(header_line(SETTINGS, DEVICES, complete=True))
    assert (header.usmd_events, header.complete) == (FORMAT, True)
    assert (header.settings, list(header.devices)) == (SETTINGS, DEVICES)


def test_the_end_of_a_log_says_why():
    assert read_record(end_line("it is full")) == End("it is full")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "allowed is a file that usmd serve --trace-events wrote"),
        (b"\x7fELF\n", "allowed is a file that usmd serve --trace-events wrote"),
        (b'{"usmd_events":"one"}\n', "not the header of an event log"),
        (
            header_line(SETTINGS, DEVICES, complete=True).replace(b":%d," % FORMAT, b":99,", 1),
            "an event log of version 99",
        ),
    ],
)
def test_what_is_no_header_is_refused(line, says):
    with pytest.raises(EventLogError, match=says):
        read_header(line)


@pytest.mark.parametrize(
    "line",
    [
        b"[1.0]\n",
        b'[1.0,["Unknown",1]]\n',
        b'[1.0,["Unmap",1,"2"]]\n',
        b'[1.0,["SwapInDone",[1],[["Exception","x"]]]]\n',
        b"{}\n",
        b"\xff\n",
    ],
)
def test_what_is_no_record_is_refused(line):
    with pytest.raises(EventLogError, match="is not an event of usmd"):
        read_record(line)


def test_a_log_has_no_bytes_of_pages_and_each_line_is_json():
    core = RecordedCore(SETTINGS, DEVICES)
    core.handle(events.Attach("app", "first_fit", "lru", "refuse"), 1.0)
    core.handle(events.Map(1, PAGE, "heap"), 2.0)
    core.handle(events.Access(1, 1, 0, 1, True), 3.0)
    header, *lines = map(json.loads, core.lines())
    assert header["usmd_events"] == FORMAT
    words = ["Attach", "app", "first_fit", "lru", "refuse", None, None, None, "none", None, 0, None, 0, 100]
    assert [line[:2] for line in lines] == [
        [1.0, [*words, [None] * 4]],
        [2.0, ["Map", 1, PAGE, "heap", 0]],
        [3.0, ["Access", 1, 1, 0, 1, True]],
    ]


def test_digests_tell_commands_apart_but_not_the_texts_of_notices():
    assert digest_of([commands.Wake([1])]) != digest_of([commands.Release([1])])
    assert digest_of([commands.Wake([1])]) != digest_of([commands.Wake([2])])
    assert digest_of([commands.Wake([1])]) == digest_of([commands.Wake((1,))])
    told = [commands.Notice("policy_error", 3, f"<object at {place}>", {}) for place in ("0x1", "0x2")]
    assert digest_of(told[:1]) == digest_of(told[1:])
    assert digest_of(told[:1]) != digest_of([])


def test_the_state_is_digested_part_by_part(monkeypatch):
    monkeypatch.setattr(event_records, "STATE_PART", 4)
    core = make_core()
    before = [digest_of_state(core, number * STATE_EVERY) for number in range(4)]
    core.state.frames.flags[6] ^= 1
    after = [digest_of_state(core, number * STATE_EVERY) for number in range(4)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True, False]


def test_an_event_that_is_refused_is_in_the_log_and_the_error_is_its_callers():
    core = RecordedCore(SETTINGS, DEVICES)
    with pytest.raises(NotFound):
        core.handle(events.Unmap(1, 1), 1.0)
    assert read_record(core.lines()[-1]).event == events.Unmap(1, 1)


def test_an_event_that_cannot_be_written_is_handled_all_the_same(monkeypatch):
    recorder = Recorder(bytearray())
    monkeypatch.setattr(event_records, "_encoder", None)
    event = events.Attach("app", "first_fit", "lru", "refuse")
    attached, *_ = recorder.handle(make_core(), event, 0.0)
    assert attached == commands.Attached(1)
    assert recorder.failure is not None


@pytest.mark.parametrize("called", [True, False])
def test_an_event_in_which_a_call_of_a_policy_was_ended_says_so(called):
    class Hangs(registry.find("evict", "lru")[0]):
        def page_filled(self, pfn):
            if called:
                raise PolicyHung("at once")
            super().page_filled(pfn)

    def make(kind, specification, memory):
        return Hangs(memory) if kind == "evict" else registry.make(kind, specification, memory)

    core = RecordedCore(SETTINGS, DEVICES, make)
    core.handle(events.Attach("app", "first_fit", "lru", "refuse"), 0.0)
    core.handle(events.Map(1, PAGE, ""), 0.0)
    core.handle(events.Faults(1, [events.FaultRequest(0, 1, 0, 1, False)]), 0.0)
    core.handle(events.Tick(), 0.0)
    assert [read_record(line).hung for line in core.lines()[1:]] == [False, False, called, called]

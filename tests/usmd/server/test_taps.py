"""What listeners hear: each touch once, with its time, in the order of changes and of the end."""

from array import array

import pytest

from tests.usmd.server.test_engine import PAGE, Bench
from usmd.core import events
from usmd.core.region import page_key
from usmd.errors import NotFound
from usmd.server.taps import split


class Ear:
    """A listener that writes down what it hears."""

    def __init__(self):
        self.heard = []

    def touched(self, touches, now):
        keys, kinds = split(touches)
        self.heard.extend((key & 0xFFFF, kind) for key, kind in zip(keys, kinds, strict=True))
        assert now > 0

    def changed(self, change, now):
        self.heard.append(type(change).__name__)

    def ended(self, reason):
        self.heard.append(reason)


def process_of(bench):
    return bench.engine.core.state.processes[bench.process]


def test_touches_are_split_into_pages_and_kinds():
    keys, kinds = split(array("q", [page_key(3, 5), 1, page_key(1, 0), 3]))
    assert (list(keys), kinds) == ([page_key(3, 5), page_key(1, 0)], b"\1\3")
    assert split(array("q"))[1] == b""


def test_a_listener_hears_faults_and_hits_of_its_process_and_of_no_other():
    bench = Bench(hold_budget=4)
    other = bench.engine.submit(events.Attach("other", "first_fit", "fifo", "refuse")).process_id
    foreign = bench.engine.map(events.Map(other, PAGE, "")).region_id
    ear = Ear()
    with bench.engine.taps.listening(process_of(bench), ear):
        bench.faults(0)
        bench.store(0, b"x")  # the touch that the fault was for
        bench.store(0, b"x")
        bench.load(0)
        bench.engine.submit(events.PageFaults(other, [events.PageFault(foreign, 0, True)]))
    assert ear.heard == [(0, 2), (0, 1), (0, 0)]
    bench.load(0)
    assert len(ear.heard) == 3
    assert process_of(bench).touches is None
    assert not bench.engine.taps.live


def test_two_listeners_hear_the_same_and_one_that_leaves_does_not_take_the_other_along():
    bench = Bench(hold_budget=4)
    one, two = Ear(), Ear()
    with bench.engine.taps.listening(process_of(bench), one):
        with bench.engine.taps.listening(process_of(bench), two):
            bench.faults(1)
        bench.faults(2)
    assert (one.heard, two.heard) == ([(1, 2), (2, 2)], [(1, 2)])


def test_changes_come_after_the_touches_before_them():
    bench = Bench(hold_budget=4)
    ear = Ear()
    with bench.engine.taps.listening(process_of(bench), ear):
        bench.faults(0)
        bench.hint("PRIORITY=LOW")
        region = bench.engine.map(events.Map(bench.process, PAGE, "")).region_id
        bench.faults(1)
        bench.engine.submit(events.Unmap(bench.process, region))
    assert ear.heard == [(0, 2), "SetHint", "Map", (1, 2), "Unmap"]


def test_the_end_of_the_process_is_told_last_and_ends_the_tap():
    bench = Bench(hold_budget=4)
    ear = Ear()
    with bench.engine.taps.listening(process_of(bench), ear):
        bench.faults(0)
        bench.engine.submit(events.Detach(bench.process, "detached"))
        assert not bench.engine.taps.live
    assert ear.heard == [(0, 2), "detached"]
    assert [each.process_id for each in bench.ended] == [bench.process]


def test_a_request_that_is_refused_is_not_heard():
    bench = Bench(hold_budget=4)
    ear = Ear()
    with bench.engine.taps.listening(process_of(bench), ear), pytest.raises(NotFound):
        bench.engine.submit(events.SetHint(bench.process, 99, 0, None, None))
    assert ear.heard == []

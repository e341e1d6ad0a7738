"""Times of faults: from the event that brings one to what ends it, and nothing kept of those that never end."""

import pytest

from tests.support.shell import PAGE, make_core
from usmd.core import commands, events
from usmd.core.hints import parse_hint
from usmd.errors import SwapIOError
from usmd.server import fault_times
from usmd.server.fault_times import FaultTimes
from usmd.server.latency import TIMED_A_TICK


class Bench:
    """A core whose faults are timed. An event takes the seconds that it is given."""

    def __init__(self, frames=8, **settings):
        self.core = make_core(frames=frames, **settings)
        self.at = 0.0
        self.times = FaultTimes(self.core, lambda: self.at)
        self.do(events.Attach("app", "first_fit", "fifo", "refuse"))
        self.do(events.Map(1, 64 * PAGE, ""))

    def do(self, event, took=0.0):
        began = self.at
        todo = self.core.handle(event, began)
        self.at += took
        if self.times.looks:
            self.times.handled(event, todo, began)
        return todo

    def touch(self, *pages, took=0.0):
        return self.do(events.PageFaults(1, [events.PageFault(1, page, True) for page in pages]), took)

    def fault(self, *pages, took=0.0, reply_to=0, first_id=0):
        faults = [events.FaultRequest(first_id + number, 1, page, 1, True) for number, page in enumerate(pages)]
        return self.do(events.Faults(1, faults, reply_to), took)

    def swap_out(self, page):
        hint = self.do(events.SetHint(1, 1, page * PAGE, PAGE, parse_hint("DONTNEED")))
        (protect,) = [each for each in hint if isinstance(each, commands.Protect)]
        (write,) = self.do(events.Protected(protect.ticket, protect.frames, [False]))
        self.do(events.SwapOutDone([write.pages[0].slot], [None]))

    def read_done(self, todo, error=None, took=0.0):
        (read,) = [each for each in todo if isinstance(each, commands.ReadSlots)]
        self.at += took
        return self.do(events.SwapInDone([page.pfn for page in read.pages], [error] * len(read.pages)))


def quantiles(histogram):
    return histogram.count, histogram.quantile(0.5)


def near(seconds):
    return pytest.approx(seconds, rel=1 / 16)


def test_faults_that_are_served_at_once_take_what_their_event_takes():
    bench = Bench()
    bench.touch(0, took=0.5)
    bench.touch(0, took=0.5)
    assert quantiles(bench.times.real) == (2, near(0.5))
    bench.fault(1, 2, took=0.25)
    assert quantiles(bench.times.explicit) == (2, near(0.25))
    assert not bench.times.waits


def test_a_fault_that_waits_for_a_read_takes_until_its_page_is_there():
    bench = Bench()
    bench.fault(0, 1)
    bench.swap_out(0)
    bench.swap_out(1)
    first = bench.touch(0)
    bench.touch(0)
    assert bench.times.waits
    bench.read_done(first, took=3.0)
    assert quantiles(bench.times.real) == (1, near(3.0))  # the first of two that wait for one page
    assert not bench.times.waits
    second = bench.fault(1, reply_to=5, first_id=7)
    bench.read_done(second, took=4.0)
    assert bench.times.explicit.quantile(1.0) == near(4.0)
    assert not bench.times.waits


@pytest.mark.parametrize("real", [True, False])
def test_a_fault_that_fails_is_not_counted_and_not_kept(real):
    bench = Bench()
    bench.fault(0)
    bench.swap_out(0)
    counted = bench.times.explicit.count
    waiting = bench.touch(0) if real else bench.fault(0)
    assert bench.times.waits
    bench.read_done(waiting, SwapIOError("no"), took=1.0)
    assert not bench.times.waits
    assert (bench.times.real.count, bench.times.explicit.count) == (0, counted)


@pytest.mark.parametrize("end", [events.Unmap(1, 1), events.Detach(1, "over")])
@pytest.mark.parametrize("real", [True, False])
def test_nothing_is_kept_of_a_region_or_a_process_that_is_gone(end, real):
    bench = Bench()
    bench.fault(0)
    bench.swap_out(0)
    if real:
        bench.touch(0)
    else:
        bench.fault(0)
    assert bench.times.waits
    bench.do(end)
    assert not bench.times.waits
    bench.touch(0)
    assert not bench.times.waits


def test_faults_that_wait_for_memory_take_until_it_is_free():
    bench = Bench(frames=2)
    bench.touch(0)
    bench.touch(1)
    todo = bench.touch(2)
    assert bench.times.waits
    while not any(isinstance(each, commands.ZeroFill) for each in todo):
        protects = [each for each in todo if isinstance(each, commands.Protect)]
        bench.at += 5.0
        todo = bench.do(events.Protected(protects[0].ticket, protects[0].frames, [True] * len(protects[0].frames)))
    assert bench.times.real.quantile(1.0) == near(5.0)
    assert not bench.times.waits


def test_so_many_faults_are_timed_until_the_next_tick():
    bench = Bench()
    for _ in range(TIMED_A_TICK):
        bench.touch(0)
    assert not bench.times.looks
    bench.touch(0)
    assert bench.times.real.count == TIMED_A_TICK
    bench.times.tick()
    bench.touch(0)
    assert bench.times.real.count == TIMED_A_TICK + 1


def test_no_more_than_so_many_faults_are_timed_while_they_wait(monkeypatch):
    monkeypatch.setattr(fault_times, "MAX_WAITING", 2)
    bench = Bench()
    bench.fault(0, 1, 2)
    for page in range(3):
        bench.swap_out(page)
    counted = bench.times.explicit.count
    for todo in [bench.touch(page) for page in range(3)]:
        bench.read_done(todo)
    assert bench.times.real.count == 2
    for page in range(3):
        bench.swap_out(page)
    for todo in [bench.fault(page, first_id=page) for page in range(3)]:
        bench.read_done(todo)
    assert bench.times.explicit.count == counted + 2


def test_faults_of_a_batch_of_pages_are_timed_as_others():
    bench = Bench()
    bench.do(events.PageBatch(1, 1, 5, [3, 9, 4], True), took=0.25)
    assert quantiles(bench.times.explicit) == (3, near(0.25))
    bench.swap_out(3)
    waiting = bench.do(events.PageBatch(1, 1, 5, [3, 9], True))
    assert bench.times.waits
    bench.read_done(waiting, took=4.0)
    assert bench.times.explicit.quantile(1.0) == near(4.0)
    assert not bench.times.waits

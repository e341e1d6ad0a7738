"""How soon the daemon hears of faults: what spins ends, what follows comes back, and a dead thread is nowhere."""

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from usmd.server import fault_wakeup as module
from usmd.server.fault_wakeup import (
    FOLLOW_SECONDS,
    LEAVE_SECONDS,
    SLICE_SECONDS,
    Follow,
    Sleep,
    Spin,
    cpu_of,
)
from usmd.server.wakeup_choice import Auto, parse_wakeup

PID = 1234
SECONDS = 60.0
LEAST = 1e-9
CPUS = sorted(os.sched_getaffinity(0))


@pytest.fixture
def clock():
    """A clock that stands still until a test sets it."""

    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    return Clock()


class Affinity:
    """What the module sets, per thread, instead of the kernel."""

    def __init__(self, monkeypatch, cpus):
        self.all = set(cpus)
        self.now = {0: set(cpus)}
        self.sets = []
        monkeypatch.setattr(module.os, "sched_getaffinity", lambda thread: set(self.now.get(thread, self.all)))
        monkeypatch.setattr(module.os, "sched_setaffinity", self._set)

    def _set(self, thread, cpus):
        self.sets.append((thread, set(cpus)))
        self.now[thread] = set(cpus)


@pytest.mark.parametrize(
    ("text", "kind"), [("auto", Auto), ("sleep", Sleep), ("spin:1", Spin), ("spin:10000", Spin), ("follow", Follow)]
)
def test_the_configurations_words_are_the_ways(text, kind):
    assert type(parse_wakeup(text)) is kind


def test_sleep_never_looks_again():
    sleep = Sleep()
    assert sleep.faulted(PID, 1, 0.0) == 0.0
    sleep.tick()


# spin


async def turns(count):
    """Let the loop take turns, and do nothing in them."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_fault_while_it_spins_prolongs_the_spin(clock):
    async def main():
        spin = parse_wakeup("spin:500", clock)
        assert spin.faulted(PID, 1, clock.now) == pytest.approx(clock.now + SLICE_SECONDS, abs=LEAST)
        clock.now += 400e-6
        assert spin.faulted(PID, 1, clock.now) == pytest.approx(clock.now + SLICE_SECONDS, abs=LEAST)
        clock.now += 400e-6  # past the first time, not past the second
        await turns(3)
        assert spin._spinning
        clock.now += 200e-6
        await turns(3)
        assert not spin._spinning

    asyncio.run(main())


def test_a_loop_that_spins_polls_until_the_time_is_over_and_then_sleeps_again(clock):
    async def main():
        loop = asyncio.get_running_loop()
        timeouts = []
        slept = asyncio.Event()

        def select(timeout):
            """Nothing happens in the world. After 20 looks the time is over; who then would sleep ends the test."""
            timeouts.append(timeout)
            if len(timeouts) == 20:
                clock.now += 1e-3
            if timeout is None or timeout > 0 or len(timeouts) == 100:
                slept.set()
            return []

        later = loop.call_later(3600, slept.set)
        real, loop._selector.select = loop._selector.select, select
        try:
            parse_wakeup("spin:500", clock).faulted(PID, 1, clock.now)
            await slept.wait()
        finally:
            loop._selector.select = real
            later.cancel()
        return timeouts

    timeouts = asyncio.run(main())
    assert timeouts[:20] == [0] * 20
    assert timeouts[-1] > 3000
    assert len(timeouts) < 25


def test_a_spin_no_longer_than_a_slice_is_over_when_the_look_is(clock):
    async def main():
        spin = parse_wakeup("spin:20", clock)
        assert spin.faulted(PID, 1, clock.now) == pytest.approx(clock.now + 20e-6, abs=LEAST)
        assert not spin._spinning

    asyncio.run(main())


def test_two_faults_at_once_begin_one_spin(clock, monkeypatch):
    async def main():
        spin = parse_wakeup("spin:500", clock)
        begun = []
        real = Spin._spin
        monkeypatch.setattr(Spin, "_spin", lambda self: begun.append(1))
        spin.faulted(PID, 1, clock.now)
        spin.faulted(PID, 2, clock.now)
        assert begun == [1]
        clock.now += 1
        real(spin)
        assert not spin._spinning
        spin.faulted(PID, 1, clock.now)
        assert begun == [1, 1]

    asyncio.run(main())


# follow


@pytest.fixture
def cpus(clock, monkeypatch):
    """Where threads run, by thread; `asked` counts the looks."""
    places = {}
    places_asked = []

    def look(pid, thread):
        assert pid == PID
        places_asked.append(thread)
        return places.get(thread)

    monkeypatch.setattr(module, "cpu_of", look)
    affinity = Affinity(monkeypatch, {0, 1, 2})
    affinity.places, affinity.asked = places, places_asked
    return affinity


def test_follow_goes_where_the_thread_is_but_does_not_look_too_often(clock, cpus):
    follow = parse_wakeup("follow", clock)
    cpus.places[7] = 2
    assert follow.faulted(PID, 7, clock.now) == 0.0
    assert cpus.sets == [(0, {2})]
    cpus.places[7] = 1
    follow.faulted(PID, 7, clock.now)
    assert (cpus.asked, len(cpus.sets)) == ([7], 1)
    clock.now += FOLLOW_SECONDS
    follow.faulted(PID, 7, clock.now)
    assert cpus.sets == [(0, {2}), (0, {1})]
    clock.now += FOLLOW_SECONDS
    follow.faulted(PID, 7, clock.now)  # there already
    assert (cpus.asked, len(cpus.sets)) == ([7, 7, 7], 2)


def test_follow_stays_where_it_is_for_an_unknown_or_dead_thread_and_for_a_cpu_that_it_may_not_use(clock, cpus):
    follow = parse_wakeup("follow", clock)
    follow.faulted(PID, 0, clock.now)
    assert cpus.asked == []
    follow.faulted(PID, 8, clock.now)
    clock.now += FOLLOW_SECONDS
    cpus.places[9] = 3
    follow.faulted(PID, 9, clock.now)
    assert (cpus.asked, cpus.sets) == ([8, 9], [])


def test_follow_leaves_again_with_all_its_threads_when_nobody_faults(clock, cpus):
    follow = parse_wakeup("follow", clock)
    follow.tick()
    assert cpus.sets == []
    cpus.places[7] = 2
    follow.faulted(PID, 7, clock.now)
    clock.now += LEAVE_SECONDS * 0.9
    follow.tick()
    assert cpus.sets == [(0, {2})]
    clock.now += LEAVE_SECONDS * 0.2
    begun, end = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: begun.set() or end.wait(SECONDS))
    thread.start()
    begun.wait(SECONDS)
    follow.tick()
    end.set()
    thread.join()
    freed = dict(cpus.sets[1:])
    assert {os.getpid(), thread.native_id} <= freed.keys()
    assert all(each == {0, 1, 2} for each in freed.values())
    follow.tick()
    assert len(cpus.sets) == 1 + len(freed)
    cpus.places[7] = 2
    follow.faulted(PID, 7, clock.now)
    assert cpus.sets[-1] == (0, {2})


def test_a_way_that_is_left_neither_spins_nor_keeps_the_loop_on_a_cpu(clock, cpus):
    async def main():
        spin = parse_wakeup("spin:500", clock)
        spin.faulted(PID, 1, clock.now)
        spin.leave()
        await turns(2)
        assert not spin._spinning

    asyncio.run(main())
    follow = parse_wakeup("follow", clock)
    follow.leave()
    assert cpus.sets == []
    cpus.places[7] = 2
    follow.faulted(PID, 7, clock.now)
    follow.leave()
    assert cpus.sets[-1][1] == {0, 1, 2}


def test_follow_survives_threads_that_have_just_ended(clock, cpus, monkeypatch):
    follow = parse_wakeup("follow", clock)
    cpus.places[7] = 2
    follow.faulted(PID, 7, clock.now)
    clock.now += 1

    def gone(thread, allowed):
        raise ProcessLookupError

    monkeypatch.setattr(module.os, "sched_setaffinity", gone)
    follow.tick()


@pytest.mark.skipif(len(CPUS) < 2, reason="one CPU")
@pytest.mark.parametrize("cpu", CPUS[:2])
def test_follow_really_goes_and_comes_back(clock, cpu):
    """In a thread of its own, and with a child that may run on one CPU only, so that it is known where it runs."""
    found = []
    with subprocess.Popen(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{cpu}}}); print(flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as child:  # fmt: skip
        child.stdout.readline()
        assert cpu_of(child.pid, child.pid) == cpu

        def work():
            follow = parse_wakeup("follow", clock)
            follow.faulted(child.pid, child.pid, clock.now)
            found.append(os.sched_getaffinity(0))
            clock.now += 1
            follow.tick()
            found.append(os.sched_getaffinity(0))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(SECONDS)
        child.communicate(b"\n")
    assert found == [{cpu}, set(CPUS)]


# cpu_of


def test_a_thread_of_this_process_runs_on_one_of_its_cpus():
    assert cpu_of(os.getpid(), threading.get_native_id()) in range(os.cpu_count())


def test_a_dead_thread_and_a_dead_process_run_nowhere():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    while os.path.exists(f"/proc/self/task/{thread.native_id}"):
        thread.join(0.001)
    assert cpu_of(os.getpid(), thread.native_id) is None
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert cpu_of(child.pid, child.pid) is None
    assert cpu_of(os.getpid(), 0) is None


def test_a_threads_name_full_of_brackets_and_blanks_does_not_mislead():
    begun, end = threading.Event(), threading.Event()
    numbers = []

    def work():
        with open("/proc/thread-self/comm", "w") as comm:
            comm.write(") 1 (2) 3 4")
        numbers.append(threading.get_native_id())
        begun.set()
        end.wait(SECONDS)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(SECONDS)
    try:
        assert cpu_of(os.getpid(), numbers[0]) in range(os.cpu_count())
    finally:
        end.set()
        thread.join()

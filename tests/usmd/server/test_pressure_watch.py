"""Pressure of processes: a few are brought up to date in a tick, and what passes a threshold is reported."""

import os
from pathlib import Path

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.event_levels import NOTICES
from usmd.server import pressure_watch as module
from usmd.server.pressure_watch import PressureWatch, cpu_seconds

TICK = 0.1


class Setup:
    """Some processes, of which a test says what they wait for, and the CPU time of theirs."""

    def __init__(self, *pids, threshold=0.5):
        self.shell = Shell(make_core(frames=8))
        self.cpu = dict.fromkeys((os.getpid(), *(pid for pid in pids if pid)), 0.0)
        self.asked = []
        self.processes = [self.shell.attach(f"p{number}", pid=pid) for number, pid in enumerate(pids)]
        self.regions = [self.shell.map(process, 1) for process in self.processes]
        for process, region in zip(self.processes, self.regions, strict=True):
            self.shell.put(process, region, 0, b"x" * PAGE)
            self.shell.evict(process, region)
        self.shell.auto_io = False
        self.notices = []
        state = self.shell.core.state
        self.watch = PressureWatch(state, self.notices.append, threshold, self.shell.now, self._cpu)
        self.of_all = state.stalls.pressure

    def _cpu(self, pid):
        self.asked.append(pid)
        return self.cpu.get(pid)

    def begin(self, number):
        """A process begins to wait for its page, until `end`."""
        self.shell.fault(self.processes[number], self.regions[number], 0)
        state = self.shell.core.state
        state.stalls.served(state.processes[self.processes[number]], False, 0, 0.0, self.shell.now)

    def end(self):
        """The process that has waited longest has its page, which goes again."""
        self.shell.complete_io()
        for process, region in zip(self.processes, self.regions, strict=True):
            if self.shell.state_of(region, 0) == "PRESENT":
                self.shell.evict(process, region)

    def pass_time(self, seconds, *, cpus=None):
        """Time goes by, and processes take CPU time, by their pids."""
        for _ in range(round(seconds / TICK)):
            self.shell.now += TICK
            for pid, used in (cpus or {}).items():
                self.cpu[pid] += used * TICK
            self.watch.tick(self.shell.now)

    def of(self, number):
        return self.shell.core.state.processes[self.processes[number]].pressure

    def kinds(self):
        return [(each.kind, each.process_id) for each in self.notices]


def test_a_process_that_waits_has_pressure_and_another_has_none():
    setup = Setup(11, 12)
    setup.pass_time(1)
    setup.begin(0)
    setup.pass_time(10, cpus={12: 1.0})
    assert setup.of(0).some.averages[0] == pytest.approx(0.632, abs=1e-3)
    assert setup.of(0).full.averages == pytest.approx(setup.of(0).some.averages)
    assert setup.of(0).some.seconds == pytest.approx(10)
    assert (setup.of(1).some.seconds, setup.of(1).full.seconds) == (0, 0)
    assert setup.of_all.some.averages == pytest.approx(setup.of(0).some.averages)


def test_all_are_stopped_only_as_far_as_none_of_them_runs():
    setup = Setup(11, 12)
    setup.pass_time(1)
    setup.begin(0)
    setup.pass_time(10, cpus={12: 0.75})
    assert setup.of_all.some.seconds == pytest.approx(10)
    assert setup.of_all.full.seconds == pytest.approx(2.5)


def test_sessions_of_one_process_count_its_cpu_time_once():
    setup = Setup(11, 11)
    setup.pass_time(1)
    setup.begin(0)
    setup.asked.clear()
    setup.pass_time(1, cpus={11: 0.5})
    assert setup.asked == [11] * 10
    assert setup.of_all.full.seconds == pytest.approx(0.5)
    assert setup.of(0).full.seconds == pytest.approx(0.5)


def test_of_a_process_without_a_number_or_that_is_gone_full_is_not_known():
    setup = Setup(None, 12)
    del setup.cpu[12]
    setup.begin(0)
    setup.pass_time(1)
    assert (setup.of(0).full, setup.of(1).full) == (None, None)
    assert setup.of(0).some.seconds == pytest.approx(0.9)  # since it was first looked at
    assert setup.of_all.full.seconds == setup.of_all.some.seconds == pytest.approx(1.0)


def test_where_the_kernel_tells_no_cpu_time_full_is_not_known_of_all_either():
    setup = Setup(11)
    setup.cpu.clear()
    setup.watch = PressureWatch(setup.shell.core.state, setup.notices.append, 0.5, 0.0, setup._cpu)
    setup.pass_time(1)
    assert setup.of_all.full is None


def test_a_tick_looks_at_a_bounded_number_of_processes_and_each_has_its_turn(monkeypatch):
    monkeypatch.setattr(module, "A_TICK", 2)
    setup = Setup(11, 12, 13, 14, 15)
    setup.asked.clear()
    setup.watch.tick(0.1)
    assert setup.asked == [11, 12]
    setup.shell.do(events.Detach(setup.processes[2], "bye"))
    for now in (0.2, 0.3, 0.4):
        setup.watch.tick(now)
    assert setup.asked == [11, 12, 14, 15, 11, 12]
    setup.begin(4)
    setup.pass_time(40, cpus={11: 0.5, 12: 0.25})
    assert setup.of_all.full.seconds == pytest.approx(10, abs=0.3)
    assert setup.of(4).some.averages[0] == pytest.approx(1.0, abs=0.02)


def test_a_threshold_that_is_passed_is_reported_of_the_process_and_of_all_and_so_is_its_end():
    setup = Setup(11)
    setup.begin(0)
    setup.pass_time(6.5)
    assert setup.notices == []
    setup.pass_time(1)
    number = setup.processes[0]
    assert setup.kinds() == [("pressure_high", 0), ("pressure_high", number)]
    all_of_them, one = setup.notices
    assert all_of_them.message.startswith("faults of all processes together waited for 50.")
    assert one.message == f"faults of p0 (process {number}) waited for 50.3% of the last 10 s; the threshold is 50%"
    assert one.fields == {"some_avg10": "0.5034", "full_avg10": "0.5034", "threshold": "0.5000"}
    setup.end()
    setup.pass_time(2.5)
    assert len(setup.notices) == 2
    setup.pass_time(1.5)
    assert setup.kinds()[2:] == [("pressure_eased", number), ("pressure_eased", 0)]
    assert setup.notices[2].message.endswith("of the last 10 s: below 37.5%")
    assert {each.kind for each in setup.notices} < set(NOTICES)


def test_whoever_hears_of_pressure_is_called_for_each_process_that_was_brought_up_to_date():
    setup = Setup(11, 12)
    heard = []
    setup.watch.on_advanced = lambda process_id, pressure: heard.append((process_id, pressure))
    setup.pass_time(0.1)
    assert heard == [(process_id, setup.of(number)) for number, process_id in enumerate(setup.processes)]


def test_another_threshold_holds_at_once_and_none_ends_what_was_reported():
    setup = Setup(None, threshold=0.0)
    setup.begin(0)
    setup.pass_time(20)
    assert setup.notices == []
    setup.watch.threshold = 0.8
    setup.pass_time(0.1)
    assert [each.kind for each in setup.notices] == ["pressure_high"] * 2
    assert "full_avg10" not in setup.notices[0].fields
    setup.watch.threshold = 0.0
    setup.pass_time(0.1)
    assert [each.kind for each in setup.notices[2:]] == ["pressure_eased"] * 2
    assert setup.notices[2].message.endswith("there is no threshold")


def test_the_cpu_time_of_a_process_is_that_of_the_kernel_and_none_if_it_is_gone():
    before = cpu_seconds(os.getpid())
    assert 0.0 < before <= cpu_seconds(os.getpid())
    no_process = int(Path("/proc/sys/kernel/pid_max").read_text())
    assert cpu_seconds(no_process) is None

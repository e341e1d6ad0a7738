"""The choice among the ways of waiting for faults: the best one is found, and a bad one costs little."""

import os

import pytest

from usmd.server import wakeup_choice as module
from usmd.server.fault_wakeup import Follow, Spin
from usmd.server.wakeup_choice import FIRST_PAUSE, LAST_PAUSE, LEAST_FAULTS, TURNS, Auto, spare_cpus

TICK = 0.1


class World:
    """A workload whose faults a tick depend on the way in use."""

    def __init__(self, monkeypatch, *, spare=1, **rates):
        self.now = 0.0
        self.spare = spare
        self.rates = {"sleep": 1000.0, "follow": 1000.0, "spin": 1000.0} | rates
        self.events = []
        self.used = []
        monkeypatch.setattr(module.log, "event", lambda kind, **fields: self.events.append((kind, fields)))
        monkeypatch.setattr(Follow, "faulted", lambda *_: 0.0)
        monkeypatch.setattr(Spin, "faulted", lambda *_: 0.0)
        self.auto = Auto(lambda: self.now, lambda: self.spare)

    @property
    def way(self):
        return next(name for name, way in self.auto._ways.items() if way is self.auto._way)

    def pass_time(self, seconds):
        for _ in range(round(seconds / TICK)):
            self.used.append(self.way)
            self.auto.faulted(1, 1, self.now, round(self.rates[self.way]))
            self.now += TICK
            self.auto.tick()

    def share(self, name):
        return self.used.count(name) / len(self.used)


@pytest.mark.parametrize("best", ["follow", "spin"])
def test_the_way_that_serves_most_is_found(monkeypatch, best):
    world = World(monkeypatch, **{best: 2000.0})
    world.pass_time(20)
    assert world.auto.best == best
    assert [(kind, fields["wakeup"], fields["before"]) for kind, fields in world.events] == [
        ("fault_wakeup_changed", best, "sleep")
    ]
    assert world.events[0][1]["reason"] == "2.00 times as many faults were served"


def test_ways_that_are_no_better_are_tried_ever_less_often(monkeypatch):
    world = World(monkeypatch, follow=1040.0, spin=500.0)
    world.pass_time(600)
    assert (world.auto.best, world.events) == ("sleep", [])
    assert world.auto._pause == LAST_PAUSE
    assert 0 < 1 - world.share("sleep") < 0.05


def test_a_way_that_is_no_longer_better_than_sleep_is_left(monkeypatch):
    world = World(monkeypatch, follow=2000.0)
    world.pass_time(20)
    world.rates["follow"] = 990.0
    world.pass_time(4 * LAST_PAUSE)
    assert world.auto.best == "sleep"


def test_a_workload_that_only_grows_favours_no_way(monkeypatch):
    world = World(monkeypatch)
    for _ in range(600):
        for name in world.rates:
            world.rates[name] *= 1.01
        world.pass_time(TICK)
    assert (world.auto.best, world.events) == ("sleep", [])


def test_few_faults_are_no_reason_to_compare(monkeypatch):
    world = World(monkeypatch, sleep=LEAST_FAULTS - 1.0, follow=LEAST_FAULTS * 9.0)
    world.pass_time(60)
    assert set(world.used) == {"sleep"}


def test_a_trial_ends_when_the_faults_do(monkeypatch):
    world = World(monkeypatch, follow=5000.0)
    world.pass_time(FIRST_PAUSE + 3 * TICK)
    assert world.auto._other
    world.rates = dict.fromkeys(world.rates, 0.0)
    world.pass_time(TICK)
    assert (world.auto._other, world.way) == ("", "sleep")


def test_it_spins_only_while_a_cpu_is_idle(monkeypatch):
    world = World(monkeypatch, spare=0, spin=9000.0)
    world.pass_time(60)
    assert "spin" not in world.used
    world.spare = 1
    world.pass_time(LAST_PAUSE * 3)
    assert world.auto.best == "spin"
    world.spare = 0
    world.pass_time(TICK)
    assert (world.auto.best, world.way) == ("sleep", "sleep")
    assert world.events[-1][1]["reason"] == "other programs need the CPUs"


def test_a_way_is_left_before_the_next_one_is_used(monkeypatch):
    left = []
    monkeypatch.setattr(Follow, "leave", lambda _: left.append("follow"))
    monkeypatch.setattr(Follow, "tick", lambda _: None)
    world = World(monkeypatch)
    world.pass_time(FIRST_PAUSE + (len(TURNS) + 1) * TICK)
    assert world.used.count("follow") == TURNS.count(True)
    assert left == ["follow"] * 2


@pytest.mark.parametrize(
    ("loadavg", "spare"), [("0.1 0.1 0.1 1/99 7", 2), ("9 9 9 4/99 7", -1), ("", 0), ("1 2 3 x", 0)]
)
def test_the_kernel_says_how_many_threads_run(monkeypatch, tmp_path, loadavg, spare):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(module, "_LOADAVG", tmp_path / "loadavg")
    assert spare_cpus() == 0
    (tmp_path / "loadavg").write_text(loadavg)
    assert spare_cpus() == spare

"""Which clients are served between the faults of another one. Descriptors are pipes in place of userfaultfds."""

import math
import os
from itertools import chain

import pytest

from usmd.core.guarantees import Guarantees
from usmd.core.region import Process
from usmd.core.settings import CoreSettings
from usmd.server.guaranteed_faults import LINGER_SECONDS, MOST, MOST_LOOKS, MOST_SECONDS, GuaranteedFaults


class World:
    """Clients 1, 2, and so on. What was served is in `served`. Each look at the clock takes `look` seconds."""

    def __init__(self, count, look=LINGER_SECONDS):
        self.now, self.look = 100.0, look
        self.guarantees = Guarantees(
            CoreSettings(frames=1000, page_size=4096, low=10, high=20, deny_budget=0, deny_budget_total=0)
        )
        self.faults = GuaranteedFaults(self.guarantees, self.clock)
        self.served = []
        self.on_served = lambda number: None
        self.ends = {}
        self.processes = {}
        for number in range(1, count + 1):
            self.processes[number] = Process(number, "app", None, None, None)
            self.ends[number] = os.pipe()
            self.faults.add(number, self.ends[number][0], Reader(self, number))

    def clock(self):
        self.now += self.look
        return self.now

    def guarantee(self, number, pages=1):
        self.guarantees.set(self.processes[number], pages, 1)

    def fault(self, number):
        os.write(self.ends[number][1], b"f")

    def serve(self, beside=0):
        """Who is served beside this one."""
        self.served.clear()
        self.faults.serve(beside)
        return sorted(self.served)

    def close(self):
        self.faults.close()
        for ends in self.ends.values():
            for end in ends:
                os.close(end)


class Reader:
    def __init__(self, world, number):
        self._world, self._number = world, number

    def serve_once(self):
        os.read(self._world.ends[self._number][0], 1)
        self._world.served.append(self._number)
        self._world.on_served(self._number)


@pytest.fixture
def world():
    made = World(3)
    yield made
    made.close()


def test_only_clients_with_a_guarantee_are_served_and_only_when_a_fault_waits(world):
    world.guarantee(1)
    world.guarantee(2)
    world.fault(2)
    world.fault(3)
    assert world.serve() == [2]
    assert world.serve() == []


def test_the_one_whose_faults_are_being_served_is_not(world):
    world.guarantee(1)
    world.fault(1)
    assert world.serve(beside=1) == []
    world.guarantee(2)
    world.fault(2)
    assert world.serve(beside=1) == [2]
    assert world.serve(beside=2) == [1]


def test_a_guarantee_counts_from_when_it_is_given_until_it_is_taken_away(world):
    world.fault(1)
    assert world.serve() == []
    world.guarantee(1)
    assert world.serve() == [1]
    world.fault(1)
    world.guarantee(1, 0)
    assert world.serve() == []


def test_a_client_that_is_gone_is_not_served_and_its_descriptor_may_be_anothers(world):
    world.guarantee(1)
    world.fault(1)
    world.serve()
    world.fault(1)
    world.faults.remove(1)
    world.faults.remove(1)
    assert world.serve() == []
    world.faults.add(2, world.ends[1][0], Reader(world, 1))
    assert world.serve() == []
    world.guarantee(2)
    assert world.serve() == [1]


def test_a_client_that_comes_with_a_guarantee_is_served(world):
    process = Process(9, "app", None, None, None)
    world.guarantees.set(process, 1, 1)
    assert world.serve() == []
    world.faults.add(9, world.ends[3][0], Reader(world, 3))
    world.fault(3)
    assert world.serve() == [3]


def test_one_that_is_served_may_end_the_next(world):
    world.guarantee(1)
    world.guarantee(2)
    world.fault(1)
    world.fault(2)

    class Ends:
        def __init__(self, other):
            self._other = other

        def serve_once(self):
            world.served.append(self._other)
            world.faults.remove(self._other)

    for number in (1, 2):
        world.faults.remove(number)
        world.faults.add(number, world.ends[number][0], Ends(3 - number))
    assert len(set(world.serve())) == 1


def test_of_very_many_some_are_served_at_a_look_and_each_has_its_turn():
    world = World(3 * MOST)
    try:
        for number in world.processes:
            world.guarantee(number)
            world.fault(number)
        world.faults._rests_until = math.inf  # no further looks
        found = [world.serve() for _ in range(4)]
        assert [len(each) for each in found] == [MOST, MOST, MOST, 0]
        assert sorted(chain.from_iterable(found)) == list(world.processes)
    finally:
        world.close()


def test_a_thread_that_faults_again_at_once_is_served_before_others_go_on(world):
    world.look = LINGER_SECONDS / 4
    left = [None] * 5
    world.on_served = lambda number: left and (left.pop(), world.fault(number))
    world.guarantee(1)
    world.fault(1)
    assert world.serve() == [1] * 6


def test_one_that_faults_without_end_has_so_long_and_then_others_as_long(world):
    world.look = LINGER_SECONDS / 4
    world.on_served = world.fault
    world.guarantee(1)
    world.fault(1)
    began = world.now
    many = len(world.serve())
    assert many > 10
    assert world.now - began == pytest.approx(MOST_SECONDS, abs=2 * world.look)
    assert world.serve() == [1]
    world.now += MOST_SECONDS
    assert len(world.serve()) == many


def test_beside_one_that_faults_without_end_the_looks_end(world):
    """The process whose faults are being served has a guarantee too: its faults are no reason for further looks."""
    world.look = LINGER_SECONDS / 4
    world.guarantee(1)
    world.guarantee(2)
    world.fault(1)
    world.fault(2)
    began = world.now
    assert world.serve(beside=1) == [2]
    assert world.now - began == pytest.approx(LINGER_SECONDS, abs=2 * world.look)


def test_a_clock_that_stands_still_ends_the_looks(world):
    world.look = 0.0
    world.on_served = world.fault
    world.guarantee(1)
    world.fault(1)
    assert len(world.serve()) == 1 + MOST_LOOKS

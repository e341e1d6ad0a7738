"""Which faults of a client are served in a turn of the loop. What comes of them is in test_memory_connection."""

import asyncio
import os
from types import SimpleNamespace

import pytest

from usmd.core.events import MINOR, PageFault
from usmd.core.region import Process
from usmd.core.stalls import Stalls
from usmd.errors import Unmapped
from usmd.mechanism import uffd
from usmd.server.fault_reader import MAX_PIECES, MAX_ROUNDS, TURN_SECONDS, FaultReader
from usmd.server.fault_wakeup import Sleep
from usmd.server.sessions import Session

FAULT = PageFault(1, 0, write=False)
TOUCH = PageFault(1, 0, write=False, kind=MINOR)


class World:
    """A reader on a pipe in place of a userfaultfd, with a clock that the test sets."""

    def __init__(self, read, **client):
        self.now, self.batches, self.failures, self.seconds = 0.0, [], [], 0.0
        self.descriptor, self._other = os.pipe()
        self.client = SimpleNamespace(read=read, last_thread=1, descriptor=self.descriptor, piece_count=1, **client)
        self.session = Session("token", 1)
        self.between = []
        self.guaranteed = SimpleNamespace(
            add=lambda *_: None, remove=lambda _: None, serve=lambda beside: self.between.append(beside)
        )
        self.stalls, self.process = Stalls(), Process(1, "app", None, None, None)
        self.stall = self.process.stall
        state = SimpleNamespace(
            stalls=self.stalls,
            guarantees=SimpleNamespace(processes=[None]),  # so others are looked at
            processes={1: self.process},
        )
        core = SimpleNamespace(state=state)
        engine = SimpleNamespace(
            now=lambda: self.now, core=core, submit=lambda event: self._serve(event.process_id, event.faults)
        )
        self.touched = []
        sampling = SimpleNamespace(touched=lambda _, faults: self.touched.append(faults))
        self.reader = FaultReader(engine, sampling, Sleep(), self.guaranteed, self.client, self.session, 1, self._fail)

    def _serve(self, process_id, faults):
        self.batches.append(faults)
        self.now += self.seconds

    def _fail(self, reason):
        self.failures.append(reason)
        self.reader.close()

    def close(self):
        self.reader.close()
        os.close(self.descriptor)
        os.close(self._other)


def in_loop(test):
    async def main():
        await test()

    asyncio.run(main())


def test_a_fault_of_a_session_that_has_ended_is_an_error_while_its_regions_are_still_there():
    async def test():
        refused = []
        world = World(lambda _: [FAULT][len(refused) :], refuse=refused.extend)
        world.process.ended = Unmapped("it has ended")
        world.reader.read()
        assert (refused, world.batches) == ([FAULT], [])
        world.close()

    in_loop(test)


def test_faults_that_tell_of_a_touch_are_a_cost_of_sampling():
    async def test():
        waiting = [[FAULT], [TOUCH], []]
        world = World(lambda _: waiting.pop(0))
        world.reader.read()
        assert (world.batches, world.touched) == ([[FAULT]], [[TOUCH]])
        world.close()

    in_loop(test)


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, MAX_ROUNDS), (0.6 * TURN_SECONDS, 2), (2 * TURN_SECONDS, 1)])
def test_faults_that_take_long_leave_the_loop_its_turns(seconds, rounds):
    async def test():
        world = World(lambda _: [FAULT])
        world.seconds = seconds
        world.reader.read()
        assert len(world.batches) == rounds
        world.close()

    in_loop(test)


def test_the_time_that_faults_take_to_be_served_has_been_a_wait_and_that_between_them_has_not():
    async def test():
        waiting = [[FAULT], [], [FAULT, FAULT]]

        def read(_):
            world.now += 0.00001
            return waiting.pop(0) if waiting else []

        world = World(read)
        world.seconds = 0.0001
        world.reader._faulted = lambda *_: 1.0
        world.reader.read()
        assert len(world.batches) == 2
        assert world.stall.seconds(world.now) == world.stalls.all.seconds(world.now) == pytest.approx(0.00022)
        world.close()

    in_loop(test)


def test_a_wait_that_outlasts_the_turn_goes_on_and_later_turns_are_part_of_it():
    async def test():
        waiting = [[FAULT], [], [FAULT], []]
        world = World(lambda _: waiting.pop(0))
        world.seconds = 0.25
        world.process.missing = 1
        world.reader.read()
        world.now = 1.0
        assert world.stall.seconds(world.now) == world.stalls.all.seconds(world.now) == 1.0
        waiting.pop(0)
        world.reader.read()
        world.stalls.end(world.stall, 1.5)
        assert world.stall.seconds(2.0) == world.stalls.all.seconds(2.0) == 1.5
        world.close()

    in_loop(test)


def test_clients_with_a_guarantee_are_served_between_the_faults_of_another_one():
    async def test():
        world = World(lambda _: [FAULT])
        world.reader.read()
        assert world.between == [1] * MAX_ROUNDS
        world.close()

    in_loop(test)


@pytest.mark.parametrize(("memory_min", "ways"), [(0, []), (1, ["gave way"])])
def test_a_thread_of_a_client_with_a_guarantee_need_not_wait_for_the_cpu_of_the_loop(monkeypatch, memory_min, ways):
    found = []
    monkeypatch.setattr(os, "sched_yield", lambda: found.append("gave way"))

    async def test():
        world = World(lambda _: [FAULT])
        world.process.memory_min = memory_min
        world.reader.serve_once()
        world.close()

    in_loop(test)
    assert found == ways


def test_served_between_those_of_another_client_faults_are_served_once_and_nobody_between_them():
    async def test():
        world = World(lambda _: [FAULT])
        world.reader.serve_once()
        assert (len(world.batches), world.between) == (1, [])
        world.close()

    in_loop(test)


def test_faults_that_another_operation_has_read_are_served_once_after_it():
    async def test():
        waiting = [[FAULT], []]
        world = World(lambda _: waiting.pop(0) if waiting else [])
        world.client.on_early()
        world.client.on_early()
        assert world.batches == []
        await asyncio.sleep(0)
        assert world.batches == [[FAULT]]
        world.client.on_early()
        world.close()
        await asyncio.sleep(0)
        assert len(world.batches) == 1

    in_loop(test)


def test_its_own_fault_may_end_it():
    async def test():
        world = World(lambda _: [FAULT])
        world._serve = lambda *_: (world.batches.append(FAULT), world.reader.close())
        world.reader.read()
        assert world.batches == [FAULT]
        world.close()

    in_loop(test)


@pytest.mark.parametrize("broken", [False, True])
def test_what_cannot_be_read_ends_the_session_and_is_logged_unless_the_client_is_gone(monkeypatch, logged, broken):
    def read(_):
        raise OSError(5, "odd")

    async def test():
        monkeypatch.setattr(uffd, "broken", lambda _: broken)
        world = World(read)
        world.reader.read()
        assert world.failures == ["its userfaultfd reports no more faults"]
        world.close()

    in_loop(test)
    assert [line["event"] for line in logged] == ([] if broken else ["faults_not_read"])


def test_a_client_of_too_many_pieces_or_without_a_userfaultfd_is_ended(monkeypatch):
    async def test():
        world = World(list)
        world.reader.check()
        assert world.failures == []
        world.client.piece_count = MAX_PIECES + 1
        world.reader.check()
        assert f"more than {MAX_PIECES} pieces" in world.failures[-1]
        monkeypatch.setattr(uffd, "broken", lambda _: True)
        world.reader.check()
        assert world.failures[-1] == "its userfaultfd reports no more faults"
        world.close()

    in_loop(test)


class Limited(World):
    """A reader whose descriptor can be read all the time. Faults wait until the test answers them."""

    def __init__(self, most):
        self.asked, self.refused = [], []
        super().__init__(self._read, refuse=self.refused.extend, has_early=False)
        self.process.max_faults, self.process.faults_limited = most, True
        os.write(self._other, b"f")

    def _read(self, most):
        self.asked.append(most)
        return [FAULT] * (1 if most is None else most)

    def _serve(self, process_id, faults):
        super()._serve(process_id, faults)
        self.process.missing += len(faults)

    def answer(self, count):
        before = self.process.missing
        self.process.missing -= count
        if self.process.missing < self.process.max_faults <= before:
            self.session.on_room()


async def turns():
    for _ in range(8):
        await asyncio.sleep(0)


def test_at_its_limit_faults_stay_in_the_kernel_unlooked_at_until_fewer_wait():
    async def test():
        world = Limited(3)
        await turns()
        assert (world.asked, world.process.missing) == ([3], 3)
        world.reader.read()
        world.reader.serve_once()
        assert world.asked == [3]
        world.answer(2)
        await turns()
        assert (world.asked, world.process.missing) == ([3, 2], 3)
        world.process.max_faults = 1000
        world.session.on_room()
        world.reader.serve_once()
        assert world.asked == [3, 2, 997]
        world.close()
        world.session.on_room()
        await turns()
        assert world.asked == [3, 2, 997]

    in_loop(test)


def test_at_its_limit_a_client_is_not_among_those_that_are_served_between_faults_of_others():
    async def test():
        world = Limited(1)
        seen = []
        world.guaranteed.add = lambda *_: seen.append("add")
        world.guaranteed.remove = lambda _: seen.append("remove")
        await turns()
        world.answer(1)
        assert seen == ["remove", "add"]
        world.close()

    in_loop(test)


def test_faults_that_another_operation_has_read_at_the_limit_are_served_when_fewer_wait():
    async def test():
        world = Limited(1)
        await turns()
        os.read(world.descriptor, 1)
        world.client.has_early = True
        world.client.on_early()
        await turns()
        assert len(world.batches) == 1
        world.answer(1)
        await turns()
        assert len(world.batches) == 2
        world.close()

    in_loop(test)


def test_what_waits_at_the_limit_when_the_session_ends_is_an_error():
    async def test():
        world = Limited(1)
        await turns()
        world.process.ended = Unmapped("it has ended")
        world.session.on_room()
        world.reader.serve_once()
        assert (world.refused, len(world.batches)) == ([FAULT], 1)
        world.close()

    in_loop(test)

"""That connections to the clients' socket are found among the descriptors, and closed where they are too many."""

import asyncio
import os
import socket
import threading
from collections import Counter
from itertools import pairwise

import pytest

from tests.support.waiting import wait_until_async
from usmd.errors import LimitExceeded
from usmd.server import connections as module
from usmd.server.connections import Connections
from usmd.server.excess import GRACE_SECONDS, Sessions


class Watched:
    """A server that takes all that comes, and what looks after its connections."""

    def __init__(self, tmp_path, of_user):
        self.path = tmp_path / "s"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        self.held = frozenset()
        self.accepted = []
        self.ours = []
        self.connections = Connections(
            self.path, lambda: Sessions(self.held, Counter(), 0), of_user=of_user, in_all=1000
        )

    def connect(self):
        mine = socket.socket(socket.AF_UNIX)
        mine.connect(str(self.path))
        mine.setblocking(False)
        self.ours.append(mine)
        self.accepted.append(self.listener.accept()[0])

    def open(self):
        """Our connections that were not shut down."""
        return [number for number, each in enumerate(self.ours) if not _at_end(each)]

    async def until(self, condition, what):
        def look():
            self.connections.tick()
            return condition()

        await wait_until_async(look, what)

    async def close(self):
        await self.connections.close()
        for each in (self.listener, *self.ours, *self.accepted):
            each.close()


def _at_end(connection):
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False


def watched(tmp_path, test, of_user=2):
    async def main():
        scene = Watched(tmp_path, of_user)
        try:
            await test(scene)
        finally:
            await scene.close()

    asyncio.run(main())


def test_connections_beyond_the_limit_are_shut_down_and_no_other_descriptor_is(tmp_path, logged):
    async def test(scene):
        other, far = socket.socketpair()
        for _ in range(5):
            scene.connect()
        await scene.until(lambda: scene.open() == [0, 1], "three are shut down")
        await scene.until(lambda: len(scene.connections.peers) == 2 or len(scene.open()) == 2, "they are forgotten")
        other.send(b"x")
        assert far.recv(1) == b"x"
        own = (other, far, scene.listener, *scene.ours, *scene.accepted)
        assert all(os.fstat(each.fileno()) for each in own)
        other.close()
        far.close()

    watched(tmp_path, test)
    [line] = [each for each in logged if each["event"] == "connections_closed"]
    assert (line["uid"], line["pid"], line["connections"]) == (os.getuid(), os.getpid(), 3)


@pytest.mark.parametrize("session", [False, True])
def test_memory_that_grows_while_strangers_are_connected_disconnects_them_alone(tmp_path, monkeypatch, logged, session):
    used = [1000]
    monkeypatch.setattr(Connections, "_used", lambda _: used[0])
    monkeypatch.setattr(module, "YOUNG_SECONDS", 0.0)

    async def test(scene):
        scene.held = frozenset([os.getpid()] if session else [])
        await scene.until(lambda: scene.connections._base == 1000, "memory is known before anybody comes")
        scene.connect()
        await scene.until(lambda: scene.connections.peers, "the connection is found")
        used[0] += module.STRANGER_BYTES + 1
        if session:
            await scene.until(lambda: scene.connections._base == used[0], "it is a session's doing")
            assert scene.open() == [0]
        else:
            await scene.until(lambda: scene.open() == [], "the stranger is disconnected")

    watched(tmp_path, test)
    assert [each["connections"] for each in logged if each["event"] == "connections_closed"] == ([] if session else [1])


def test_it_looks_no_more_once_it_is_closed(tmp_path):
    """A tick may come while the daemon drains; the numbers of what it looked through may be others' by then."""

    async def drained():
        nobody = Sessions(frozenset(), Counter(), 0)
        looks = Connections(tmp_path / "s", lambda: nobody, of_user=1, in_all=1)
        looks.tick()
        await looks.close()
        for _ in range(100):
            looks.tick()

    asyncio.run(drained())


def test_while_strangers_are_connected_memory_is_looked_at_between_two_ticks(tmp_path, monkeypatch):
    used = [1000]
    monkeypatch.setattr(Connections, "_used", lambda _: used[0])
    monkeypatch.setattr(module, "YOUNG_SECONDS", 0.0)

    async def test(scene):
        await scene.until(lambda: scene.connections._base == 1000, "memory is known before anybody comes")
        scene.connect()
        await scene.until(lambda: scene.connections._strangers, "the stranger is found")
        scene.connections.tick()
        used[0] += module.STRANGER_BYTES + 1
        await wait_until_async(lambda: scene.open() == [], "it is disconnected, and no tick came")

    watched(tmp_path, test)


def test_memory_that_strangers_gave_back_is_not_theirs_to_take_again(tmp_path, monkeypatch):
    used = [module.STRANGER_BYTES]
    monkeypatch.setattr(Connections, "_used", lambda _: used[0])
    monkeypatch.setattr(module, "YOUNG_SECONDS", 0.0)

    async def test(scene):
        await scene.until(lambda: scene.connections._base == used[0], "memory is known before anybody comes")
        scene.connect()
        await scene.until(lambda: scene.connections._strangers, "the stranger is found")
        used[0] = 1000
        await scene.until(lambda: scene.connections._base == 1000, "memory has fallen")
        used[0] += module.STRANGER_BYTES + 1
        await scene.until(lambda: scene.open() == [], "the stranger is disconnected")

    watched(tmp_path, test)


def test_a_call_of_a_process_is_refused_once_for_each_connection_that_is_too_many(tmp_path):
    async def test(scene):
        told = []

        async def admitted():
            try:
                await scene.connections.admit(os.getpid(), os.getuid())
            except LimitExceeded as error:
                told.append(str(error))
                return False
            return True

        for _ in range(2):
            scene.connect()
        assert await admitted()
        for _ in range(2):
            scene.connect()
        calls = await asyncio.gather(*(admitted() for _ in range(5)))  # which come before any tick
        assert calls.count(False) == len(told) == 2
        assert "may have 2 (server.max_user_connections" in told[0]
        assert scene.open() == [0, 1, 2, 3]
        for each in scene.ours[2:]:
            each.close()
        for each in scene.accepted[2:]:
            each.close()
        del scene.ours[2:], scene.accepted[2:]
        await scene.connections._look()
        assert await admitted()

    watched(tmp_path, test)


def test_a_connection_that_stays_although_it_is_too_many_is_closed_after_a_while(tmp_path):
    async def test(scene):
        began = asyncio.get_running_loop().time()
        for _ in range(3):
            scene.connect()
        await scene.until(lambda: scene.open() == [0, 1], "it is closed")
        assert asyncio.get_running_loop().time() - began >= GRACE_SECONDS

    watched(tmp_path, test)


def test_calls_that_no_ticket_vouches_for_wait_for_no_look(tmp_path):
    async def test(scene):
        for _ in range(3):
            scene.connect()
        await scene.connections.admit(None, None)
        assert scene.connections.peers == {}

    watched(tmp_path, test)


def test_descriptors_are_looked_through_in_a_thread_and_the_loop_looks_at_sockets_alone(tmp_path, monkeypatch):
    threads, examined = [], []
    listed, examine = module._descriptors, Connections._examine
    monkeypatch.setattr(module, "_descriptors", lambda: threads.append(threading.get_ident()) or list(listed()))
    monkeypatch.setattr(
        Connections,
        "_examine",
        lambda self, descriptor, *rest: examined.append(descriptor) or examine(self, descriptor, *rest),
    )

    async def test(scene):
        scene.connect()
        file = os.open(os.devnull, os.O_RDONLY)
        await scene.connections._look()
        assert scene.accepted[0].fileno() in examined
        assert file not in examined
        os.close(file)
        assert len(scene.connections.peers) == 1
        assert threading.get_ident() not in threads

    watched(tmp_path, test)


def test_sockets_are_looked_at_in_parts(tmp_path, monkeypatch):
    turns, looked = [], []
    monkeypatch.setattr(module, "_sockets", lambda: (list(range(1000)), 0.0))
    monkeypatch.setattr(Connections, "_examine", lambda _self, descriptor, *_rest: looked.append(descriptor))

    async def test(scene):
        def beat():
            turns.append(len(looked))
            asyncio.get_running_loop().call_soon(beat)

        asyncio.get_running_loop().call_soon(beat)
        await scene.connections._look()

    watched(tmp_path, test)
    assert looked == list(range(1000))
    assert max(after - before for before, after in pairwise([*turns, 1000])) <= module.SLICE


def test_without_a_thread_the_loop_looks_through_the_descriptors_itself(tmp_path, monkeypatch):
    async def no_thread(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(asyncio, "to_thread", no_thread)

    async def test(scene):
        scene.connect()
        await scene.connections._look()
        assert len(scene.connections.peers) == 1

    watched(tmp_path, test)

"""Which connections to the clients' socket are closed, and that those are found among the descriptors."""

import asyncio
import os
import socket
from collections import Counter

import pytest

from tests.support.waiting import wait_until_async
from usmd.server import connections as module
from usmd.server.connections import A_SESSION, Connections, Peer, Sessions, too_many


def peers(*owners):
    """Connections in the order of their making, of (pid, uid)."""
    return [Peer(10 + number, 100 + number, pid, uid, float(number)) for number, (pid, uid) in enumerate(owners)]


def sessions(*owners):
    return Sessions(frozenset(pid for pid, _ in owners), Counter(uid for _, uid in owners), 0)


def closed(there, holders, of_user, in_all):
    return sorted(peer.descriptor - 10 for peer, _ in too_many(there, holders, of_user, in_all))


def test_a_user_loses_its_youngest_beyond_what_it_may_have():
    there = peers((1, 7), (1, 7), (2, 8), (1, 7))
    assert closed(there, sessions(), 2, 100) == [3]
    assert closed(there, sessions(), 3, 100) == []


def test_connections_of_sessions_go_last_and_each_session_allows_some_more():
    there = peers(*[(1, 7)] * 10, (2, 7))
    assert closed(there, sessions((2, 7)), 2, 100) == [2 + A_SESSION - 1 + n for n in range(10 - A_SESSION - 1)]


def test_a_process_of_one_connection_keeps_it_beside_another_of_many():
    there = peers((1, 7), (1, 7), (1, 7), (2, 7))
    assert closed(there, sessions(), 2, 100) == [1, 2]


def test_beyond_what_all_may_have_the_user_with_most_loses_some():
    there = peers((1, 7), (2, 8), (1, 7), (1, 7))
    assert closed(there, sessions(), 10, 2) == [2, 3]


def test_the_reason_names_the_limit_and_its_number():
    [(_, why)] = too_many(peers((1, 7), (1, 7)), sessions(), 1, 100)
    assert why == "user 7 may have 1 (server.max_user_connections, and 4 a session)"


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
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(5):
            scene.connect()
        await scene.until(lambda: scene.open() == [0, 1], "three are shut down")
        await scene.until(lambda: len(scene.connections.peers) == 2 or len(scene.open()) == 2, "they are forgotten")
        other.send(b"x")
        assert far.recv(1) == b"x"
        assert before <= set(os.listdir("/proc/self/fd"))
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
        looks = Connections(tmp_path / "s", sessions, of_user=1, in_all=1)
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

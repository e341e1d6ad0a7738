"""Connections are accepted as they come, and the daemon rests when one cannot be."""

import asyncio
import socket

import pytest

from tests.support.waiting import wait_until_async
from usmd.server import listener
from usmd.server.identity import bound
from usmd.server.listener import Listener


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s"


def connect(path):
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.connect(str(path))
    except OSError:
        peer.close()
        raise
    return peer


def test_each_connection_is_accepted_and_does_not_block(path):
    async def main():
        accepted = []
        listening = Listener(bound(path, 0o600, socket.SOCK_STREAM), accepted.append, pytest.fail)
        peers = [connect(path) for _ in range(3)]
        await wait_until_async(lambda: len(accepted) == 3, "all are accepted")
        assert [each.getblocking() for each in accepted] == [False] * 3
        listening.close()
        with pytest.raises(ConnectionRefusedError):
            connect(path)
        for each in (*accepted, *peers):
            each.close()

    asyncio.run(main())


class Out:
    """A socket that has no descriptors to accept with, `times` times."""

    def __init__(self, bound, times):
        self._bound = bound
        self._left = times

    def __getattr__(self, name):
        return getattr(self._bound, name)

    def accept(self):
        if self._left:
            self._left -= 1
            raise OSError(24, "Too many open files")
        return self._bound.accept()


@pytest.mark.parametrize("closed", [False, True])
def test_after_one_that_cannot_be_accepted_it_rests_and_tries_again_unless_it_is_closed(path, closed, monkeypatch):
    monkeypatch.setattr(listener, "REST_SECONDS", 0.01)

    async def main():
        accepted, refused = [], []
        out = Out(bound(path, 0o600, socket.SOCK_STREAM), 1)
        listening = Listener(out, accepted.append, refused.append)
        peer = connect(path)
        await wait_until_async(lambda: refused, "it cannot be accepted")
        if not closed:
            await wait_until_async(lambda: accepted, "it is accepted")
        listening.close()
        assert refused == ["Too many open files"]
        for each in (*accepted, peer):
            each.close()

    asyncio.run(main())

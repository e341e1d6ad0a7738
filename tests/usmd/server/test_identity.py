"""The identity socket: tickets for those who connect, each once and not for long, and their end told at once."""

import asyncio
import os
import re
import stat

import pytest

from tests.support.waiting import wait_until_async
from usmd.errors import UnknownSession
from usmd.server.identity import Identities

SECONDS = 60


def run(tmp_path, conversation, timeout=SECONDS, **limits):
    async def main():
        identities = Identities(timeout=timeout, **limits)
        path = tmp_path / "s.identity"
        identities.serve(path, 0o640)
        descriptors = len(os.listdir("/proc/self/fd"))
        try:
            await conversation(identities, path)
            await wait_until_async(lambda: identities.connections == 0, "all connections have ended")
            await wait_until_async(lambda: len(os.listdir("/proc/self/fd")) <= descriptors, "its own are closed")
        finally:
            identities.close()

    asyncio.run(main())


async def connect(path):
    reader, writer = await asyncio.open_unix_connection(path)
    ticket = (await asyncio.wait_for(reader.readline(), SECONDS)).decode().strip()
    return ticket, reader, writer


def test_a_ticket_stands_for_the_process_and_user_at_the_other_end(tmp_path):
    async def conversation(identities, path):
        ticket, _, writer = await connect(path)
        identity = identities.find(ticket)
        assert (identity.pid, identity.uid, identity.gid) == (os.getpid(), os.getuid(), os.getgid())
        writer.close()

    run(tmp_path, conversation)


def test_a_ticket_is_good_once_and_a_forged_one_never(tmp_path):
    async def conversation(identities, path):
        ticket, _, writer = await connect(path)
        for forged in ("", "forged", ticket[:-1], ticket + "\n"):
            with pytest.raises(UnknownSession):
                identities.find(forged)
        identities.find(ticket)
        with pytest.raises(UnknownSession, match="unknown, used or too old"):
            identities.find(ticket)
        writer.close()

    run(tmp_path, conversation)


def test_one_who_does_not_attach_is_closed_after_the_timeout_and_its_ticket_is_void(tmp_path):
    async def conversation(identities, path):
        ticket, reader, writer = await connect(path)
        assert await asyncio.wait_for(reader.read(), SECONDS) == b""
        with pytest.raises(UnknownSession):
            identities.find(ticket)
        writer.close()

    run(tmp_path, conversation, timeout=0.02)


def test_a_claimed_identity_outlives_the_timeout_and_its_end_is_told(tmp_path):
    async def conversation(identities, path):
        ticket, _, writer = await connect(path)
        gone = asyncio.Event()
        identities.find(ticket).on_gone = gone.set
        identities._timeout = 0.02
        _, reader, other = await connect(path)
        assert await asyncio.wait_for(reader.read(), SECONDS) == b""
        assert identities.connections == 1
        writer.write(b"\xff\x00garbage" * 10000)
        await writer.drain()
        assert not gone.is_set()
        writer.close()
        await asyncio.wait_for(gone.wait(), SECONDS)
        other.close()

    run(tmp_path, conversation)


def test_one_who_leaves_before_attaching_leaves_nothing_behind(tmp_path):
    async def conversation(identities, path):
        for _ in range(50):
            ticket, _, writer = await connect(path)
            writer.transport.abort()
        await wait_until_async(lambda: identities.connections == 0, "all connections have ended")
        with pytest.raises(UnknownSession):
            identities.find(ticket)

    run(tmp_path, conversation)


def test_the_daemon_may_close_the_connection_and_the_end_is_told(tmp_path):
    async def conversation(identities, path):
        ticket, reader, writer = await connect(path)
        identity = identities.find(ticket)
        gone = asyncio.Event()
        identity.on_gone = gone.set
        identity.close()
        assert await asyncio.wait_for(reader.read(), SECONDS) == b""
        await asyncio.wait_for(gone.wait(), SECONDS)
        writer.close()

    run(tmp_path, conversation)


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"of_user": 2}, "!user .* has 2 connections without a session to the identity socket; .* allows 2"),
        ({"in_all": 2}, "!there are 2 connections to the identity socket; .* allows 2"),
    ],
)
def test_connections_beyond_the_limit_get_the_reason_and_no_ticket(tmp_path, limits, why):
    async def conversation(identities, path):
        first, second, third = await connect(path), await connect(path), await connect(path)
        assert first[0] != second[0]
        assert re.fullmatch(why, third[0])
        first[2].close()
        await wait_until_async(lambda: identities.connections == 1, "it is connected")
        fourth = await connect(path)
        assert not fourth[0].startswith("!")
        for _, _, writer in (second, third, fourth):
            writer.close()

    run(tmp_path, conversation, **limits)


def test_a_claimed_ticket_counts_no_more_for_its_user(tmp_path):
    async def conversation(identities, path):
        writers = []
        for _ in range(3):
            ticket, _, writer = await connect(path)
            identities.find(ticket)
            writers.append(writer)
        for writer in writers:
            writer.close()

    run(tmp_path, conversation, of_user=1)


def test_the_socket_has_its_mode(tmp_path):
    async def conversation(identities, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    run(tmp_path, conversation)


def test_close_ends_every_connection_and_tells(tmp_path):
    async def conversation(identities, path):
        ticket, reader, writer = await connect(path)
        gone = asyncio.Event()
        identities.find(ticket).on_gone = gone.set
        identities.close()
        await asyncio.wait_for(gone.wait(), SECONDS)
        assert await reader.read() == b""
        writer.close()

    async def main():
        identities = Identities(timeout=SECONDS)
        identities.serve(tmp_path / "s.identity", 0o600)
        await conversation(identities, tmp_path / "s.identity")

    asyncio.run(main())

"""Operators' connections go on to gRPC, which knows their callers by them; nothing is lost, and little is kept."""

import asyncio
import errno
import os
import socket
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest

from tests.support.waiting import wait_until_async
from usmd.server import operators as module
from usmd.server.grpc_server import bind
from usmd.server.operators import Operator, Operators

MIB = 1 << 20


class Inner:
    """In the place of gRPC: connections as they come."""

    def __init__(self, path):
        self.connections = []
        self._path = path

    async def serve(self):
        self._server = await asyncio.start_unix_server(lambda *ends: self.connections.append(ends), self._path)

    async def accepted(self, count):
        await wait_until_async(lambda: len(self.connections) == count, f"{count} connections")
        return self.connections[-1]

    def close(self):
        for _, writer in self.connections:
            writer.close()
        self._server.close()


def run(folder, conversation, *, serves=True, of_user=100, in_all=100):
    async def main():
        inner = Inner(folder / "inner")
        operators = Operators(folder / "inner", of_user, in_all)
        if serves:
            await inner.serve()
        operators.serve(folder / "outer", 0o640)
        try:
            await conversation(operators, inner)
        finally:
            if serves:
                inner.close()
            await operators.close()

    asyncio.run(main())


async def connect(folder):
    return await asyncio.open_unix_connection(folder / "outer")


def test_bytes_go_both_ways_and_the_end_of_one_side_is_that_of_the_other(tmp_path):
    async def conversation(operators, inner):
        assert os.stat(tmp_path / "outer").st_mode & 0o777 == 0o640
        reader, writer = await connect(tmp_path)
        theirs, answers = await inner.accepted(1)
        writer.write(b"question")
        assert await theirs.readexactly(8) == b"question"
        answers.write(b"answer" * MIB)
        answers.close()
        assert await reader.read() == b"answer" * MIB
        writer.close()

        _, writer = await connect(tmp_path)
        theirs, _ = await inner.accepted(2)
        writer.close()
        assert await theirs.read() == b""

    run(tmp_path, conversation)


def test_what_is_not_read_is_not_kept(tmp_path):
    async def conversation(operators, inner):
        reader, writer = await connect(tmp_path)
        theirs, answers = await inner.accepted(1)
        for sender, receiver in ((answers, reader), (writer, theirs)):
            receiver._transport.pause_reading()
            sent = []

            def waits(sender=sender, sent=sent):
                sender.write(bytes(1 << 16))
                sent.append(1 << 16)
                return sender.transport.get_write_buffer_size() > 1 << 16

            await wait_until_async(waits, "neither the kernel nor usmd takes any more")
            assert sum(sent) < 8 * MIB
            receiver._transport.resume_reading()
            assert len(await receiver.readexactly(sum(sent))) == sum(sent)
        writer.close()

    run(tmp_path, conversation)


def test_grpc_shows_who_calls_and_knows_nobody_that_comes_by_another_way(tmp_path):
    async def conversation(operators, _):
        seen = []

        class Handler(grpc.GenericRpcHandler):
            def service(self, details):
                async def answer(request, context):
                    seen.append(operators.caller(context))
                    return request

                return grpc.unary_unary_rpc_method_handler(answer)

        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Handler(),))
        bind(server, tmp_path / "inner", 0o600)
        await server.start()
        for name in ("outer", "outer", "inner"):
            async with grpc.aio.insecure_channel(f"unix:{tmp_path / name}") as channel:
                assert await channel.unary_unary("/a/b")(b"x") == b"x"
        await server.stop(0)
        assert seen == [Operator(os.getpid(), os.getuid())] * 2 + [None]
        await wait_until_async(lambda: not operators._by_name, "what has ended is forgotten")

    run(tmp_path, conversation, serves=False)


@pytest.mark.parametrize(
    ("of_user", "in_all", "why"),
    [
        (1, 100, "user {uid} has 1 connections to the admin socket; server.max_user_connections allows 1"),
        (100, 2, "user {uid} has 1 connections to the admin socket; usmd's limit of open files allows 1"),
        (100, 0, "user {uid} has 0 connections to the admin socket; usmd's limit of open files allows 0"),
    ],
)
def test_a_connection_beyond_a_users_is_told_why_and_closed_and_logged(tmp_path, logged, of_user, in_all, why):
    async def conversation(operators, inner):
        taken = [await connect(tmp_path) for _ in range(min(in_all, 1))]
        for _ in range(2):
            reader, writer = await connect(tmp_path)
            assert await reader.read() == f"!{why.format(uid=os.getuid())}\n".encode()
            writer.close()
        assert len(operators._by_name) == len(taken)
        for _, writer in taken:
            writer.close()

    run(tmp_path, conversation, of_user=of_user, in_all=in_all)
    assert [(each["event"], each["socket"], each["pid"]) for each in logged] == [
        ("connections_refused", "admin", os.getpid())
    ]


def test_a_connection_counts_until_both_of_its_ends_are_closed(tmp_path):
    async def conversation(operators, inner):
        reader, writer = await connect(tmp_path)
        reader._transport.pause_reading()
        _, answers = await inner.accepted(1)

        def waits():
            answers.write(bytes(1 << 14))
            return any(end.transport.get_write_buffer_size() for end in operators._ends)

        await wait_until_async(waits, "the kernel takes no more, and usmd has the rest")
        answers.close()
        await wait_until_async(lambda: len(operators._ends) == 1, "gRPC's end is closed")
        refused, other = await connect(tmp_path)
        assert (await refused.read()).startswith(b"!user")
        other.close()
        writer.close()
        await wait_until_async(lambda: not operators._by_name, "it counts no more")
        _, writer = await connect(tmp_path)
        await inner.accepted(2)
        writer.close()

    run(tmp_path, conversation, of_user=1)


def test_a_connection_that_grpc_does_not_take_is_closed_and_logged(tmp_path, logged):
    async def conversation(operators, _):
        reader, writer = await connect(tmp_path)
        assert await reader.read() == b"!No such file or directory\n"
        writer.close()

    run(tmp_path, conversation, serves=False)
    assert [(each["event"], each["error"]) for each in logged] == [
        ("operators_socket_refused", "No such file or directory")
    ]


def test_without_a_descriptor_to_go_on_with_a_connection_is_closed_and_logged(tmp_path, logged, monkeypatch):
    def none_left(*arguments):
        raise OSError(24, "Too many open files")

    async def conversation(operators, inner):
        monkeypatch.setattr(module, "socket", SimpleNamespace(**vars(socket) | {"socket": none_left}))
        reader, writer = await connect(tmp_path)
        assert await reader.read() == b"!Too many open files\n"
        writer.close()

    run(tmp_path, conversation)
    assert [(each["event"], each["error"]) for each in logged] == [("operators_socket_refused", "Too many open files")]


@pytest.mark.parametrize("end", ["create_unix_connection", "connect_accepted_socket"])
def test_a_connection_that_the_loop_does_not_take_is_closed_on_both_sides_and_logged(
    tmp_path, logged, monkeypatch, end
):
    async def refuse(*_, **__):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    async def conversation(operators, inner):
        monkeypatch.setattr(asyncio.get_running_loop(), end, refuse)
        with socket.socket(socket.AF_UNIX) as operator:
            operator.setblocking(False)
            operator.connect(str(tmp_path / "outer"))
            assert await asyncio.get_running_loop().sock_recv(operator, 100) == b"!Cannot allocate memory\n"
        theirs, _ = await inner.accepted(1)
        assert await theirs.read() == b""
        await wait_until_async(lambda: not operators._by_name, "it is forgotten")

    run(tmp_path, conversation)
    assert [(each["event"], each["error"]) for each in logged] == [
        ("operators_socket_refused", "Cannot allocate memory")
    ]


def test_at_the_end_what_was_answered_still_arrives(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CLOSE_SECONDS", 60.0)  # a busy machine takes longer than an operator may

    async def conversation(operators, inner):
        reader, writer = await connect(tmp_path)
        _, answers = await inner.accepted(1)
        answers.write(b"last" * MIB)
        answers.close()
        reading = asyncio.create_task(reader.read())
        await operators.close()
        assert len(await reading) == 4 * MIB
        writer.close()

    run(tmp_path, conversation)

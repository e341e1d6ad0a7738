"""Binding gRPC to a Unix socket; the options are looked at by tests/docs/test_security.py and tests/hostile."""

import asyncio
import os
import socket
import stat

import grpc.aio
import pytest

from tests.support import raw_http2
from usmd.errors import ConfigError
from usmd.server.grpc_server import SERVER_OPTIONS, bind, start

NOT_UTF_8 = b"/\xba\xbb/Load"


def test_the_socket_has_its_mode_from_the_start_and_the_umask_is_as_it_was(tmp_path):
    async def main():
        server = grpc.aio.server(options=SERVER_OPTIONS)
        before = os.umask(0o022)
        try:
            bind(server, tmp_path / "a b", 0o640)
            assert os.umask(0o022) == 0o022
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "a b").stat().st_mode) == 0o640
        await server.stop(0)

    asyncio.run(main())


def test_a_place_where_it_cannot_be_is_named(tmp_path):
    async def main():
        server = grpc.aio.server(options=SERVER_OPTIONS)
        with pytest.raises(ConfigError, match=f"socket {tmp_path}/no/s cannot be bound"):
            bind(server, tmp_path / "no" / "s", 0o600)
        await server.stop(0)

    asyncio.run(main())


def call_by_bytes(path):
    """A call of a method whose name is no UTF-8."""
    fields = raw_http2.call_headers("/", "").replace(b"\x01/", bytes((len(NOT_UTF_8),)) + NOT_UTF_8, 1)
    assert NOT_UTF_8 in fields
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60)
        peer.connect(str(path))
        frame = raw_http2.frame(raw_http2.HEADERS, raw_http2.END_HEADERS | raw_http2.END_STREAM, 1, fields)
        peer.sendall(raw_http2.PREFACE + raw_http2.frame(raw_http2.SETTINGS, 0, 0) + frame)
        answer = b""
        while b"grpc-status" not in answer:
            part = peer.recv(65536)
            assert part, answer
            answer += part
    return answer


def test_a_call_whose_name_is_no_utf_8_is_unknown_and_ends_nothing(tmp_path):
    async def answers(request, context):
        with pytest.raises(UnicodeDecodeError):
            request.decode()
        return b"strict"

    async def main():
        server = grpc.aio.server(options=SERVER_OPTIONS)
        methods = {"Ask": grpc.unary_unary_rpc_method_handler(answers)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", methods),))
        bind(server, tmp_path / "s", 0o600)
        await start(server)
        for _ in range(3):
            answer = await asyncio.to_thread(call_by_bytes, tmp_path / "s")
            assert b"12" in answer.partition(b"grpc-status")[2][:8]  # UNIMPLEMENTED
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
            assert await channel.unary_unary("/test/Ask")(NOT_UTF_8) == b"strict"
        await server.stop(0)

    asyncio.run(main())
    with pytest.raises(UnicodeDecodeError):
        NOT_UTF_8.decode()

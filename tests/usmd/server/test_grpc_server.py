"""Binding gRPC to a Unix socket; the options are looked at by tests/docs/test_security.py and tests/hostile."""

import asyncio
import os
import stat

import grpc.aio
import pytest

from usmd.errors import ConfigError
from usmd.server.grpc_server import SERVER_OPTIONS, bind


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

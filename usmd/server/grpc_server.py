"""Options of gRPC's servers, how they are bound to Unix sockets, and how they are started."""

from __future__ import annotations

import asyncio
import codecs
import os
import types
import weakref
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import grpc.aio

from usmd.errors import ConfigError
from usmd.server.admission import MAX_MESSAGE, STREAM_WINDOW

MAX_CONCURRENT_CALLS: Final = 32
"""Calls of one connection at a time. Answers of up to 1 MiB are kept for a client that does not read them."""
SERVER_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", MAX_CONCURRENT_CALLS),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.http2.lookahead_bytes", STREAM_WINDOW),
    ("grpc.http2.bdp_probe", 0),  # which would widen the window of a stream that is not read
    # A Unix socket itself reports that its peer is gone. lib_usm reads a stream only while a thread waits on it: after
    # two quiet hours gRPC would ping the client, get no answer, and end the stream.
    ("grpc.keepalive_time_ms", 0x7FFFFFFF),
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.absolute_max_metadata_size", 16 << 10),
    ("grpc.server_handshake_timeout_ms", 10_000),
)
"""Options of gRPC for both sockets. They bound what it keeps of a connection before anything is read."""


def bind(server: grpc.aio.Server, path: Path, mode: int) -> None:
    """Bind a server to a Unix socket, which has this file mode from the start. Raises ConfigError."""
    before = os.umask(0o777 & ~mode)
    try:
        server.add_insecure_port(f"unix:{quote(str(path))}")
    except RuntimeError as error:
        raise ConfigError(f"socket {path} cannot be bound ({error}); choose another path") from error
    finally:
        os.umask(before)


_takes_calls_in: Final[weakref.WeakSet[asyncio.Task[Any]]] = weakref.WeakSet()
"""gRPC's own tasks that take calls in."""


async def start(server: grpc.aio.Server) -> None:
    """Start a server, which no call can end.

    gRPC reads the name of a method as UTF-8 in the task that takes calls in. An error there ends the server with all
    its calls, so one call of a stranger would end all sessions. For that task such bytes are U+FFFD, and the method is
    one that does not exist. For all else in the process, Python's strict reading stays what it is.
    """
    before = asyncio.all_tasks()
    await server.start()
    began = asyncio.all_tasks() - before
    _takes_calls_in.update(task for task in began if not isinstance(task.get_coro(), types.CoroutineType))
    codecs.register_error("strict", _strict)


def _strict(error: UnicodeError) -> tuple[str, int]:
    """Python's error handler `strict`, but for gRPC's tasks that take calls in."""
    if isinstance(error, UnicodeDecodeError) and _within_grpc():
        return "\N{REPLACEMENT CHARACTER}", error.end
    raise error


def _within_grpc() -> bool:
    try:
        return asyncio.current_task() in _takes_calls_in
    except RuntimeError:  # there is no loop in this thread
        return False

"""The program of a forked daemon: usmd, with a door through which a test asks for marks in its log.

A mark is a log line that the event loop writes on request. A test that has read a mark has read all lines that the
daemon wrote before, and the lines of everything that the loop was doing at that time.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import structlog

MARK = "test_mark"


def serve(arguments: Sequence[str], door: socket.socket, changes: Sequence[str]) -> None:
    """Run `usmd serve` after the `changes`: functions (`module:name`) that break usmd on purpose."""
    from tests.support import io_ways
    from usmd.cli import main
    from usmd.server.daemon import Daemon

    io_ways.use_way_of_environment()
    for change in changes:
        module, _, name = change.partition(":")
        getattr(importlib.import_module(module), name)()
    run = Daemon.run

    async def run_with_door(daemon: Daemon) -> int:
        loop = asyncio.get_running_loop()
        loop.add_reader(door, _mark, loop, door)
        try:
            return await run(daemon)
        finally:
            loop.remove_reader(door)
            door.close()

    Daemon.run = run_with_door  # type: ignore[method-assign]
    sys.argv = ["usmd", "serve", *arguments]
    main()


def run_usmd(arguments: Sequence[str]) -> None:
    """Run `usmd` without a door, for starts that are refused."""
    from usmd.cli import main

    sys.argv = ["usmd", *arguments]
    main()


def run_usmctl(arguments: Sequence[str]) -> None:
    """Run `usmctl`."""
    from usmd.ctl.cli import main

    sys.argv = ["usmctl", *arguments]
    sys.exit(main())


def _mark(loop: asyncio.AbstractEventLoop, door: socket.socket) -> None:
    asked = door.recv(4096)
    if asked:
        # After the callbacks that are already due.
        loop.call_soon(_log_marks, len(asked))
    else:
        loop.remove_reader(door)
        os.kill(os.getpid(), signal.SIGTERM)  # the test process has ended


def _log_marks(count: int) -> None:
    for _ in range(count):
        structlog.get_logger().warning(MARK)


def is_mark(line: dict[str, Any]) -> bool:
    """Whether a log line is a mark."""
    return line.get("event") == MARK

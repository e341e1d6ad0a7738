"""The calls that a gRPC server is answering, so that its end can wait for their answers.

A server that stops announces it on each connection, and closes the connection when no call is left on it. A client that
writes at that moment finds it closed, drops what it has not read, and never learns how its call ended.
"""

from __future__ import annotations

import asyncio

from usmd.server.admission import Context

QUIET_SECONDS = 0.05
"""Without a call for so long, clients that have learned of the end are done with it."""


class RunningCalls:
    """The calls of one server that have begun and whose status is not written yet."""

    def __init__(self) -> None:
        self._running: set[asyncio.Future[None]] = set()

    def began(self, context: Context) -> None:
        """A call has begun."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running.add(over)

        def end(_: Context) -> None:
            self._running.discard(over)
            if not over.done():  # else who waited was cancelled
                over.set_result(None)

        context.add_done_callback(end)  # type: ignore[arg-type]  # the stubs take instances of a class of theirs alone

    async def answered(self) -> None:
        """Wait until the calls that run now have ended, and their status is written.

        Then until no further call comes: a client calls once more, and that is refused with the reason as well.
        """
        while self._running:
            await asyncio.wait(set(self._running))
            await asyncio.sleep(QUIET_SECONDS)

"""Spreads calls over turns of the loop, so that many at the same time do not keep the loop from everything else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


def _nothing() -> None:
    """Take the room of a call."""


class FewATurn:
    """Makes calls in their order, at most `most` in a turn of the loop; the others wait for the next turns."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most
        self._waiting: deque[Callable[[], object]] = deque()

    def call(self, function: Callable[[], object]) -> None:
        """Call a function, at once if this turn has room for it."""
        if self._waiting or not self._left:
            self._waiting.append(function)
        else:
            self._call(function)

    async def turn(self) -> None:
        """Wait for a turn as if for a call: until the functions given so far have been called, and there is room."""
        if not self._waiting and self._left:
            self._call(_nothing)
            return
        come: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def comes() -> None:
            if not come.done():  # else its waiter was cancelled
                come.set_result(None)

        self._waiting.append(comes)
        await come

    def _call(self, function: Callable[[], object]) -> None:
        if self._left == self._most:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._left -= 1
        function()

    def _next_turn(self) -> None:
        self._left = self._most
        while self._waiting and self._left:
            self._call(self._waiting.popleft())

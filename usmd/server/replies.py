"""Replies to requests whose work may go on after the call that submitted them, by number."""

from __future__ import annotations

import asyncio
import itertools


class Replies:
    """The requests that wait for a reply."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._due: dict[int, asyncio.Future[int]] = {}

    def expect(self) -> tuple[int, asyncio.Future[int]]:
        """A number for a request, and the future of its reply; the reply may come before the request is submitted."""
        number = next(self._numbers)
        due = self._due[number] = asyncio.get_running_loop().create_future()
        return number, due

    def drop(self, number: int) -> None:
        """The request was refused: no reply comes."""
        del self._due[number]

    def give(self, number: int, result: int = 0) -> None:
        """The reply has come."""
        due = self._due.pop(number)
        if not due.done():  # else its caller waits no longer
            due.set_result(result)

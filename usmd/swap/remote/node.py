"""One server: pipelines to it, what its answers and failures mean, and how long it is left alone after a failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    OutOfMemoryError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from usmd.swap.remote.exchange import Exchange
from usmd.swap.remote.requests import PLACED, Breaker, Failure, Places, Reply, Request

FAILED: Final = (RedisError, RedisClusterException, OSError)
"""What the library raises."""


def failure_of(error: BaseException) -> Failure:
    """What an exception of the library means."""
    why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, OutOfMemoryError):
        return Failure(why, full=True)
    refused = isinstance(error, (ResponseError, AuthenticationError, AuthorizationError))
    return Failure(why, unknown=not refused)


class Node:
    """One server: its client, and its failures."""

    def __init__(self, client: redis.Redis, clock: Callable[[], float]) -> None:
        self.client = client
        self.breaker = Breaker(clock)

    def run(self, commands: Sequence[Request], into: Places = ()) -> list[Any]:
        """Perform commands in one pipeline; one answer, exception of the library, PLACED or Failure for each."""
        with self.begin(commands, into) as call:
            return call.answers()

    def begin(self, commands: Sequence[Request], into: Places = ()) -> Call:
        """Send commands. What fails, `answers` of the call tells."""
        return Call(self, commands, into)


class Call:
    """Commands that a server was sent. It is a context, which must be left."""

    def __init__(self, node: Node, commands: Sequence[Request], into: Places) -> None:
        self.late = False
        """The server did not answer in time."""
        self._breaker = node.breaker
        self._count = len(commands)
        self._exchange = Exchange(node.client, commands, into)
        self._failure: Failure | None = None
        if not self._breaker.lets_through():
            self._failure = Failure(f"it is asked again in a moment; {self._breaker.why}")
            return
        try:
            self._exchange.send()
        except ResponseError as error:  # of what the library sends first on a connection
            self._failure = failure_of(error)
        except FAILED as error:
            self._fail(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exchange.close()

    def _fail(self, error: BaseException) -> None:
        self._failure = failure_of(error)
        self.late = isinstance(error, (redis.TimeoutError, TimeoutError))
        self._breaker.failed(self._failure.why)

    def answers(self, *, patient: bool = True) -> list[Any]:
        """One answer, exception of the library, PLACED or Failure for each command.

        Not `patient`: the time for an answer is over, and one that has not begun to arrive does not come.
        """
        if self._failure is None:
            try:
                answers = self._exchange.answers(patient=patient)
            except ResponseError as error:
                self._failure = failure_of(error)
            except FAILED as error:
                self._fail(error)
            else:
                self._breaker.answered()
                return answers
        return [self._failure] * self._count


def replies_of(answers: Sequence[Any], into: Places = ()) -> list[Reply]:
    """What callers get for answers of the library."""
    found: list[Reply] = [failure_of(each) if isinstance(each, BaseException) else each for each in answers]
    for index, buffers in enumerate(into):
        reply = found[index]
        if isinstance(reply, bytes) and len(reply) == sum(buffer.nbytes for buffer in buffers):
            rest = memoryview(reply)
            for buffer in buffers:
                buffer[:] = rest[: buffer.nbytes]
                rest = rest[buffer.nbytes :]
            found[index] = PLACED
    return found

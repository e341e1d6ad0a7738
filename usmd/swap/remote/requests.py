"""Requests to servers, what may come back in place of an answer, and the pauses after failures of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

PAUSES: Final = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds after the first, second, ... failure in a row for which a server is not asked again."""
BATCH: Final = 256
"""Requests in one pipeline, where there may be very many."""

_Item = TypeVar("_Item")
Argument = bytes | str | int | memoryview


Request = tuple[Argument, ...]
"""A command with a key, which decides the server. The key follows the command's name, or the number of keys of EVAL."""


def key_of(request: Request) -> str:
    """The key of a request."""
    return str(request[3 if request[0] == "EVAL" else 1])


def in_batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Items, BATCH at a time."""
    for first in range(0, len(items), BATCH):
        yield items[first : first + BATCH]


class Failure(NamedTuple):
    """In place of an answer."""

    why: str
    full: bool = False
    """The server has no memory left."""
    unknown: bool = False
    """It is not known whether the request was performed, or still will be."""


Reply = object
"""An answer, PLACED, or a Failure."""


class Placed(NamedTuple):
    """In place of an answer whose bytes are in the buffers that were given for it."""


PLACED: Final = Placed()

Places = Sequence[Sequence[memoryview]]
"""For each of some requests the buffers, one or more, that its answer is to fill one after the other."""


class Servers(Protocol):
    """The servers of a keyspace. Methods block up to the timeout for answers, and may be called in any thread."""

    def run(self, requests: Sequence[Request], into: Places = ()) -> list[Reply]:
        """Perform requests, pipelined per server; one answer or Failure for each, in order. Raises nothing.

        With `into`, an answer that is exactly as long as its buffers is written to them, and PLACED in its place; after
        another answer or a Failure their content is unspecified. Such requests may be performed twice.
        """
        ...

    def ask_all(self, *command: Argument) -> list[Reply]:
        """Have each primary perform a command; one answer or Failure for each."""
        ...

    def scan(self, pattern: str) -> tuple[list[bytes], list[Failure]]:
        """The keys of all primaries that match a pattern, and the failures."""
        ...

    def away(self) -> list[str]:
        """The servers that do not answer, with the reason."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class Breaker:
    """Tells when to ask a server that failed again: its requests fail at once until then, and hold no thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.why = ""
        """Why the last request failed; empty: it did not."""
        self._clock = clock
        self.failures = 0
        """Requests in a row that had no answer."""
        self._until = 0.0

    def lets_through(self) -> bool:
        """Whether the server may be asked now."""
        return not self.failures or self._clock() >= self._until

    def failed(self, why: str) -> None:
        """A request had no answer."""
        self.why = why
        self._until = self._clock() + PAUSES[min(self.failures, len(PAUSES) - 1)]
        self.failures += 1

    def answered(self) -> None:
        """A request had an answer."""
        if self.failures:
            self.failures = 0
            self.why = ""

"""Bounds the memory and the time that reading a call's message may take before the caller is known.

gRPC gathers a whole message, up to MAX_MESSAGE bytes, once it is asked to read; until then it keeps one stream window.
So a call's message is read only in its turn. A session's calls have turns of their own. Calls without a token share a
few turns, or use the turn of the ticket that they show. Messages on a session's open streams need no turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc.aio

from usm_wire.conventions import TICKET_KEY, TOKEN_KEY
from usmd.errors import InvalidArgument, LimitExceeded

Context = grpc.aio.ServicerContext[Any, Any]

MAX_MESSAGE: Final = 4 << 20
"""Bytes of a message that gRPC gathers. A method's own limit is lower, and is checked before the message is parsed."""
STREAM_WINDOW: Final = 64 << 10
"""Bytes of a message that gRPC accepts before it is asked to read it."""
STRANGERS: Final = 8
"""Messages read at a time, of all callers without a token or ticket together."""
STRANGER_SECONDS: Final = 2.0
"""Time for such a message to be complete, once its turn has begun."""
QUEUE_SECONDS: Final = 10.0
"""How long such a call waits for its turn."""
SESSION_READS: Final = 8
"""Messages read at a time, of one session's calls."""
SESSION_SECONDS: Final = 10.0
"""Time for such a message to be complete, once its turn has begun."""


class Turns:
    """At most `count` messages read at a time, each within `seconds`; a call waits for its turn for `patience`."""

    def __init__(self, count: int, seconds: float, patience: float | None = None) -> None:
        self._free = asyncio.Semaphore(count)
        self._count = count
        self._seconds = seconds
        self._patience = patience

    async def read(self, context: Context) -> object:
        """The next message, or EOF; raises LimitExceeded if the turn or the message takes too long."""
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise LimitExceeded(
                f"usmd reads {self._count} messages of callers without a token at a time, and none of them ended "
                f"within {self._patience:g} s; attach with a ticket of the identity socket as metadata {TICKET_KEY}"
            ) from None
        try:
            async with asyncio.timeout(self._seconds):
                return await context.read()
        except TimeoutError:
            raise LimitExceeded(f"the message was not complete within {self._seconds:g} s; send it at once") from None
        finally:
            self._free.release()


def metadata_of(context: Context, key: str) -> str | None:
    """The value of a key of the call's metadata; None if it is absent or not text."""
    for name, value in context.invocation_metadata() or ():
        if name == key:
            return value if isinstance(value, str) else None
    return None


class Admission:
    """Finds the turns of a call. If a token or ticket is unknown, `of_token` raises and `of_ticket` returns None."""

    def __init__(self, of_token: Callable[[str | None], Turns], of_ticket: Callable[[str], Turns | None]) -> None:
        self._of_token = of_token
        self._of_ticket = of_ticket
        self._strangers = Turns(STRANGERS, STRANGER_SECONDS, QUEUE_SECONDS)

    async def read(self, context: Context) -> object:
        """The message of a session's call; raises UnknownSession, before anything is read, if its token is unknown."""
        return _one(await self._of_token(metadata_of(context, TOKEN_KEY)).read(context))

    async def read_stranger(self, context: Context) -> object:
        """The message of a call that needs no token; a valid ticket gives it a turn of its own."""
        ticket = metadata_of(context, TICKET_KEY)
        turns = self._of_ticket(ticket) if ticket else None
        return _one(await (turns or self._strangers).read(context))

    async def read_strangers(self, context: Context) -> AsyncIterator[object]:
        """The messages of a stream that needs no token."""
        while (message := await self._strangers.read(context)) is not grpc.aio.EOF:
            yield message


def _one(message: object) -> object:
    if message is grpc.aio.EOF:
        raise InvalidArgument("a call without a message; send one")
    return message

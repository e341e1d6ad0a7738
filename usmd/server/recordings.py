"""The recording of a live process: its touches, kept until the stream has taken them, and dropped beyond a bound."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator
from typing import Final

from usm_wire.pb.usm.v1 import admin_pb2
from usmd.server.taps import Change, split

MAX_WAITING: Final = 1 << 20
"""Accesses kept for a stream that does not take them, 16 MiB; later ones are dropped and counted."""
MESSAGE_ACCESSES: Final = 1 << 16
"""Accesses in a message, about; 576 KiB."""
FLUSH_SECONDS: Final = 0.1
"""How long accesses wait to be sent with others."""
HEARTBEAT_SECONDS: Final = 1.0
"""After so long a message is sent in any case, so that the reader knows that the recording continues."""


class Recording:
    """A listener that keeps touches. `started`: seconds of the engine's clock."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._touches = array("q")
        self._seconds = array("d")
        self._counts = array("I")
        self._ended = asyncio.Event()
        self._reason = ""
        self.dropped = 0

    def touched(self, touches: array[int], now: float) -> None:
        """Keep touches while there is room."""
        count = len(touches) // 2
        if len(self._touches) + len(touches) > 2 * MAX_WAITING:
            self.dropped += count
            return
        self._touches.extend(touches)
        self._seconds.append(now - self._started)
        self._counts.append(count)

    def changed(self, change: Change, now: float) -> None:
        """Does nothing: a recording has touches alone."""

    def ended(self, reason: str) -> None:
        """Let the stream end after the touches that are kept."""
        self._reason = reason
        self._ended.set()

    async def messages(self) -> AsyncIterator[admin_pb2.RecordedAccesses]:
        """Messages of touches, about ten a second, until the process ends."""
        quiet = 0.0
        while not self._ended.is_set():
            try:
                await asyncio.wait_for(self._ended.wait(), FLUSH_SECONDS)
            except TimeoutError:
                quiet += FLUSH_SECONDS
            if self._touches or quiet >= HEARTBEAT_SECONDS:
                quiet = 0.0
                yield self._take()
                while len(self._touches) > MESSAGE_ACCESSES:
                    yield self._take()
        while self._touches:
            yield self._take()
        yield admin_pb2.RecordedAccesses(dropped=self.dropped, ended=self._reason or "the process ended")

    def _take(self) -> admin_pb2.RecordedAccesses:
        """Take the oldest touches, as a message."""
        groups = accesses = 0
        for count in self._counts:
            if groups and accesses + count > MESSAGE_ACCESSES:
                break
            groups += 1
            accesses += count
        pages, kinds = split(self._touches[: 2 * accesses])
        message = admin_pb2.RecordedAccesses(
            seconds=self._seconds[:groups],
            counts=self._counts[:groups],
            pages=pages,
            kinds=kinds,
            dropped=self.dropped,
        )
        del self._touches[: 2 * accesses], self._seconds[:groups], self._counts[:groups]
        return message

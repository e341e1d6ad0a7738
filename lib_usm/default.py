"""The client that `lib_usm.mmap` uses: made at the first call, closed when the program ends."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Final, SupportsIndex

from lib_usm.arguments import shown
from lib_usm.client import Client, Region
from lib_usm.errors import ClosedError, ConnectionLost, SessionKilled, UnknownSession, WrongType
from lib_usm.hints import Hint


class DefaultClient:
    """Makes a client when one is first needed, and another after the session of that one has ended, or in a child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._registered = False
        # A thread of the parent may have had the lock at the fork. Its client is left alone, with what is in it.
        os.register_at_fork(after_in_child=self._forget)

    def get(self) -> Client:
        """Client of the module-level calls, made if need be. Raises what `connect` raises."""
        with self._lock:
            if self._client is None or self._client.ended:
                # The last one is not closed: its regions go on to say what ended their session, and arrays keep it.
                self._client = Client()
                if not self._registered:
                    atexit.register(self.close)
                    self._registered = True
            return self._client

    def mmap(self, length: SupportsIndex, name: str | None, reserve: bool) -> Region:
        """Make a region; with a new client, if it shows now that the session of the last one has ended."""
        client = self.get()
        try:
            return client.mmap(length, name=name, reserve=reserve)
        except (ClosedError, SessionKilled, UnknownSession, ConnectionLost):
            if not client.ended:
                raise
        return self.get().mmap(length, name=name, reserve=reserve)

    def close(self) -> None:
        """Close the client, if there is one."""
        if self._client is not None:
            self._client.close()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        if self._client is not None:
            _parents.append(self._client)
            self._client.close()  # its descriptors here, by which the daemon would miss the parent's death
            self._client = None


_parents: Final[list[Client]] = []
"""Clients of the parent process, which are never taken apart here: parts of them are gRPC's."""
_default = DefaultClient()


def default_client() -> Client:
    """Client of the module-level calls, connected to the default address. Raises what `connect` raises."""
    return _default.get()


def mmap(length: SupportsIndex, name: str | None = None, *, reserve: bool = False) -> Region:
    """Make a region of `length` zero bytes with the default client; see Client.mmap."""
    return _default.mmap(length, name, reserve)


def usm_hint(region: Region, text: str, offset: SupportsIndex = 0, length: SupportsIndex | None = None) -> Hint:
    """Say something about a range of `region`, whichever client made it; see Client.usm_hint."""
    if not isinstance(region, Region):
        raise WrongType(f"{shown(region)} is no region; use one that `mmap` of a client gave")
    return region.client.usm_hint(region, text, offset, length)

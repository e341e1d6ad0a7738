"""The client of `lib_usm.mmap`: made at the first call, closed when the program ends."""

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
    """Makes a client at the first use, and a new one after its session has ended, or in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._registered = False
        # A thread of the parent may have held the lock at the fork, so the child gets a new one.
        os.register_at_fork(after_in_child=self._forget)

    def get(self) -> Client:
        """The client of the module-level calls, made if necessary. Raises what `connect` raises."""
        with self._lock:
            if self._client is None or self._client.ended:
                # The ended client is not closed: its regions keep reporting why their session ended, and arrays keep it
                # alive.
                self._client = Client()
                if not self._registered:
                    atexit.register(self.close)
                    self._registered = True
            return self._client

    def mmap(self, length: SupportsIndex, name: str | None, reserve: bool, fhp: str | None) -> Region:
        """Make a region. If this call finds that the session has ended, it makes a new client and tries again."""
        client = self.get()
        try:
            return client.mmap(length, name=name, reserve=reserve, fhp=fhp)
        except (ClosedError, SessionKilled, UnknownSession, ConnectionLost):
            if not client.ended:
                raise
        return self.get().mmap(length, name=name, reserve=reserve, fhp=fhp)

    def close(self) -> None:
        """Close the client, if there is one."""
        if self._client is not None:
            self._client.close()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        if self._client is not None:
            _parents.append(self._client)
            self._client.close()  # closes the child's copies of its descriptors, which would hide the parent's death
            self._client = None


_parents: Final[list[Client]] = []
"""Clients of the parent process. They are never deallocated here, because gRPC owns parts of them."""
_default = DefaultClient()


def default_client() -> Client:
    """The client of the module-level calls, connected to the default address. Raises what `connect` raises."""
    return _default.get()


def mmap(length: SupportsIndex, name: str | None = None, *, reserve: bool = False, fhp: str | None = None) -> Region:
    """Make a region of `length` zero bytes with the default client; see Client.mmap."""
    return _default.mmap(length, name, reserve, fhp)


def usm_hint(region: Region, text: str, offset: SupportsIndex = 0, length: SupportsIndex | None = None) -> Hint:
    """Give a hint on a range of `region`, which any client may have made; see Client.usm_hint."""
    if not isinstance(region, Region):
        raise WrongType(f"{shown(region)} is not a region; use one that `mmap` of a client gave")
    return region.client.usm_hint(region, text, offset, length)

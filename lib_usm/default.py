"""The client that `lib_usm.mmap` uses: made at the first call, closed when the program ends."""

from __future__ import annotations

import atexit
import threading
from typing import SupportsIndex

from lib_usm.arguments import shown
from lib_usm.client import Client, Hint
from lib_usm.errors import WrongType
from lib_usm.region import Region


class DefaultClient:
    """Makes a client when one is first needed, and another after that one was closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None

    def get(self) -> Client:
        """Client of the module-level calls, made if need be. Raises what `connect` raises."""
        with self._lock:
            if self._client is None or self._client.closed:
                client = Client()
                if self._client is None:
                    atexit.register(self.close)
                self._client = client
            return self._client

    def close(self) -> None:
        """Close the client, if there is one."""
        if self._client is not None:
            self._client.close()


_default = DefaultClient()


def default_client() -> Client:
    """Client of the module-level calls, connected to the default address. Raises what `connect` raises."""
    return _default.get()


def mmap(length: SupportsIndex, name: str | None = None, *, reserve: bool = False) -> Region:
    """Make a region of `length` zero bytes with the default client; see Client.mmap."""
    return default_client().mmap(length, name=name, reserve=reserve)


def usm_hint(region: Region, text: str, offset: SupportsIndex = 0, length: SupportsIndex | None = None) -> Hint:
    """Say something about a range of `region`, whichever client made it; see Client.usm_hint."""
    if not isinstance(region, Region):
        raise WrongType(f"{shown(region)} is no region; use one that `mmap` of a client gave")
    return region.client.usm_hint(region, text, offset, length)

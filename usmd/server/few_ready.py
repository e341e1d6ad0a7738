"""Readers of descriptors, of which the loop calls a few in a turn, however many descriptors are ready.

asyncio calls the readers of all ready descriptors in one turn. When a process with very many sessions dies, several
connections of each become ready together. The descriptors here are in an epoll set of their own. The loop sees the set
as one descriptor, which is ready while any of them is.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable


class FewReady:
    """Calls the readers of ready descriptors, at most `most` in a turn of the loop, each descriptor in its turn."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._set = select.epoll()
        self._readers: dict[int, Callable[[], object]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, descriptor: int, reader: Callable[[], object]) -> None:
        """Call `reader` while the descriptor is readable or its peer has closed it, until `remove`."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._set.fileno(), self._call)
        self._set.register(descriptor, select.EPOLLIN)
        self._readers[descriptor] = reader

    def remove(self, descriptor: int) -> None:
        """Forget a descriptor, which is still open. A second call does nothing."""
        if self._readers.pop(descriptor, None) is not None:
            self._set.unregister(descriptor)

    def _call(self) -> None:
        for descriptor, reader in [(ready, self._readers[ready]) for ready, _ in self._set.poll(0, self._most)]:
            # A reader before it may have removed it, and its number may be another descriptor's since.
            if self._readers.get(descriptor) is reader:
                reader()

    def close(self) -> None:
        """Call no reader any more."""
        if self._loop is not None:
            self._loop.remove_reader(self._set.fileno())
        self._readers.clear()
        self._set.close()

"""Loads and stores: moves bytes between a client's message and frames. Runs on the loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from usm_wire.pb.usm.v1 import client_pb2
from usmd.core import commands, events
from usmd.core.region import Region, page_key
from usmd.errors import InvalidArgument, OutOfRange
from usmd.server.engine import Engine, Touch

MAX_TRANSFER_BYTES: Final = 1 << 20
"""Most bytes of a load or store, unless a page is larger."""


class Transfers:
    """Moves bytes for the processes of one engine. Absent pages are those of the range, ascending."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._page_size = engine.core.state.settings.page_size
        self.limit = max(MAX_TRANSFER_BYTES, self._page_size)
        """Most bytes of a load or store."""

    def load(self, process_id: int, request: client_pb2.LoadRequest) -> tuple[bytes, Sequence[int]]:
        """The bytes up to the first absent page, and the absent pages; raises NotFound, InvalidArgument, OutOfRange."""
        length = request.length
        page, within = divmod(request.offset, self._page_size)
        first = page_key(request.region_id, page)
        data = b""

        def load(frames: Sequence[int]) -> None:
            nonlocal data
            resident = min(length, max(len(frames) * self._page_size - within, 0))
            data = self._engine.memory.load(frames, first, within, resident)

        accessed = self._access(process_id, request.region_id, request.offset, length, load, write=False)
        return data, accessed.absent

    def store(self, process_id: int, request: client_pb2.StoreRequest) -> tuple[int, Sequence[int]]:
        """How many bytes were stored, and the absent pages; raises NotFound, InvalidArgument, OutOfRange."""
        data = request.data
        page, within = divmod(request.offset, self._page_size)
        first = page_key(request.region_id, page)
        stored = 0

        def store(frames: Sequence[int]) -> None:
            nonlocal stored
            stored = self._engine.memory.store(frames, first, within, memoryview(data))

        accessed = self._access(process_id, request.region_id, request.offset, len(data), store, write=True)
        return stored, accessed.absent

    def _access(
        self, process_id: int, region_id: int, offset: int, length: int, touch: Touch, *, write: bool
    ) -> commands.Accessed:
        region: Region = self._engine.core.state.region(process_id, region_id)
        if not 1 <= length <= self.limit:
            raise InvalidArgument(f"{length} bytes in one call; allowed are 1 to {self.limit}")
        if offset + length > region.length:
            raise OutOfRange(
                f"bytes {offset} to {offset + length - 1} of region {region_id}, which has {region.length} bytes"
            )
        first = offset // self._page_size
        count = (offset + length - 1) // self._page_size - first + 1
        return self._engine.access(events.Access(process_id, region_id, first, count, write), touch)

"""The interface of swap devices: they write and read pages in batches, and verify each page that they read.

The base class keeps the checksums, and closes a device only when no job runs. The core owns slot numbers.
"""

from __future__ import annotations

import mmap
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

from usmd.errors import DataLoss, InvalidArgument, OutOfRange, SwapDeviceError, SwapIOError, UsmdError
from usmd.swap.checksum import checksums
from usmd.swap.slot_io import SlotIO

__all__ = ["MAX_DEVICES", "Results", "SlotIO", "SwapDevice", "Usage"]

MAX_DEVICES = 32
"""Most devices of a daemon; their numbers are 0 to 31."""

_ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS

Results = list[UsmdError | None]
"""One result per entry of a batch, in order; None is success."""


class Usage(NamedTuple):
    """What a device holds, in bytes."""

    capacity: int
    """Bytes that it may hold."""
    held: int
    """Bytes that it holds, with the waste."""
    stored: int
    """Bytes of pages in the form in which it stores them, without the waste."""


class SwapDevice(ABC):
    """A numbered store of pages, divided into slots of one page each.

    All methods block; the daemon calls them in worker threads. Jobs on different slots may run at the same time; two
    jobs on one slot may not. A device defines `_store`, `_fetch` and `_close`, and `_release` if it can free memory.
    """

    kind: ClassVar[str]
    read_jobs: ClassVar[int] = 1
    """Number of reads that are worth running at the same time."""
    patience: float = 0.0
    """Seconds for which a page that cannot be read is tried again, beyond the tries that every device gets."""

    def __init__(self, *, number: int, name: str, path: str | None, slots: int, page_size: int) -> None:
        """Make an empty device.

        Raises InvalidArgument for an invalid number or size, SwapDeviceError without memory.
        """
        if not 0 <= number < MAX_DEVICES:
            raise InvalidArgument(f"swap device {name}: number {number} is not in 0 to {MAX_DEVICES - 1}")
        if slots < 1 or page_size < 1:
            raise InvalidArgument(f"swap device {name}: {slots} slots of {page_size} bytes; both must be at least 1")
        self.number = number
        self.name = name
        self.path = path
        self.slots = slots
        self.page_size = page_size
        try:
            # 8 bytes a slot; 0: the slot is empty. Mapped, so that only used slots take memory.
            self._checksums = memoryview(mmap.mmap(-1, slots * 8, flags=_ANONYMOUS)).cast("Q")
        except (OSError, OverflowError) as error:
            raise SwapDeviceError(
                f"swap device {name}: no memory for the checksums of {slots} slots, 8 bytes each ({error}); "
                "make the device smaller"
            ) from error
        self._jobs_lock = threading.Lock()
        self._no_jobs = threading.Condition(self._jobs_lock)
        self._jobs = 0
        self._closed = False

    def write(self, batch: Sequence[SlotIO]) -> Results:
        """Write each entry's buffer to its slot.

        An entry that fails gets SwapIOError; one that the device does not accept gets Refused (NoRoom: until a slot is
        freed). Its slot is then empty, and the other entries are not affected. Raises OutOfRange or InvalidArgument for
        an entry that fits no slot, before anything is written.
        """
        self._check(batch)
        if not self._enter():
            return self._all_closed(batch)
        try:
            kept = self._checksums
            fresh = checksums(batch)
            # Cleared first, because a write that fails halfway has already destroyed the old bytes.
            for entry in batch:
                kept[entry.slot] = 0
            results = self._store(batch)
            for entry, checksum, error in zip(batch, fresh, results, strict=True):
                if error is None:
                    kept[entry.slot] = checksum
        finally:
            self._leave()
        return results

    def read(self, batch: Sequence[SlotIO]) -> Results:
        """Fill each entry's buffer from its slot.

        Result None promises that the buffer holds exactly the bytes written under the same (process, page, generation).
        DataLoss: the slot is empty, or its bytes are damaged or another key's. SwapIOError: the device failed. After an
        error the buffer's content is unspecified; the other entries are not affected. Raises OutOfRange or
        InvalidArgument for an entry that fits no slot, before anything is read.
        """
        self._check(batch)
        if not self._enter():
            return self._all_closed(batch)
        try:
            kept = self._checksums
            if all(kept[entry.slot] for entry in batch):
                return self._verified(batch)
            verified = iter(self._verified([entry for entry in batch if kept[entry.slot]]))
            return [
                next(verified) if kept[entry.slot] else self._lost(entry.slot, "nothing is written in it")
                for entry in batch
            ]
        finally:
            self._leave()

    def read_now(self, batch: Sequence[SlotIO]) -> Results | None:
        """As `read`, but without waiting for the device; None if that is not possible for all entries.

        May be called in a thread that must not block. After None the buffers' content is unspecified.
        """
        self._check(batch)
        kept = self._checksums
        expected = [kept[entry.slot] for entry in batch]
        if not all(expected) or not self._enter():
            return None
        try:
            results = self._fetch_now(batch)
            return None if results is None else self._verify(batch, results)
        finally:
            self._leave()

    def discard(self, slots: Iterable[int]) -> None:
        """Empty the slots; a read of one is then DataLoss. Raises OutOfRange for an invalid slot."""
        unwanted = list(slots)
        for slot in unwanted:
            if not 0 <= slot < self.slots:
                raise self._no_slot(slot)
        if not self._enter():
            return
        try:
            for slot in unwanted:
                self._checksums[slot] = 0
            self._release(unwanted)
        finally:
            self._leave()

    def usage(self, pages: int) -> Usage:
        """What the device holds while `pages` of its slots are in use; by default each takes the size of a page."""
        held = pages * self.page_size
        return Usage(self.slots * self.page_size, held, held)

    def close(self) -> None:
        """Wait for running jobs, then free everything; a second call does nothing.

        Later writes and reads answer SwapIOError. Raises SwapIOError if something cannot be freed.
        """
        with self._jobs_lock:
            if self._closed:
                return
            self._closed = True
            while self._jobs:
                self._no_jobs.wait()
        self._close()

    @abstractmethod
    def _store(self, batch: Sequence[SlotIO]) -> Results:
        """Write each entry's buffer to its slot; one result per entry: None, SwapIOError, Refused or NoRoom."""

    @abstractmethod
    def _fetch(self, batch: Sequence[SlotIO]) -> Results:
        """Fill each entry's buffer from its slot; one result per entry. The caller verifies the bytes."""

    def _fetch_now(self, batch: Sequence[SlotIO]) -> Results | None:
        """As `_fetch`, but without waiting for the device; None if that is not possible. By default it is not."""
        del batch
        return None

    def _release(self, slots: Sequence[int]) -> None:  # noqa: B027 - an optional hook, not an essential one
        """Free what the slots occupy, if that is cheap; by default nothing."""

    @abstractmethod
    def _close(self) -> None:
        """Free everything; called once, when no job runs."""

    def _verified(self, batch: Sequence[SlotIO]) -> Results:
        return self._verify(batch, self._fetch(batch))

    def _verify(self, batch: Sequence[SlotIO], results: Results) -> Results:
        """The results, with DataLoss for each entry whose bytes are not those that were written."""
        for index, found in enumerate(checksums(batch)):
            entry = batch[index]
            if found != self._checksums[entry.slot] and results[index] is None:
                results[index] = self._lost(
                    entry.slot,
                    f"its bytes are not those written for process {entry.process}, page {entry.page:#x}",
                )
        return results

    def _check(self, batch: Sequence[SlotIO]) -> None:
        slots, page_size = self.slots, self.page_size
        for slot, _, _, _, buffer in batch:
            if not 0 <= slot < slots:
                raise self._no_slot(slot)
            if buffer.nbytes != page_size:
                raise InvalidArgument(
                    f"{self._at(slot)}: a buffer of {buffer.nbytes} bytes; a slot takes exactly {page_size}"
                )

    def _enter(self) -> bool:
        with self._jobs_lock:
            if not self._closed:
                self._jobs += 1
            return not self._closed

    def _leave(self) -> None:
        with self._jobs_lock:
            self._jobs -= 1
            if self._closed and not self._jobs:
                self._no_jobs.notify_all()

    def _all_closed(self, batch: Sequence[SlotIO]) -> Results:
        return [SwapIOError(f"{self._at(entry.slot)}: the device is closed") for entry in batch]

    def _at(self, slot: int) -> str:
        return f"swap device {self.name}, slot {slot}"

    def _lost(self, slot: int, why: str) -> DataLoss:
        return DataLoss(f"{self._at(slot)}: {why}; the page is lost")

    def _no_slot(self, slot: int) -> OutOfRange:
        return OutOfRange(f"{self._at(slot)}: the device has slots 0 to {self.slots - 1}")

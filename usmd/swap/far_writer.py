"""Writes pages to the far part of a mirror, in a thread of its own: those just written to the local part, and repairs.

One thread alone, so that no two writes of one slot are ever under way. What was just written comes first, from a copy
in memory. What found no room there, or could not be written, is BEHIND: it is read from the local part later, no faster
than `repair_rate`. While the far part is away nothing is written but tries, one page each, with growing pauses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from usmd.errors import DataLoss, NoRoom, Refused
from usmd.swap.base import Results, SlotIO
from usmd.swap.copies import ALONE, BEHIND, BOTH, COMING, FAR
from usmd.swap.part_thread import Parts, PartThread

BATCH: Final = 64
"""Pages of a repair."""
WAITING_BYTES: Final = 4 << 20
"""Bytes of pages that wait in memory at most; one job beyond that is taken."""
REST_SECONDS: Final = 1.0
"""Pause of the repairs if the local part cannot be read, or the far one is full."""


class _Job(NamedTuple):
    """Pages to write: entries for both parts, with buffers of the job's own."""

    entries: list[SlotIO]
    repair: bool


def part_entry(slot: int, number: int, buffer: memoryview) -> SlotIO:
    """An entry of a mirror's part: its checksum covers the slot and the number of the write, which `Copies` knows."""
    return SlotIO(slot, 0, slot, number, buffer)


def fresh_entries(found: Sequence[tuple[int, int]], page_size: int) -> list[SlotIO]:
    """Entries to read slots of a part, each with the number of its write, into new memory."""
    view = memoryview(bytearray(page_size * len(found)))
    return [
        part_entry(slot, number, view[index * page_size : (index + 1) * page_size])
        for index, (slot, number) in enumerate(found)
    ]


class FarWriter(PartThread):
    """The thread that brings the far part up to date."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts, parts.far, self._run)
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        """Bytes of the jobs."""
        self._began: float | None = None
        """When the write under way began."""
        self._repair_at = 0.0
        self._thread.start()

    def offer(self, entries: Sequence[SlotIO]) -> None:
        """Write pages that the local part has just taken, from copies of their bytes; never waits.

        Those that find no room, or for which the far part is away, are BEHIND.
        """
        size = sum(entry.buffer.nbytes for entry in entries)
        room = not self._reachable.away and (self._waiting == 0 or self._waiting + size <= WAITING_BYTES)
        for entry in entries:
            self._copies.settle(entry.slot, entry.generation, COMING if room else BEHIND)
        copied = [entry._replace(buffer=memoryview(bytearray(entry.buffer))) for entry in entries] if room else []
        with self._changed:
            if copied:
                self._jobs.append(_Job(copied, repair=False))
                self._waiting += size
            self._changed.notify()

    def behind(self, slot: int, number: int) -> None:
        """The far part has lost a page, which is to be repaired."""
        self._copies.settle(slot, number, BEHIND)
        with self._changed:
            self._changed.notify()

    def failed_to_read(self, why: str) -> None:
        """The far part did not answer a read. It is away, and tried until it answers, also if nothing is written."""
        self._reachable.failed(self._clock(), why)
        with self._changed:
            self._changed.notify()

    def late(self, seconds: float) -> bool:
        """Whether a write has been under way for longer than that."""
        began = self._began
        return began is not None and self._clock() - began > seconds

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._write(job)
            except Exception:  # noqa: BLE001 - a defect of a device: logged with its traceback, and tried again later
                self._defect()
                self._failed(job.entries, "a defect, which the log has")
            finally:
                self._end()

    def _next(self) -> _Job | None:
        """Wait for something to do; None: the mirror closes."""
        while True:
            with self._changed:
                if self._closed:
                    return None
                now = self._clock()
                pause = self._reachable.wait(now)
                if not pause and not self._reachable.away and self._jobs:
                    return self._begin(self._jobs.popleft(), now)
                repairs = self._reachable.away or self._copies.count(BEHIND) > 0
                if not self._reachable.away:
                    pause = max(self._repair_at - now, 0.0)
                if pause > 0 or not repairs:
                    self._changed.wait(pause if repairs else None)
                    continue
            job = self._repair(1 if self._reachable.away else BATCH)
            if job is not None:
                with self._changed:
                    return self._begin(job, self._clock())

    def _begin(self, job: _Job, now: float) -> _Job:
        """Take what is still current of a job."""
        if not job.repair:
            self._waiting -= sum(entry.buffer.nbytes for entry in job.entries)
        current = [entry for entry in job.entries if self._copies.number(entry.slot) == entry.generation]
        self._active.update(entry.slot for entry in current)
        self._began = now
        return job._replace(entries=current)

    def _end(self) -> None:
        with self._changed:
            self._began = None
            self._active.clear()
            discarded, self._discarded = self._discarded, []
        if discarded:
            self._far.discard(discarded)

    def _write(self, job: _Job) -> None:
        if not job.entries:
            return
        failed: list[SlotIO] = []
        full = False
        why = ""
        for entry, error in zip(job.entries, self._far.write(job.entries), strict=True):
            if error is None:
                done = self._copies.settle(entry.slot, entry.generation, BOTH)
                self.repaired += job.repair and done
            elif isinstance(error, Refused):
                full = full or isinstance(error, NoRoom)  # which may pass
                self._copies.settle(entry.slot, entry.generation, BEHIND if isinstance(error, NoRoom) else ALONE)
            else:
                failed.append(entry)
                why = str(error)
        if len(failed) == len(job.entries):
            self._failed(failed, why)
        else:
            self._reachable.answered()
            self._are_behind(failed)
        if job.repair or failed or full:
            took = len(job.entries) * self._far.page_size / self._repair_rate
            self._repair_at = self._clock() + max(took, REST_SECONDS if full else 0.0)

    def _failed(self, entries: Sequence[SlotIO], why: str) -> None:
        """The far part did not take any page: what waits is BEHIND too."""
        self._reachable.failed(self._clock(), why)
        self._are_behind(entries)
        with self._changed:
            waiting = [entry for job in self._jobs for entry in job.entries]
            self._jobs.clear()
            self._waiting = 0
        self._are_behind(waiting)

    def _are_behind(self, entries: Sequence[SlotIO]) -> None:
        for entry in entries:
            self._copies.settle(entry.slot, entry.generation, BEHIND)

    def _repair(self, most: int) -> _Job | None:
        """Read pages that are BEHIND from the local part; None: nothing can be repaired now."""
        entries = fresh_entries(self._copies.find(BEHIND, most), self._local.page_size)
        errors: Results = self._local.read(entries)
        for entry, error in zip(entries, errors, strict=True):
            if isinstance(error, DataLoss):
                self._copies.settle(entry.slot, entry.generation, ALONE)
        read = [entry for entry, error in zip(entries, errors, strict=True) if error is None]
        if not read:
            if self._reachable.away:
                self._try_to_read()
            elif entries:
                self._repair_at = self._clock() + REST_SECONDS
            return None
        return _Job(read, repair=True)

    def _try_to_read(self) -> None:
        """Find out by a read whether the far part answers again, because there is nothing to write."""
        found = self._copies.find(BOTH) or self._copies.find(FAR)
        if not found:
            self._reachable.answered()
            return
        (entry,) = fresh_entries(found, self._far.page_size)
        (error,) = self._far.read([entry])
        if error is None or isinstance(error, DataLoss):
            self._reachable.answered()
        else:
            self._reachable.failed(self._clock(), str(error))
        if isinstance(error, DataLoss):
            self.behind(entry.slot, entry.generation)

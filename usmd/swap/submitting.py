"""Swap devices whose jobs can be submitted from the event loop, without a thread.

A submitted job that moves all its bytes ends here. Any other, as after a short transfer or an error, moved nothing that
counts: its caller runs it again in a thread, where the device finds out which page fails, and why.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

from usmd.swap.base import Results, SlotIO, SwapDevice
from usmd.swap.channel import DEPTH, Channel, Request
from usmd.swap.checksum import checksums

NO_JOB: Final = 0
"""The number of requests that belong to no job."""


class Submission:
    """A job to be submitted: entries whose buffers are side by side in memory from `address` on, in their order.

    `ended` is called on the loop with the job and its results, as of `SwapDevice.read` or `write`; None: run the job in
    a thread.
    """

    __slots__ = ("address", "batch", "ended", "failed", "left", "sums", "writing")

    def __init__(
        self, batch: Sequence[SlotIO], address: int, ended: Callable[[Any, Results | None], object], *, writing: bool
    ) -> None:
        self.batch = batch
        self.address = address
        self.ended = ended
        self.writing = writing
        self.failed = False
        """Whether a request of the job did not move all its bytes."""
        self.left = 0
        """Requests that have not completed."""
        self.sums: Sequence[int] = ()
        """Checksums of the entries of a write."""


class SubmittingDevice(SwapDevice):
    """A device that may have a channel. `submit` and `complete` are for the loop's thread alone, and never wait.

    A job's buffers belong to the kernel until the job has ended.
    """

    channel: Channel | None = None
    """None: all jobs run in threads."""
    way = "threads"
    """How jobs run: `threads`, or the channel's `way`."""
    why = ""
    """Why in this way."""

    def _open_channel(self, channel: Channel | None, why: str) -> None:
        """Use a channel, whose file is this device's."""
        self.channel = channel
        self.way = "threads" if channel is None else channel.way
        self.why = why
        self._requests: dict[int, tuple[Submission, int]] = {}
        """By number: the job of each request in flight, and the bytes that it is to move."""
        self._number = 0
        self.reading = 0
        """Pages of the reads in flight."""

    @property
    def room(self) -> int:
        """Requests that may be submitted now; a job has at most one an entry."""
        return DEPTH - len(self._requests)

    def submit(self, job: Submission) -> bool:
        """Submit a job; False if it must run in a thread, and has not begun.

        Raises OutOfRange or InvalidArgument for an entry that fits no slot.
        """
        batch, channel = job.batch, self.channel
        self._check(batch)
        kept = self._checksums
        if channel is None or len(batch) > self.room:
            return False
        if not job.writing:
            for entry in batch:
                if not kept[entry.slot]:
                    return False  # a thread tells which slot is empty
        if not self._enter():
            return False
        if job.writing:
            job.sums = checksums(batch)
            for entry in batch:  # as in `write`
                kept[entry.slot] = 0
        requests = self._requests_of(job)
        try:
            job.left = channel.submit(requests)
        finally:  # also after a defect of the channel
            if job.left < len(requests):
                job.failed = True
                for request in requests[job.left :]:
                    del self._requests[request[-1]]
            if not job.left:
                self._leave()
            elif not job.writing:
                self.reading += len(batch)
        return job.left > 0

    def _requests_of(self, job: Submission) -> list[Request]:
        """Numbered requests: one for each run of neighbours in the file and in memory."""
        size, address = self.page_size, job.address
        requests: list[Request] = []
        if len(job.batch) == 1:  # the usual case of a read
            self._add(requests, job, job.batch[0].slot, address, size)
            return requests
        first = count = 0
        for index, entry in enumerate(job.batch):
            if count and entry.slot == first + count:
                count += 1
                continue
            if count:
                self._add(requests, job, first, address + (index - count) * size, count * size)
            first, count = entry.slot, 1
        self._add(requests, job, first, address + (len(job.batch) - count) * size, count * size)
        return requests

    def _add(self, requests: list[Request], job: Submission, slot: int, address: int, length: int) -> None:
        self._number += 1
        self._requests[self._number] = job, length
        requests.append((job.writing, self._offset(slot), address, length, self._number))

    @abstractmethod
    def _offset(self, slot: int) -> int:
        """Where a slot begins in the channel's file, in bytes."""

    def _has_submitted(self, pages: int) -> None:
        """A write of `pages` pages through the channel has ended well."""

    def complete(self) -> None:
        """End the jobs whose requests have all completed."""
        channel = self.channel
        if channel is None:
            return
        for number, moved in channel.completed():
            if number == NO_JOB:
                continue
            job, length = self._requests.pop(number)
            if moved != length:
                job.failed = True
            job.left -= 1
            if not job.left:
                self._end(job)

    def _end(self, job: Submission) -> None:
        results: Results | None = None
        if not job.writing:
            self.reading -= len(job.batch)
        try:
            if not job.failed:
                results = [None] * len(job.batch)
                if job.writing:
                    for entry, checksum in zip(job.batch, job.sums, strict=True):
                        self._checksums[entry.slot] = checksum
                    self._has_submitted(len(job.batch))
                else:
                    results = self._verify(job.batch, results)
        finally:
            self._leave()
        job.ended(job, results)

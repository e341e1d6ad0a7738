"""Describes a recording: its progress, and its final contents."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from usmd.sizes import format_size
from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

RECORD_BYTES = 17


class Summary:
    """A recording so far. `ended`: why the process's accesses ended; empty if the recording was ended."""

    def __init__(self, header: admin_pb2.RecordingHeader) -> None:
        self.header = header
        self.accesses = 0
        self.faults = 0
        self.writes = 0
        self.pages: set[int] = set()
        self.dropped = 0
        self.ended = ""
        self._started = time.monotonic()

    def count(self, pages: Sequence[int], kinds: bytes) -> None:
        """Count accesses: their pages, and one byte each for the kind."""
        self.accesses += len(pages)
        self.pages.update(pages)
        self.faults += kinds.count(2) + kinds.count(3)
        self.writes += kinds.count(1) + kinds.count(3)

    @property
    def seconds(self) -> float:
        """Time since the recording began."""
        return time.monotonic() - self._started


def progress(summary: Summary) -> str:
    """The progress line."""
    rate = summary.accesses / max(summary.seconds, 1e-9)
    lost = f", {summary.dropped:,} lost" if summary.dropped else ""
    name = printable(summary.header.process_name)
    return (
        f"recording {name}: {summary.accesses:,} accesses in {summary.seconds:.0f} s, {rate:,.0f} a second{lost}; "
        "Ctrl-C ends it"
    )


def lines(summary: Summary, out: str) -> list[str]:
    """What was recorded, what is missing, and the next command."""
    header = summary.header
    size = format_size(summary.accesses * RECORD_BYTES)
    share = summary.faults / max(summary.accesses, 1)
    writes = summary.writes / max(summary.accesses, 1)
    target = "standard output" if out == "-" else printable(out)
    name, policy = printable(header.process_name), printable(header.evict_policy)
    pages = f"{len(summary.pages):,} pages ({format_size(len(summary.pages) * header.page_size)})"
    found = [
        f"{summary.accesses:,} accesses of {name} in {summary.seconds:.1f} s to {target} ({size})",
        f"{pages}; {writes:.1%} writes; {summary.faults:,} faults ({share:.1%}), with {policy}",
    ]
    if summary.ended:
        found.append(f"the process ended: {printable(summary.ended)}")
    if summary.dropped:
        found.append(f"{summary.dropped:,} accesses were lost, because they were not read in time")
    if header.faults_only:
        found.append(
            f"real memory ({header.mechanism}): these are page faults, first writes to clean pages, and "
            f"{others_seen(header.sampling)}"
        )
    if out != "-" and summary.accesses:
        # With as many frames as pages no page is evicted, and all policies are alike.
        frames = f"{header.frames},10%" if 0 < header.frames < len(summary.pages) else "10%,50%"
        name = printable(shlex.quote(out))
        found.append(f"next: usmctl replay {name} --frames {frames} --evict lru,arc,s3_fifo")
    return found


def are_sampled(sampling: str) -> bool:
    """Whether a recording or a shadow of real memory gets a sample of the touches that are no faults."""
    return bool(sampling) and not sampling.startswith("off: ")


def others_seen(sampling: str) -> str:
    """Which touches of pages in memory, beside first writes, a recording or a shadow of real memory gets."""
    if are_sampled(sampling):
        return (
            f"a sample of the other touches of pages in memory ({printable(sampling)}); with as much memory as now, "
            "misses were within 5% of those on all touches, with less further off (docs/benchmarks.md)"
        )
    return f"no other touches of pages in memory ({printable(sampling or 'off: unknown')})"


class RecordDocument(TypedDict):
    """A summary for programs; `file` is - for standard output."""

    file: str
    process_id: int
    process_name: str
    evict_policy: str
    frames: int
    page_size: int
    mechanism: str
    faults_only: bool
    sampling: str
    seconds: float
    accesses: int
    faults: int
    writes: int
    distinct_pages: int
    dropped: int
    ended: str


def as_document(summary: Summary, out: str) -> RecordDocument:
    """The summary as plain values, for programs."""
    header = summary.header
    return {
        "file": out,
        "process_id": header.process_id,
        "process_name": header.process_name,
        "evict_policy": header.evict_policy,
        "frames": header.frames,
        "page_size": header.page_size,
        "mechanism": header.mechanism,
        "faults_only": header.faults_only,
        "sampling": header.sampling,
        "seconds": summary.seconds,
        "accesses": summary.accesses,
        "faults": summary.faults,
        "writes": summary.writes,
        "distinct_pages": len(summary.pages),
        "dropped": summary.dropped,
        "ended": summary.ended,
    }

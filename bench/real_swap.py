"""Eviction and swap-in of real pages by usmd, to and from a file; part of `bench.real_faults`.

The data of one client is evicted; the time runs until the last page has left memory, which mincore tells without asking
the daemon. Swap-in is by touching: each touch of an absent page is a real fault, and the client's thread sleeps until
usmd has read the page. All bytes are compared with what was stored.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

import lib_usm
from bench.native import PAGE, Latency, Touch, address_of, present
from tools.own_daemon import running

MEMORY: Final = "128MiB"
SWAP: Final = "256MiB"
DATA: Final = 64 << 20
ROUNDS: Final = 3
RANDOM_TOUCHES: Final = 1500
SEQUENTIAL: Final = (1, 16, 64)
"""Pages per fault (FHP) of the sequential swap-ins."""
EVICTION_SECONDS: Final = 30.0
HOLD_SECONDS: Final = 0.5
"""Wait before an eviction: longer than usmd holds pages that were just brought in (memory.hold_seconds, 0.25)."""
_SEED: Final = 20
_POLL_SECONDS: Final = 0.002


class Data(NamedTuple):
    """The region under test, and what touches it."""

    client: lib_usm.Client
    region: lib_usm.Region
    touch: Touch
    swap: Path

    @property
    def address(self) -> int:
        """First address of the mapped region."""
        return address_of(self.region.buffer)

    def fill(self) -> None:
        """Make all pages dirty with random bytes."""
        self.region.ensure(0, DATA)
        self.touch.fill(self.address, 0, DATA, _SEED)

    def evict(self) -> float:
        """Evict all pages; returns the seconds until the last one has left. Raises RuntimeError if one stays."""
        time.sleep(HOLD_SECONDS)
        started = time.perf_counter()
        self.region.evict(0, DATA)
        while left := present(self.address, DATA):
            taken = time.perf_counter() - started
            if taken > EVICTION_SECONDS:
                raise RuntimeError(f"{left} of {DATA // PAGE} pages were not evicted in {taken:.0f} s")
            time.sleep(_POLL_SECONDS)
        return time.perf_counter() - started

    def check(self) -> None:
        """Bring all pages in, and compare them with what was stored. Raises RuntimeError."""
        self.region.ensure(0, DATA)
        wrong = self.touch.wrong_words(self.address, 0, DATA, _SEED)
        if wrong:
            raise RuntimeError(f"{wrong} words of {DATA} bytes came back different")

    def forget_cached(self) -> None:
        """Make the kernel drop its cache of the swap file."""
        descriptor = os.open(self.swap, os.O_RDWR)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


@contextmanager
def data(touch: Touch, *flags: str, swap: str | None = None, path: Path | None = None) -> Iterator[Data]:
    """A region of `DATA` bytes of a separate usmd with a swap file; `swap`: another device, whose file is at `path`."""
    settings = ["--mechanism", "userfaultfd", "--memory", MEMORY, "--page-size", str(PAGE), *flags]
    settings += ["--swap", swap] if swap is not None else []
    with (
        running(*settings, swap_file=SWAP if swap is None else None) as daemon,
        lib_usm.connect(daemon.address, name="bench") as client,
        client.mmap(DATA, name="data") as region,
    ):
        yield Data(client, region, touch, path or daemon.folder / "swap")


def speed(seconds: list[float]) -> str:
    """Median throughput of passes over the data."""
    taken = statistics.median(seconds)
    return f"{DATA / PAGE / taken:9,.0f} pages/s {DATA / taken / (1 << 20):7.1f} MiB/s"


def measure(touch: Touch) -> None:
    """Print the lines of eviction and swap-in."""
    print(f"real pages to and from a swap file ({DATA >> 20} MiB of random bytes, --memory {MEMORY}, default policies)")
    print(f"  median of {ROUNDS} passes; every byte compared with what was stored")
    with data(touch) as of:
        report_eviction(of)
        for cached in (True, False):
            report_random(of, cached=cached)
    with data(touch, "--alloc", "flexible_huge_pages(pages=1)") as of:
        of.fill()
        for pages in SEQUENTIAL:
            report_sequential(of, pages)


def report_eviction(of: Data) -> None:
    """Print two lines: for pages that must be written, and for pages that still have their slot."""
    dirty, clean = [], []
    for _ in range(ROUNDS):
        of.fill()
        dirty.append(of.evict())
        of.check()
        clean.append(of.evict())
    print(f"  eviction, dirty pages: {speed(dirty)}")
    print(f"  eviction, clean pages: {speed(clean)}")


def report_random(of: Data, *, cached: bool) -> None:
    """Print one line: faults on swapped pages in random order. All pages must be swapped before."""
    generator = np.random.default_rng(_SEED)
    rounds = []
    for _ in range(ROUNDS):
        if not cached:
            of.forget_cached()
        pages = generator.permutation(DATA // PAGE)[:RANDOM_TOUCHES].astype(np.uint32)
        rounds.append(of.touch.touch(of.address, pages, write=False))
        of.check()
        of.evict()
    latency = Latency.of(rounds)
    where = "in the kernel's page cache" if cached else "on the disk alone"
    print(f"  fault on a swapped page, swap file {where}: p50 {latency.p50:7.1f} us p99 {latency.p99:7.1f} us")


def report_sequential(of: Data, pages: int) -> None:
    """Print one line: all pages touched in order, `pages` of them brought in per fault."""
    of.client.usm_hint(of.region, f"FHP={pages * PAGE}")
    every = np.arange(DATA // PAGE, dtype=np.uint32)
    seconds = []
    for _ in range(ROUNDS):
        of.evict()
        seconds.append(float(of.touch.touch(of.address, every, write=False).sum()) / 1e9)
        of.check()
    print(f"  swap-in in order, FHP={pages * PAGE // 1024}KiB ({pages:2} pages): {speed(seconds)}")

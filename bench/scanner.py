"""The program of `bench.scan`: touches pages of data that is larger than its memory, in several orders.

All sides run it; only the memory differs: a region of usmd, or anonymous memory of the kernel. It fills the data, then
reads it in each order and is timed. What it reads is compared with what was stored. The first argument is its settings
as a JSON object; stdout gets the results as one.
"""

from __future__ import annotations

import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

import lib_usm
from bench.native import PAGE
from usmd.ctl.address import admin_socket
from usmd.ctl.connect import Admin

SEED: Final = 20
WORDS: Final = PAGE // 8
"""Numbers in a page."""
STRIDE: Final = 4
"""Pages from one touch to the next of the order `strided`."""
SKEW: Final = 0.99
"""Exponent s of the Zipf distribution, as in bench.reader."""

Words = NDArray[np.int64]
Pages = NDArray[np.int64]


class Settings(msgspec.Struct, kw_only=True):
    """What to read, and from where."""

    data: int
    """Bytes of data."""
    fresh: int
    """Bytes of memory that nothing has touched, for `first_touch`."""
    passes: int
    """How often the data is read in each order; the best time counts."""
    zipf: int
    """Number of Zipf reads; as many before them are not timed."""
    address: str = ""
    """usmd's clients' socket; empty: the kernel's own memory."""
    admin_address: str = ""
    cgroup_procs: str = ""
    """File of the memory cgroup to which the process is to move; empty: stay."""


class Measured(msgspec.Struct, kw_only=True):
    """One order: pages touched, the seconds of the best pass, and what usmd counted in that pass."""

    pages: int
    seconds: float
    faults: int = 0
    major_faults: int = 0
    read_ahead: int = 0
    swap_ins: int = 0


class Result(msgspec.Struct, kw_only=True):
    """The measurements by the name of the order, and the number of reads that did not find what was stored."""

    orders: dict[str, Measured]
    wrong: int


Counts = Callable[[], dict[str, int]]


@contextmanager
def memory_of(settings: Settings) -> Iterator[tuple[Callable[[int], memoryview], Counts]]:
    """A function that makes memory of usmd or of the kernel, and one for usmd's counters so far."""
    if not settings.address:
        yield lambda size: memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)), dict
        return
    with (
        lib_usm.connect(settings.address, name="scanner") as client,
        Admin(admin_socket(settings.admin_address)) as admin,
    ):
        yield lambda size: client.mmap(size).buffer, lambda: dict(admin.processes()[0].counters)


def orders(pages: int, reads: int) -> dict[str, Pages]:
    """Orders of touches, by name."""
    every = np.arange(pages)
    generator = np.random.default_rng(SEED)
    shares = np.cumsum(1.0 / np.arange(1, pages + 1) ** SKEW)
    ranks = np.searchsorted(shares, generator.random(reads) * shares[-1])
    return {
        "backward": every[::-1],
        "strided": every.reshape(-1, STRIDE).T.ravel(),
        "interleaved": every.reshape(2, -1).T.ravel(),
        "zipf": generator.permutation(pages)[ranks],
    }


def best(passes: int, work: Callable[[], object], pages: int, counts: Counts) -> Measured:
    """The fastest of several passes."""
    return min((timed(work, pages, counts) for _ in range(passes)), key=lambda each: each.seconds)


def timed(work: Callable[[], object], pages: int, counts: Counts) -> Measured:
    """Do a piece of work, and measure it."""
    before = counts()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    after = counts()
    more = {name: after[name] - before[name] for name in Measured.__struct_fields__ if name in after}
    return Measured(pages=pages, seconds=seconds, **more)


def run(settings: Settings) -> Result:
    """Touch fresh memory, fill the data, then read it in each order."""
    chosen = orders(settings.data // PAGE, 2 * settings.zipf)
    if settings.cgroup_procs:
        # Not earlier, so that the program's own memory is not counted there.
        Path(settings.cgroup_procs).write_text(str(os.getpid()))
    with memory_of(settings) as (make, counts):
        return measure(settings, chosen, make, counts)


def measure(settings: Settings, chosen: dict[str, Pages], make: Callable[[int], memoryview], counts: Counts) -> Result:
    """As `run`, in memory that `make` makes."""
    pages = settings.data // PAGE
    found: dict[str, Measured] = {}
    wrong = 0
    fresh: Words = np.frombuffer(make(settings.fresh), np.int64)

    def touch() -> None:
        fresh[::WORDS] = 1

    found["first_touch"] = timed(touch, settings.fresh // PAGE, counts)
    data: Words = np.frombuffer(make(settings.data), np.int64)
    firsts = np.random.default_rng(SEED).integers(1, 1 << 30, pages)
    total = int(firsts.sum()) * WORDS + pages * WORDS * (WORDS - 1) // 2

    def fill() -> None:
        for page in range(pages):
            data[page * WORDS : (page + 1) * WORDS] = firsts[page] + np.arange(WORDS)

    def add() -> None:
        nonlocal wrong
        wrong += int(data.sum()) != total

    found["fill"] = timed(fill, pages, counts)
    found["sum"] = best(settings.passes, add, pages, counts)
    for name, order in chosen.items():
        zipf = name == "zipf"
        warm, asked = (order[: settings.zipf], order[settings.zipf :]) if zipf else (order[:0], order)
        data.take(warm * WORDS)

        def read(asked: Pages = asked) -> None:
            nonlocal wrong
            wrong += int((data.take(asked * WORDS) != firsts[asked]).sum())

        found[name] = best(1 if zipf else settings.passes, read, len(asked), counts)
    return Result(orders=found, wrong=wrong)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(run(msgspec.json.decode(sys.argv[1], type=Settings))))

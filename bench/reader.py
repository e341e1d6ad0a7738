"""The program of `bench.side_by_side`: reads records at random from data that is larger than its memory.

The same for both sides; only where the memory comes from differs: a region of usmd, or anonymous memory of the kernel.
It fills the data, reads for a while to be where it will stay, then reads and is timed. Settings are one JSON object in
the first argument, results one on stdout.
"""

from __future__ import annotations

import mmap
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

import lib_usm
from bench.native import PAGE, RECORD, Nanoseconds, Numbers, Touch, address_of
from usmd.ctl.connect import Admin, admin_socket

SEED: Final = 20
_RECORDS: Final = PAGE // RECORD
_PART: Final = 2000
_FILLED_AT_ONCE: Final = 1 << 20


class Settings(msgspec.Struct, kw_only=True):
    """What to read, and from where."""

    library: str
    """touch.so."""
    data: int
    """Bytes of data."""
    skew: float
    """Exponent s of the Zipf distribution: the page of rank r is read with a probability in proportion to 1 / r**s."""
    warm: int
    """Reads before the timed ones."""
    reads: int
    seconds: float
    """Longest time for the timed reads, and for those before them."""
    address: str = ""
    """usmd's clients' socket; empty: the kernel's own memory."""
    admin_address: str = ""
    cgroup_procs: str = ""
    """File of the memory cgroup that takes the number of a process to count there; empty: stay."""


class Result(msgspec.Struct, kw_only=True):
    """What it took."""

    reads: int
    seconds: float
    p50: float
    """Microseconds, as all times that follow."""
    p99: float
    faults: int
    """Major faults while the timed reads ran."""
    fault_p50: float
    """Median of the slowest reads, as many as there were major faults."""
    wrong: int
    """Records that were not what was stored, of all that were read."""
    fill_seconds: float


def records(settings: Settings) -> Numbers:
    """Numbers of the records to read: pages by a Zipf distribution, in no order; a random record of the page."""
    generator = np.random.default_rng(SEED)
    pages = settings.data // PAGE
    shares = np.cumsum(1.0 / np.arange(1, pages + 1) ** settings.skew)
    ranks = np.searchsorted(shares, generator.random(settings.warm + settings.reads) * shares[-1])
    chosen = generator.permutation(pages)[ranks] * _RECORDS
    return np.asarray(chosen + generator.integers(0, _RECORDS, len(chosen)), np.uint32)


class Memory:
    """The data's memory: where it is, how to fill a part, and the major faults so far."""

    def __init__(self, address: int, prepare: Callable[[int, int], object], faults: Callable[[], int]) -> None:
        self.address = address
        self.prepare = prepare
        self.faults = faults


@contextmanager
def memory_of(settings: Settings) -> Iterator[Memory]:
    """Memory of usmd, or of the kernel, of `settings.data` bytes."""
    if not settings.address:
        anonymous = mmap.mmap(-1, settings.data, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        yield Memory(
            address_of(anonymous), lambda _offset, _n: None, lambda: resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        )
        anonymous.close()
        return
    with (
        lib_usm.connect(settings.address, name="reader") as client,
        Admin(admin_socket(settings.admin_address)) as admin,
    ):
        region = client.mmap(settings.data, name="data")
        yield Memory(
            address_of(region.buffer),
            region.ensure,
            lambda: sum(process.counters["major_faults"] for process in admin.processes()),
        )


def read(touch: Touch, memory: Memory, chosen: Numbers, seconds: float) -> tuple[Nanoseconds, int]:
    """Read until all are read or, after a part at least, the time is over; what each took, and how many were wrong."""
    times = np.ones(len(chosen), np.uint64)
    deadline, done, wrong = time.monotonic() + seconds, 0, 0
    while done < len(chosen) and (not done or time.monotonic() < deadline):
        end = done + _PART
        wrong += touch.read_records(memory.address, chosen[done:end], SEED, times[done:end])
        done = min(end, len(chosen))
    return times[:done], wrong


def run(settings: Settings) -> Result:
    """Fill, read, then read and time."""
    touch = Touch(Path(settings.library))
    chosen = records(settings)
    if settings.cgroup_procs:
        # Not before: what this program itself needs is counted where it was.
        Path(settings.cgroup_procs).write_text(str(os.getpid()))
    with memory_of(settings) as memory:
        started = time.monotonic()
        for offset in range(0, settings.data, _FILLED_AT_ONCE):
            part = min(_FILLED_AT_ONCE, settings.data - offset)
            memory.prepare(offset, part)
            touch.fill(memory.address, offset, part, SEED)
        filled = time.monotonic()
        _, wrong_before = read(touch, memory, chosen[: settings.warm], settings.seconds)
        faults, began = memory.faults(), time.monotonic()
        times, wrong = read(touch, memory, chosen[settings.warm :], settings.seconds)
        seconds, faults = time.monotonic() - began, memory.faults() - faults
    slowest = np.sort(times)[-min(max(faults, 1), len(times)) :]
    return Result(
        reads=len(times),
        seconds=seconds,
        p50=float(np.median(times)) / 1000,
        p99=float(np.percentile(times, 99)) / 1000,
        faults=faults,
        fault_p50=float(np.median(slowest)) / 1000,
        wrong=wrong + wrong_before,
        fill_seconds=filled - started,
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(run(msgspec.json.decode(sys.argv[1], type=Settings))))

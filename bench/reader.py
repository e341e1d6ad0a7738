"""The program of `bench.side_by_side`: reads random records of data that is larger than its memory.

Both sides run it; only the memory differs: a region of usmd, or anonymous memory of the kernel. It fills the data,
reads for a while to reach a steady state, then reads and is timed. The first argument is its settings as a JSON object;
stdout gets the results as one.
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
from usmd.ctl.address import admin_socket
from usmd.ctl.connect import Admin

SEED: Final = 20
_RECORDS: Final = PAGE // RECORD
_PART: Final = 2000
_FILLED_AT_ONCE: Final = 1 << 20


class Settings(msgspec.Struct, kw_only=True):
    """What to read, and from where."""

    library: str
    """Path of touch.so."""
    data: int
    """Bytes of data."""
    skew: float
    """Exponent s of the Zipf distribution: the probability of the page of rank r is proportional to 1 / r**s."""
    warm: int
    """Number of reads before the timed ones."""
    reads: int
    seconds: float
    """Longest time for the timed reads, and for those before them."""
    address: str = ""
    """usmd's clients' socket; empty: the kernel's own memory."""
    admin_address: str = ""
    cgroup_procs: str = ""
    """File of the memory cgroup to which the process is to move; empty: stay."""


class Result(msgspec.Struct, kw_only=True):
    """The measurements."""

    reads: int
    seconds: float
    p50: float
    """In microseconds, as all following times."""
    p99: float
    faults: int
    """Major faults during the timed reads."""
    fault_p50: float
    """Median of the slowest reads, as many as there were major faults."""
    wrong: int
    """Records that differed from what was stored, of all that were read."""
    fill_seconds: float


def records(settings: Settings) -> Numbers:
    """Numbers of the records to read: pages by a Zipf distribution, in random order; a random record of each page."""
    generator = np.random.default_rng(SEED)
    pages = settings.data // PAGE
    shares = np.cumsum(1.0 / np.arange(1, pages + 1) ** settings.skew)
    ranks = np.searchsorted(shares, generator.random(settings.warm + settings.reads) * shares[-1])
    chosen = generator.permutation(pages)[ranks] * _RECORDS
    return np.asarray(chosen + generator.integers(0, _RECORDS, len(chosen)), np.uint32)


class Memory:
    """The data's memory: its address, a function to prepare a part for filling, and one for the major faults so far."""

    def __init__(self, address: int, prepare: Callable[[int, int], object], faults: Callable[[], int]) -> None:
        self.address = address
        self.prepare = prepare
        self.faults = faults


@contextmanager
def memory_of(settings: Settings) -> Iterator[Memory]:
    """`settings.data` bytes of memory of usmd or of the kernel."""
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
    """Read all, or until the time is over after at least one part; returns the times and the number of errors."""
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
        # Not earlier, so that the program's own memory is not counted there.
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

"""The C of the benchmarks, compiled when needed: bench/touch.c touches memory and times it; bench/handler.c.

Also places threads on CPUs, and finds which pages are in memory.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Buffer

FLAGS: Final = ("-O2", "-Wall", "-Wextra", "-Werror")
PAGE: Final = os.sysconf("SC_PAGESIZE")
RECORD: Final = 64
"""Bytes of a record of `read_records`."""

Nanoseconds = NDArray[np.uint64]
Numbers = NDArray[np.uint32]


class NoCompilerError(Exception):
    """There is no C compiler on PATH."""


@contextmanager
def compiled() -> Iterator[Path]:
    """A folder with `touch.so` and `handler`, removed after the block. Raises NoCompilerError.

    Inside the block SIGTERM unwinds the stack, as Ctrl-C does, so that all that the block made is removed.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NoCompilerError("no gcc or cc on PATH, and what faults and is timed is C (bench/touch.c)")
    sources = Path(__file__).parent
    with tempfile.TemporaryDirectory(prefix="usmd-bench-") as name, _sigterm_unwinds():
        folder = Path(name)
        library = ["-shared", "-fPIC", "-o", str(folder / "touch.so"), str(sources / "touch.c")]
        subprocess.run([compiler, *FLAGS, *library], check=True)
        subprocess.run([compiler, *FLAGS, "-o", str(folder / "handler"), str(sources / "handler.c")], check=True)
        yield folder


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Touch:
    """The functions of touch.c; addresses are of this process. None holds Python's lock while it runs."""

    def __init__(self, library: Path) -> None:
        functions = ctypes.CDLL(str(library))
        pointer, size, word = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64
        self._touch = functions.touch_pages
        self._touch.argtypes = (pointer, pointer, size, size, ctypes.c_int, pointer)
        self._touch.restype = None
        self._fill = functions.fill
        self._fill.argtypes = (pointer, size, size, word)
        self._fill.restype = None
        self._wrong = functions.wrong_words
        self._wrong.argtypes = (pointer, size, size, word)
        self._wrong.restype = size
        self._read = functions.read_records
        self._read.argtypes = (pointer, pointer, size, word, pointer)
        self._read.restype = size

    def touch(self, address: int, pages: Numbers, *, write: bool) -> Nanoseconds:
        """Touch one byte of each page in this order; returns the nanoseconds of each touch."""
        times = np.ones(len(pages), np.uint64)  # not zeros, so that the array's own pages are resident before
        self._touch(address, pages.ctypes.data, len(pages), PAGE, write, times.ctypes.data)
        return times

    def fill(self, address: int, offset: int, length: int, seed: int) -> None:
        """Store the random data of `seed` from `offset`; no two pages are alike, and none compresses."""
        self._fill(address, offset, length, seed)

    def wrong_words(self, address: int, offset: int, length: int, seed: int) -> int:
        """Number of 8-byte words from `offset` that differ from what `fill` stores there."""
        wrong: int = self._wrong(address, offset, length, seed)
        return wrong

    def read_records(self, address: int, records: Numbers, seed: int, times: Nanoseconds) -> int:
        """Read records by number, and set `times`; returns how many differ from what `fill` stores there."""
        wrong: int = self._read(address, records.ctypes.data, len(records), seed, times.ctypes.data)
        return wrong


def address_of(buffer: Buffer) -> int:
    """First address of a writable buffer; valid as long as its memory is mapped, which this does not ensure."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


_libc: Final = ctypes.CDLL(None, use_errno=True)


def present(address: int, length: int) -> int:
    """Number of pages of a mapping that are in memory (mincore). Raises OSError."""
    vector = np.zeros(-(-length // PAGE), np.uint8)
    if _libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(length), ctypes.c_void_p(vector.ctypes.data)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(np.count_nonzero(vector & 1))


@contextmanager
def on_cpus(*cpus: int) -> Iterator[None]:
    """Run this thread, and what it starts, on these CPUs only (empty: as before)."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Latency(NamedTuple):
    """Microseconds: the median of the rounds' medians, and the 99th percentile of all touches."""

    p50: float
    p99: float

    @classmethod
    def of(cls, rounds: list[Nanoseconds]) -> Latency:
        """Summarise rounds of touches."""
        medians = [float(np.median(each)) for each in rounds]
        return cls(float(np.median(medians)) / 1000, float(np.percentile(np.concatenate(rounds), 99)) / 1000)

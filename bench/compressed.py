"""Single pages of heaps of real programs, compressed by zstd and lz4 with and without dictionaries; then the device.

The pages are those of a Python with JSON records, of a Python with NumPy arrays, and of a redis-server, read from
/proc/PID/mem, as many at random as `PAGES` says; pages of zeros are left out, because usmd stores none. A dictionary is
made of other pages of the same heap, which flatters it: a device would have to make it of what it has seen so far. The
rounds of all methods alternate, every page is compared with what it was, and times are those of this thread's CPU.

Then the swap device `compressed`: a read of a page, with its checksum, beside its decompression alone.
"""

from __future__ import annotations

import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import lz4
import lz4.block
import zstandard

from bench import as_program, redis_server
from usmd.swap.base import SlotIO
from usmd.swap.compressed import LEAST, LEVEL, MOST, CompressedSwapDevice

PAGE: Final = 4096
PAGES: Final = 2000
ROUNDS: Final = 5
TRAINING: Final = 1000
"""Pages that a dictionary is made of."""
DICTIONARY: Final = 16 << 10
RECORDS: Final = 60_000
NUMBERS: Final = 1 << 19
KEYS: Final = 40_000
_SEED: Final = 11
_MAPPING: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ 00:00 0 +(\[heap\])?$")
_JSON: Final = """
import json, random
generator = random.Random(5)
words = "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november".split()
kept = [json.loads(json.dumps({{
    "id": number, "user": f"user{{generator.randrange(99999)}}", "at": 1.7e9 + number * 0.25,
    "tags": generator.sample(words, 3), "text": " ".join(generator.choices(words, k=12)),
    "score": generator.random(), "active": generator.random() < 0.3,
}})) for number in range({count})]
"""
_NUMPY: Final = """
import numpy
generator = numpy.random.default_rng(5)
count = {count}
kept = [
    numpy.sort(generator.integers(0, 1 << 32, count)),
    numpy.round(numpy.cumsum(generator.normal(0, 0.05, count)) + 100, 2),
    generator.normal(size=count).astype(numpy.float32),
    generator.random(4 * count) < 0.05,
    generator.zipf(1.3, count).clip(0, 1 << 20).astype(numpy.int32),
]
"""


class Method(NamedTuple):
    """A way to compress a page and to get it back."""

    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes], bytes]


class Measured(NamedTuple):
    """Microseconds a page, pages' bytes by held bytes, and the share of pages that a device takes."""

    write: float
    read: float
    ratio: float
    taken: float


def heap_of(process: int, count: int) -> list[bytes]:
    """Up to `count` pages at random of a process's private memory without a file, but those of zeros."""
    places: list[int] = []
    for line in Path(f"/proc/{process}/maps").read_text(encoding="ascii").splitlines():
        if (found := _MAPPING.match(line)) is not None:
            places += range(int(found[1], 16), int(found[2], 16), PAGE)
    random.Random(_SEED).shuffle(places)
    pages: list[bytes] = []
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
        for place in places:
            page = os.pread(memory.fileno(), PAGE, place)
            if page.count(0) != PAGE:
                pages.append(page)
            if len(pages) == count:
                break
    return pages


@contextmanager
def python(program: str) -> Iterator[int]:
    """A Python that runs a program, and keeps what it made."""
    text = f"{program}\nprint('ready', flush=True)\ninput()\n"
    with subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            if child.stdout is None or child.stdout.readline() != "ready\n":
                raise RuntimeError("the program that makes a heap has failed")
            yield child.pid
        finally:
            child.kill()


@contextmanager
def redis(keys: int) -> Iterator[int]:
    """A redis-server with records as JSON, and hashes. Raises NoRedisError."""
    generator = random.Random(_SEED)
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_server.redis_server(Path(folder)) as (server, socket),
        redis_server.Redis(socket) as connection,
    ):
        commands: list[Sequence[bytes]] = []
        for number in range(keys):
            name = b"session:%d" % generator.randrange(1 << 30)
            commands.append((b"SET", name, b'{"user": %d, "at": %d, "cart": []}' % (number, 1_700_000_000 + number)))
            commands.append((b"HSET", b"user:%d" % number, b"visits", b"%d" % generator.randrange(99), b"name", name))
        connection.ask(*commands)
        yield server.pid


def zstd(level: int, training: Sequence[bytes] = ()) -> Method:
    """Zstandard at a level, with a dictionary made of training pages, if there are any."""
    trained = zstandard.train_dictionary(DICTIONARY, list(training)) if training else None
    compressor = zstandard.ZstdCompressor(level=level, dict_data=trained)
    decompressor = zstandard.ZstdDecompressor(dict_data=trained)
    return Method(compressor.compress, lambda data: decompressor.decompress(data, max_output_size=PAGE))


def lz4_block(training: Sequence[bytes] = ()) -> Method:
    """LZ4 blocks, with training pages as their dictionary."""
    known = b"".join(training)[-DICTIONARY:]
    return Method(
        lambda page: lz4.block.compress(page, store_size=False, dict=known),
        lambda data: lz4.block.decompress(data, uncompressed_size=PAGE, dict=known),
    )


def methods(training: Sequence[bytes]) -> dict[str, Method]:
    """All methods by name."""
    return {
        **{f"zstd {level}": zstd(level) for level in (-5, -1, 1, 3, 6)},
        "zstd 1, dict": zstd(1, training),
        "zstd 3, dict": zstd(3, training),
        "lz4": lz4_block(),
        "lz4, dict": lz4_block(training),
    }


def one_round(method: Method, pages: Sequence[bytes]) -> tuple[float, float, list[int]]:
    """CPU seconds to compress and to decompress all pages, and their lengths. Raises RuntimeError if one differs."""
    started = time.thread_time()
    packed = [method.compress(page) for page in pages]
    between = time.thread_time()
    found = [method.decompress(data) for data in packed]
    ended = time.thread_time()
    if found != list(pages):
        raise RuntimeError("a page came back different")
    return between - started, ended - between, list(map(len, packed))


def measure(pages: Sequence[bytes], training: Sequence[bytes]) -> dict[str, Measured]:
    """Each method on the same pages, in alternating rounds."""
    tried = methods(training)
    rounds = [{name: one_round(method, pages) for name, method in tried.items()} for _ in range(ROUNDS)]
    found: dict[str, Measured] = {}
    for name in tried:
        lengths = [length for length in rounds[0][name][2] if length <= PAGE * MOST]
        held = sum(max(length, PAGE * LEAST) for length in lengths)
        write = statistics.median(each[name][0] for each in rounds) / len(pages) * 1e6
        read = statistics.median(each[name][1] for each in rounds) / len(pages) * 1e6
        ratio = len(lengths) * PAGE / held if held else 1.0
        found[name] = Measured(write, read, ratio, len(lengths) / len(pages))
    return found


def device_beside_decompression(pages: Sequence[bytes]) -> tuple[float, float]:
    """CPU microseconds of a read of one page from the device, checksum included, and of its decompression alone."""
    device = CompressedSwapDevice(number=0, name="compressed", size=len(pages) * PAGE, page_size=PAGE)
    try:
        entries = [SlotIO(slot, 1, slot, 1, memoryview(bytearray(page))) for slot, page in enumerate(pages)]
        stored = [entry for entry, error in zip(entries, device.write(entries), strict=True) if error is None]
        packed = [zstandard.ZstdCompressor(level=LEVEL).compress(entry.buffer) for entry in stored]
        decompress = zstandard.ZstdDecompressor().decompress
        targets = [[entry._replace(buffer=memoryview(bytearray(PAGE)))] for entry in stored]
        times: list[tuple[float, float]] = []
        for _ in range(ROUNDS):
            started = time.thread_time()
            results = [device.read_now(target) for target in targets]
            between = time.thread_time()
            for data in packed:
                decompress(data, max_output_size=PAGE)
            times.append((between - started, time.thread_time() - between))
            if any(result != [None] for result in results):
                raise RuntimeError("a page cannot be read from the device")
        if any(entry.buffer != target[0].buffer for entry, target in zip(stored, targets, strict=True)):
            raise RuntimeError("a page came back different from the device")
    finally:
        device.close()
    read, alone = (statistics.median(each) / len(stored) * 1e6 for each in zip(*times, strict=True))
    return read, alone


def heaps() -> dict[str, AbstractContextManager[int]]:
    """Programs with heaps, by name; each yields its process number."""
    return {
        "JSON heap": python(_JSON.format(count=RECORDS)),
        "NumPy heap": python(_NUMPY.format(count=NUMBERS)),
        "Redis heap": redis(KEYS),
    }


def main() -> None:
    """Print a line for each heap and method, and one for the device."""
    print(f"compression of single pages of {PAGE} bytes: {PAGES} of each heap, median of {ROUNDS} alternating rounds")
    print(f"  zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}, lz4 {lz4.library_version_string()}")
    for name, heap in heaps().items():
        try:
            with heap as process:
                found = heap_of(process, PAGES + TRAINING)
        except redis_server.NoRedisError as error:
            print(f"  {name}: skipped, {error}")
            continue
        pages, training = found[:PAGES], found[PAGES:]
        for method, each in measure(pages, training).items():
            print(
                f"  {name:<10} {method:<12} compress {each.write:5.1f} us  decompress {each.read:5.1f} us"
                f"  ratio {each.ratio:5.2f}  taken {each.taken:6.1%}"
            )
        read, alone = device_beside_decompression(pages)
        print(
            f"  {name:<10} device       a read of one page {read:5.2f} us, its decompression alone {alone:5.2f} us: "
            f"{read / alone:4.2f} times (aim: at most 2)"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    as_program(main, __doc__)

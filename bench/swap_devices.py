"""Swap devices alone: pages per second in and out of `memory`, `compressed` and `file`, and how well pages compress.

Runs in one process, in batches of a job (64 pages) with checksums, as the daemon's workers call a device. Rounds
alternate between the devices, so that the machine's state affects all equally. Every page is compared with what was
written.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from bench import as_program
from usmd.server.device_queue import BATCH
from usmd.swap.base import SlotIO, SwapDevice
from usmd.swap.open import open_devices, parse_swap_spec

PAGE: Final = 4096
PAGES: Final = 4096
ROUNDS: Final = 7
_SEED: Final = 5


def source_text(size: int) -> bytes:
    """Source text of this Python's standard library."""
    folder = Path(json.__file__).parent.parent
    found = bytearray()
    for path in sorted(folder.glob("*.py")):
        found += path.read_bytes()
        if len(found) >= size:
            break
    return bytes(found) * (size // max(len(found), 1) + 1)


def records(size: int) -> bytes:
    """Records as JSON, with random numbers in them."""
    generator = random.Random(_SEED)
    found = bytearray()
    while len(found) < size:
        found += json.dumps(
            {"id": len(found), "user": f"user{generator.randrange(99999)}", "at": generator.random()}
        ).encode()
    return bytes(found)


def pointers(size: int) -> bytes:
    """Addresses of 16-byte objects in 256 MiB, in random order."""
    generator = random.Random(_SEED)
    return array("Q", (0x7F00_0000_0000 + 16 * generator.randrange(1 << 24) for _ in range(size // 8))).tobytes()


KINDS: Final[dict[str, Callable[[int], bytes]]] = {
    "source text": source_text,
    "JSON records": records,
    "pointers": pointers,
}


class Passes(NamedTuple):
    """Seconds of each round, and bytes of pages per byte that the device holds."""

    write: list[float]
    read: list[float]
    ratio: float


def entries(data: bytes) -> list[list[SlotIO]]:
    """Batches of pages to write."""
    pages = [memoryview(bytearray(data[at : at + PAGE])) for at in range(0, PAGES * PAGE, PAGE)]
    found = [SlotIO(slot, 1, slot, 1, page) for slot, page in enumerate(pages)]
    return [found[at : at + BATCH] for at in range(0, PAGES, BATCH)]


def one_round(device: SwapDevice, batches: list[list[SlotIO]]) -> tuple[float, float, float]:
    """Seconds to write all and to read all, and the ratio. Raises RuntimeError if a page is refused or differs."""
    targets = [[each._replace(buffer=memoryview(bytearray(PAGE))) for each in batch] for batch in batches]
    started = time.perf_counter()
    written = [device.write(batch) for batch in batches]
    between = time.perf_counter()
    read = [device.read(batch) for batch in targets]
    ended = time.perf_counter()
    errors = [error for results in (*written, *read) for error in results if error is not None]
    if errors:
        raise RuntimeError(f"{device.name}: {len(errors)} pages failed: {errors[0]}")
    for batch, found in zip(batches, targets, strict=True):
        if any(one.buffer != other.buffer for one, other in zip(batch, found, strict=True)):
            raise RuntimeError(f"{device.name}: a page came back different")
    usage = device.usage(PAGES)
    device.discard(range(PAGES))
    return between - started, ended - between, PAGES * PAGE / usage.held


def measure(data: bytes) -> dict[str, Passes]:
    """Passes over each device, in alternating rounds."""
    batches = entries(data)
    size = PAGES * PAGE
    with tempfile.TemporaryDirectory() as folder:
        texts = (f"memory:{size}", f"compressed:{size}", f"file:{folder}/swap:{size}")
        devices = open_devices([parse_swap_spec(text) for text in texts], PAGE)
        try:
            rounds = [{each.kind: one_round(each, batches) for each in devices} for _ in range(ROUNDS)]
        finally:
            for device in devices:
                device.close()
    return {
        kind: Passes([each[kind][0] for each in rounds], [each[kind][1] for each in rounds], rounds[-1][kind][2])
        for kind in rounds[0]
    }


def main() -> None:
    """Print a line for each kind of data and device."""
    print(f"swap devices alone: {PAGES} pages of {PAGE} bytes in jobs of {BATCH}, with checksums; a cached file")
    print(f"  median of {ROUNDS} alternating rounds; every page compared with what was written")
    for name, make in KINDS.items():
        found = measure(make(PAGES * PAGE))
        for kind, passes in found.items():
            rates = [PAGES / statistics.median(seconds) for seconds in (passes.write, passes.read)]
            beside = [
                statistics.median(
                    mine / memory
                    for mine, memory in zip(getattr(passes, way), getattr(found["memory"], way), strict=True)
                )
                for way in ("write", "read")
            ]
            print(
                f"  {name:<13} {kind:<11} write {rates[0]:9,.0f} pages/s ({beside[0]:5.2f} times memory's time)"
                f"  read {rates[1]:9,.0f} pages/s ({beside[1]:5.2f})  ratio {passes.ratio:.2f}"
            )
        sys.stdout.flush()


if __name__ == "__main__":
    as_program(main, __doc__)

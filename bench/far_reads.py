"""Reads of swap devices beside each other: of a file, of a compressed one, and of Redis near and far; part of `far`.

The far ones are read through `tools.slow_link`, a network in user space in a process of its own, with round trips that
are added. What the link itself adds is in the row of round trip 0.
"""

from __future__ import annotations

import functools
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench import as_program
from bench.redis_server import NoRedisError, redis_server
from tools.slow_link import slow_link
from usmd.errors import SwapDeviceError
from usmd.swap.base import SlotIO, SwapDevice
from usmd.swap.open import open_devices, parse_swap_spec

PAGE: Final = 4096
NEIGHBOURS: Final = 16
APART: Final = 32
"""Pages at random that are read in one job."""
BESIDE: Final = 4032
"""Pages of each device."""
ROUNDS: Final = 40
CALLS: Final = 25
"""Calls of each device and kind in a round."""
TRIPS: Final = (0.0, 0.1, 0.5, 2.0)
"""Milliseconds that are added to the round trip."""
_SEED: Final = 5

Times = tuple[list[float], list[float], list[float]]
"""Microseconds of reads of a page, of NEIGHBOURS, and of pages APART."""


def check(results: Sequence[object]) -> None:
    """Raise RuntimeError if a page has failed."""
    errors = [each for each in results if each is not None]
    if errors:
        raise RuntimeError(f"{len(errors)} pages failed: {errors[0]}")


def read_times(texts: Mapping[str, str]) -> dict[str, Times]:
    """The times by name of a device, in alternating rounds.

    A device that cannot be opened here is left out, and said. Raises RuntimeError if a page is wrong.
    """
    times: dict[str, Times] = {}
    chance = random.Random(_SEED)
    with ExitStack() as stack:
        opened: dict[str, SwapDevice] = {}
        for number, (name, text) in enumerate(texts.items()):
            spec = parse_swap_spec(text).placed(Path(), number)
            try:
                (device,) = open_devices([spec], PAGE)
            except SwapDeviceError as error:
                print(f"{name}: skipped, {error}")
                continue
            stack.callback(device.close)
            opened[name] = device
            times[name] = [], [], []
            check(device.write([halved(slot) for slot in range(BESIDE)]))
        for _ in range(ROUNDS):
            firsts = chance.sample(range(BESIDE - NEIGHBOURS), CALLS)
            jobs: tuple[Sequence[Sequence[int]], ...] = (
                [[first] for first in firsts],
                [range(first, first + NEIGHBOURS) for first in firsts],
                [chance.sample(range(BESIDE), APART) for _ in firsts],
            )
            for name, device in opened.items():
                for found, slots in zip(times[name], jobs, strict=True):
                    found += [read_time(device, each) for each in slots]
    return times


def read_time(device: SwapDevice, slots: Sequence[int]) -> float:
    """Microseconds of a read. Raises RuntimeError if a page is wrong."""
    targets = [halved(slot)._replace(buffer=memoryview(bytearray(PAGE))) for slot in slots]
    began = time.perf_counter()
    results = device.read(targets)
    took = time.perf_counter() - began
    check(results)
    if any(each.buffer != halved(each.slot).buffer for each in targets):
        raise RuntimeError(f"{device.name}: a page came back different")
    return took * 1e6


@functools.cache
def halved(slot: int) -> SlotIO:
    """An entry whose page compresses to half."""
    data = random.Random(slot).randbytes(PAGE // 2) + bytes(PAGE // 2)
    return SlotIO(slot, 1, slot, 1, memoryview(bytearray(data)))


def free_port() -> int:
    """A TCP port of this machine that nothing uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def show(folder: Path) -> None:
    """Print a line for each device. Raises NoRedisError."""
    port, size = free_port(), BESIDE * PAGE
    with ExitStack() as stack:
        _, path = stack.enter_context(redis_server(folder, None, (), "--port", str(port)))
        links = {trip: stack.enter_context(slow_link(port, trip / 2000)) for trip in TRIPS}
        times = read_times(
            {
                "compressed": f"compressed:{size}",
                "file, page cache": f"file:{folder}/cached:{size}:threads",
                "file, direct": f"file:{folder}/direct:{size}:direct:threads",
                "redis, Unix socket": f"redis:unix://{path}:{size}",
                "redis, TCP on loopback": f"redis:redis://127.0.0.1:{port}:{size}",
            }
            | {f"redis, TCP + {trip:g} ms": f"redis:redis://127.0.0.1:{link}:{size}" for trip, link in links.items()}
        )
    heads = ("p50", "p99", f"{NEIGHBOURS} p50", f"{APART} apart")
    print(f"{'reads of a device, us':<34}" + "".join(f" {each:>9}" for each in heads))
    for name, (one, some, apart) in times.items():
        high = statistics.quantiles(one, n=100)[-1]
        found = (statistics.median(one), high, statistics.median(some), statistics.median(apart))
        print(f"{name:<34}" + "".join(f" {each:>9.1f}" for each in found))


def main() -> None:
    """Print the table, or why it cannot be made here."""
    with tempfile.TemporaryDirectory(prefix="usmd-bench-") as name:
        try:
            show(Path(name))
        except NoRedisError as error:
            print(f"far_reads: skipped, {error}")


if __name__ == "__main__":
    as_program(main, __doc__)

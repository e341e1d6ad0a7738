"""Swap on Redis beside the client library alone, and beside other devices: latency, throughput, memory of the server.

One redis-server on a Unix socket and on loopback, one process. A device reads and writes pages as the daemon's workers
call it, with checksums; the library's own client moves the same bytes, one key for a page. Rounds alternate between the
sides. Every page is compared with what was written.
"""

from __future__ import annotations

import functools
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench import as_program
from bench.redis_server import NoRedisError, redis_server
from usmd.errors import SwapDeviceError
from usmd.swap.base import SlotIO, SwapDevice
from usmd.swap.open import open_devices, parse_swap_spec

if TYPE_CHECKING:
    import redis

PAGE: Final = 4096
PAGES: Final = 16_128
"""256 extents of 63 pages."""
NEIGHBOURS: Final = 16
DEPTH: Final = 32
BESIDE: Final = 4032
"""Pages of each device that is read beside others."""
ROUNDS: Final = 40
CALLS: Final = 50
"""Calls of each side in a round."""
_SEED: Final = 5


class Contest(NamedTuple):
    """The same work by usmd and by the library, and the aim for the ratio of their times, or of their throughputs."""

    what: str
    usmd: Callable[[], object]
    library: Callable[[], object]
    aim: float
    by_rate: bool = False


class Compared(NamedTuple):
    """Microseconds of the calls of both sides."""

    contest: Contest
    usmd: Sequence[float]
    library: Sequence[float]

    def __str__(self) -> str:
        mine, theirs = (statistics.median(each) for each in (self.usmd, self.library))
        high = statistics.quantiles(self.usmd, n=100)[-1]
        what, _, _, aim, by_rate = self.contest
        ratio = theirs / mine if by_rate else mine / theirs
        bound = "at least" if by_rate else "at most"
        return f"{what:<34} {mine:>7.1f} {high:>7.1f} {theirs:>8.1f} {ratio:>6.2f}  {bound} {aim}"


def microseconds_of(call: Callable[[], object]) -> list[float]:
    """The times of CALLS calls."""
    found = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        found.append((time.perf_counter() - began) * 1e6)
    return found


def page(slot: int) -> SlotIO:
    """An entry whose bytes follow from its slot."""
    return SlotIO(slot, 1, slot, 1, memoryview(bytearray(random.Random(slot).randbytes(PAGE))))


def key_of(slot: int) -> str:
    """The library's key of a page."""
    return f"page:{slot}"


def check(results: Sequence[object]) -> None:
    """Raise RuntimeError if a page has failed."""
    errors = [each for each in results if each is not None]
    if errors:
        raise RuntimeError(f"{len(errors)} pages failed: {errors[0]}")


class Sides:
    """The same pages on a device and under keys of their own. Raises RuntimeError if a page is wrong."""

    def __init__(self, device: SwapDevice, client: redis.Redis) -> None:
        self.device = device
        self.client = client
        self.pages = [page(slot) for slot in range(PAGES)]
        self._chance = random.Random(_SEED)

    def fill(self) -> float:
        """Write all pages to the device; returns bytes of the server's memory for each byte of pages."""
        before = self._memory()
        check(self.device.write(self.pages))
        used = self._memory() - before
        for each in self.pages:
            self.client.set(key_of(each.slot), bytes(each.buffer))
        self.client.set("neighbours", b"".join(each.buffer for each in self.pages[:NEIGHBOURS]))
        return used / (PAGES * PAGE)

    def _memory(self) -> int:
        """Bytes that the server uses, without the buffers of its connections, which do not grow with the pages."""
        found = self.client.info("memory")
        return int(found["used_memory"]) - int(found["mem_clients_normal"])

    def read(self, entries: Sequence[SlotIO]) -> None:
        """Read pages from the device."""
        check(self.device.read(entries))

    def write(self, entries: Sequence[SlotIO]) -> None:
        """Write pages to the device."""
        check(self.device.write(entries))

    def check_all(self) -> None:
        """Compare every page with what was written."""
        targets = [each._replace(buffer=memoryview(bytearray(PAGE))) for each in self.pages]
        self.read(targets)
        wrong = sum(one.buffer != other.buffer for one, other in zip(self.pages, targets, strict=True))
        if wrong:
            raise RuntimeError(f"{wrong} pages came back different")

    def targets(self, slots: Sequence[int]) -> list[SlotIO]:
        """Entries to read."""
        return [self.pages[slot]._replace(buffer=memoryview(bytearray(PAGE))) for slot in slots]

    def _get(self, slots: Sequence[int]) -> object:
        pipeline = self.client.pipeline(transaction=False)
        for slot in slots:
            pipeline.get(key_of(slot))
        return pipeline.execute()

    def _set(self, slots: Sequence[int]) -> object:
        pipeline = self.client.pipeline(transaction=False)
        for slot in slots:
            pipeline.set(key_of(slot), bytes(self.pages[slot].buffer))
        return pipeline.execute()

    def compare(self) -> list[Compared]:
        """Everything, in alternating rounds."""
        times: dict[Contest, tuple[list[float], list[float]]] = {each: ([], []) for each in self._contests()}
        for _ in range(ROUNDS):
            for contest, (mine, theirs) in times.items():
                mine += microseconds_of(contest.usmd)
                theirs += microseconds_of(contest.library)
        return [Compared(contest, mine, theirs) for contest, (mine, theirs) in times.items()]

    def _contests(self) -> list[Contest]:
        client = self.client
        one = self.targets([PAGES // 2])
        some = self.targets(range(NEIGHBOURS))
        slots = self._chance.sample(range(PAGES), DEPTH)
        many = self.targets(slots)
        apart, row = ([self.pages[each] for each in which] for which in (slots, range(DEPTH)))
        end = NEIGHBOURS * PAGE - 1
        return [
            Contest("swap-in of a page", lambda: self.read(one), lambda: client.get(key_of(one[0].slot)), 1.5),
            Contest(
                f"{NEIGHBOURS} neighbours", lambda: self.read(some), lambda: client.getrange("neighbours", 0, end), 1.3
            ),
            Contest(f"{DEPTH} pages at random, read", lambda: self.read(many), lambda: self._get(slots), 0.8, True),
            Contest(
                f"{DEPTH} pages at random, written", lambda: self.write(apart), lambda: self._set(slots), 0.8, True
            ),
            Contest(
                f"{DEPTH} neighbours, written", lambda: self.write(row), lambda: self._set(range(DEPTH)), 0.8, True
            ),
        ]


def read_times(texts: Mapping[str, str]) -> dict[str, tuple[list[float], list[float]]]:
    """By name of a device: microseconds of reads of a page, and of NEIGHBOURS, in alternating rounds.

    A device that cannot be opened here is left out, and said. Raises RuntimeError if a page is wrong.
    """
    times: dict[str, tuple[list[float], list[float]]] = {}
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
            times[name] = [], []
            check(device.write([halved(slot) for slot in range(BESIDE)]))
        for _ in range(ROUNDS):
            slots = chance.sample(range(BESIDE - NEIGHBOURS), CALLS)
            for name, device in opened.items():
                for found, count in zip(times[name], (1, NEIGHBOURS), strict=True):
                    for slot in slots:
                        found.append(read_time(device, slot, count))
    return times


def read_time(device: SwapDevice, first: int, count: int) -> float:
    """Microseconds of a read of neighbours. Raises RuntimeError if a page is wrong."""
    targets = [halved(slot)._replace(buffer=memoryview(bytearray(PAGE))) for slot in range(first, first + count)]
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


def show_beside(folder: Path) -> None:
    """Print a line for each device. Raises NoRedisError."""
    port = free_port()
    with redis_server(folder, None, (), "--port", str(port)) as (_, path):
        size = BESIDE * PAGE
        times = read_times(
            {
                "compressed": f"compressed:{size}",
                "file, page cache": f"file:{folder}/cached:{size}:threads",
                "file, direct": f"file:{folder}/direct:{size}:direct:threads",
                "redis, Unix socket": f"redis:unix://{path}:{size}",
                "redis, TCP on loopback": f"redis:redis://127.0.0.1:{port}:{size}",
            }
        )
    print(f"{'reads of a device, us':<34} {'p50':>7} {'p99':>7} {f'{NEIGHBOURS} p50':>8}")
    for name, (one, some) in times.items():
        high = statistics.quantiles(one, n=100)[-1]
        print(f"{name:<34} {statistics.median(one):>7.1f} {high:>7.1f} {statistics.median(some):>8.1f}")


def free_port() -> int:
    """A TCP port of this machine that nothing uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> None:
    """Print a line for each comparison, and the overhead of memory on the server."""
    try:
        import redis

        with tempfile.TemporaryDirectory(prefix="usmd-bench-") as name, redis_server(Path(name)) as (_, path):
            spec = parse_swap_spec(f"redis:unix://{path}:{PAGES * PAGE}").placed(Path(name), 0)
            (device,) = open_devices([spec], PAGE)
            with redis.Redis(unix_socket_path=str(path), protocol=2) as client:
                try:
                    sides = Sides(device, client)
                    overhead = sides.fill() - 1
                    sides.check_all()
                    compared = sides.compare()
                    sides.check_all()
                finally:
                    device.close()
    except (NoRedisError, ImportError) as error:
        print(f"far: skipped, {error}")
        return
    print(f"{'a call, us':<34} {'usmd':>7} {'p99':>7} {'library':>8} {'ratio':>6}  aim")
    for line in compared:
        print(line)
    print(f"memory of the server beyond the pages: {overhead:.1%} (aim: at most 2%)\n")
    with tempfile.TemporaryDirectory(prefix="usmd-bench-") as name:
        show_beside(Path(name))


if __name__ == "__main__":
    as_program(main, __doc__)

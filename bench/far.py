"""Swap on Redis beside the client library alone, and beside other devices: latency, throughput, memory of the server.

One redis-server on a Unix socket, one process. A device reads and writes pages as the daemon's workers
call it, with checksums; the library's own client moves the same bytes, one key for a page. Rounds alternate between the
sides. Every page is compared with what was written.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench import as_program, far_reads
from bench.far_reads import NEIGHBOURS, PAGE, check
from bench.redis_server import NoRedisError, redis_server
from usmd.swap.base import SlotIO, SwapDevice
from usmd.swap.open import open_devices, parse_swap_spec

if TYPE_CHECKING:
    import redis

PAGES: Final = 16_128
"""256 extents of 63 pages."""
DEPTH: Final = 32
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
    far_reads.main()


if __name__ == "__main__":
    as_program(main, __doc__)

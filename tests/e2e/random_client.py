"""A client process for test_data: random reads, writes, hints, pins and regions, each byte compared with a model.

With real memory, bytes are read and written by the region's calls, its buffer and NumPy arrays on it, in turn. Run as
`random_client.py ADDRESS NAME SEED SECONDS BYTES`. It prints one JSON line of what it did and exits with 0, or says
which byte was wrong and exits with 1.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time

import numpy as np

import lib_usm

HINTS = (
    "PRIORITY=LOW",
    "PRIORITY=HIGH; EVICTION=ALLOW",
    "EVICTION=DENY; TTL=0.2",
    "FHP=32KiB",
    "FHP=12KiB; ACCESS=SEQUENTIAL",
    "ACCESS=RANDOM; SWAP=0",
    "WILLNEED",
    "DONTNEED",
    "X_NOTE=kept for the policy",
    "",
)
MOST_EXTRA_REGIONS = 3
LEAST_STEPS = 160
LEAST_DONE = ("reads", "writes", "hints", "pins", "ensures", "evicts")
"""Done however long they take, so that on a busy machine too there is something of each kind."""


class WrongByte(Exception):
    """Memory does not hold what was stored."""


class Checked:
    """A region and what it must hold."""

    def __init__(self, client: lib_usm.Client, length: int, source: random.Random) -> None:
        self.region = client.mmap(length, name="data")
        self.model = bytearray(length)
        self._source = source
        self._ways = 1 if client.why_no_buffer else 3

    def check(self, offset: int, n: int) -> None:
        """Read and compare; raises WrongByte with the first that differs."""
        found, wanted = self._read(offset, n), self.model[offset : offset + n]
        if found != wanted:
            if len(found) != n:
                raise WrongByte(f"{self.region!r}: {len(found)} bytes came for {n} from {offset} on")
            at = next(i for i in range(n) if found[i] != wanted[i])
            raise WrongByte(
                f"{self.region!r}: byte {offset + at} (of a read of {n} from {offset} on) is {found[at]}, "
                f"stored was {wanted[at]}"
            )

    def _read(self, offset: int, n: int) -> bytes:
        way = self._source.randrange(self._ways)
        if way == 0:
            return self.region.read(offset, n)
        if way == 1:
            return bytes(self.region.buffer[offset : offset + n])
        return self.region.ndarray(np.uint8, n, offset).tobytes()

    def write(self, offset: int, data: bytes) -> None:
        """Store in memory and in the model."""
        way = self._source.randrange(self._ways)
        if way == 0:
            self.region.write(offset, data)
        elif way == 1:
            self.region.buffer[offset : offset + len(data)] = data
        else:
            self.region.ndarray(np.uint8, len(data), offset)[:] = np.frombuffer(data, np.uint8)
        self.model[offset : offset + len(data)] = data

    def pin(self, offset: int, n: int) -> bool:
        """Read and write while the pages are kept in memory; False where the daemon allows no more of them."""
        try:
            with self.region.pin(offset, n):
                for _ in range(3):
                    if not self.region.resident(offset, n):
                        raise WrongByte(f"{self.region!r}: {n} bytes from {offset} on are pinned and not in memory")
                    self.check(offset, n)
                    self.write(offset, self._source.randbytes(n))
        except lib_usm.LimitExceeded:
            return False
        return True


def random_range(source: random.Random, length: int, page_size: int) -> tuple[int, int]:
    """Offset and length of 1 byte to several pages, often across a page's end, now and then of many pages."""
    kind = source.random()
    if kind < 0.3:
        n = source.randint(1, 64)
    elif kind < 0.9:
        n = source.randint(1, 5 * page_size)
    else:
        n = source.randint(5 * page_size, 40 * page_size)
    n = min(n, length)
    if length > page_size and source.random() < 0.3:
        edge = source.randrange(page_size, length + 1, page_size)
        return max(min(edge - source.randint(1, n), length - n), 0), n
    return source.randint(0, length - n), n


def step(client: lib_usm.Client, source: random.Random, regions: list[Checked], done: dict[str, int]) -> None:
    """One random thing."""
    choice = source.random()
    target = source.choice(regions) if source.random() < 0.2 else regions[0]
    offset, n = random_range(source, len(target.model), client.page_size)
    if choice < 0.43:
        kind = "writes"
        # Half of the bytes repeat, so that pages can be told apart and be partly zero as well.
        data = source.randbytes(n) if source.random() < 0.7 else bytes(n)
        target.write(offset, data)
    elif choice < 0.87:
        kind = "reads"
        target.check(offset, n)
    elif choice < 0.91:
        kind = "hints"
        client.usm_hint(target.region, source.choice(HINTS), offset, n)
    elif choice < 0.93:
        kind = "pins" if target.pin(offset, n) else "refused_pins"
    elif choice < 0.95:
        kind = "ensures"
        target.region.ensure(offset, n)
        target.check(offset, n)
    elif choice < 0.97:
        kind = "evicts"
        target.region.evict(offset, n)
        target.check(offset, n)
    elif len(regions) <= MOST_EXTRA_REGIONS:
        kind = "maps"
        regions.append(Checked(client, source.randint(1, 16 * client.page_size), source))
    else:
        kind = "closes"
        regions.pop(source.randrange(1, len(regions))).region.close()
    done[kind] = done.get(kind, 0) + 1


def main(address: str, name: str, seed: int, seconds: float, length: int) -> int:
    """Work for `seconds` and until stdin ends, and do LEAST_STEPS and LEAST_DONE; then compare all bytes."""
    told_to_end = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), told_to_end.set()), daemon=True).start()
    source = random.Random(seed)
    done: dict[str, int] = {}
    with lib_usm.connect(address, name=name) as client:
        regions = [Checked(client, length, source)]
        # Every page is written first, so that the working set is really as large as the region.
        for offset in range(0, length, 16 * client.page_size):
            regions[0].write(offset, source.randbytes(min(16 * client.page_size, length - offset)))
        end = time.monotonic() + seconds  # waits: it works for some time, and nothing is asserted of that
        while (  # the least number of steps is what a test counts on
            not told_to_end.is_set()
            or time.monotonic() < end  # waits: likewise
            or sum(done.values()) < LEAST_STEPS
            or not all(done.get(each) for each in LEAST_DONE)
        ):
            step(client, source, regions, done)
        for checked in regions:
            checked.check(0, len(checked.model))
    sys.stdout.write(json.dumps(done) + "\n")
    return 0


if __name__ == "__main__":
    _, where, called, number, duration, size = sys.argv
    try:
        sys.exit(main(where, called, int(number), float(duration), int(size)))
    except WrongByte as wrong:
        sys.exit(f"wrong byte: {wrong}")

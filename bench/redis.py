"""An unmodified redis-server: under `usmctl run` with faults of several sizes, without usmd, and in the kernel's swap.

While all keys fit, redis-benchmark fills an empty server first (FILL). On each side a client stores a different value
under each key, and then redis-benchmark reads and overwrites keys at random. After each of both, values all over the
keys are checked: each is the one that was stored, or the one that redis-benchmark writes. The client's values compress
about 2.7 times; redis-benchmark writes one and the same of 64 random characters everywhere, so a page of them holds it
three times, and compresses 4 to 5 times.

The rounds of all sides alternate, and ratios are the medians of those of single rounds. usmd swaps to a file; daemon
and server are in a cgroup that leaves the kernel's cache of that file little room, where there are cgroups. The
kernel's side has a cgroup of the same memory. `usmd, its own` evicts by `lfu`, spins while it waits for faults, and
has fewer touches sampled than by default: the best of the ways that were tried (docs/native.md). As root the bench
allows folios to shared memory that asks (`shmem_enabled`), and restores the setting.
"""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from bench import as_program
from bench.aims import ratio, verdict
from bench.backed import back_memory
from bench.folios import folios_allowed
from bench.redis_server import NoRedisError, Redis, program
from bench.redis_sides import ALONE, KERNEL, OWN, Running, Side, sides
from usm_wire.native import WHY_NOT, library
from usmd import BUILD
from usmd.mechanism import uffd

VALUE: Final = 1024
BYTES_A_KEY: Final = 1400
"""Of Redis's memory, for a key with such a value."""
FILL, GET, SET = "FILL", "GET", "SET"
"""SET of keys that are not there, GET, and SET of keys that are."""
CHECKED: Final = 2_000
"""Most keys whose values are checked each time, evenly spread: a check is a GET, which may take a fault."""
PIPELINE: Final = 16
CLIENTS: Final = 16
LIMIT_SECONDS: Final = 300.0
AIM_ALONE: Final = 0.97
AIM_SINGLE: Final = 1.88
AIM_AUTO: Final = 0.95
AIM_KERNEL: Final = 1.0
AIM_OWN: Final = 1.2


class Case(NamedTuple):
    """What is measured: the size of all keys in units of the memory, which is in bytes; GET and SET a round; sizes.

    A FILL is as many SET as there are keys.
    """

    share: float
    memory: int
    requests: int
    rounds: int
    sizes: tuple[str, ...]

    @property
    def keys(self) -> range:
        """Their numbers."""
        return range(int(self.share * self.memory / BYTES_A_KEY))

    @property
    def fits(self) -> bool:
        """Whether nothing is evicted."""
        return self.share < 1

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is measured."""
        return (FILL, GET, SET) if self.fits else (GET, SET)


SIZES: Final = ("4K", "16K", "64K", "128K", "512K", "2M", "AUTO")
CASES: Final = (
    Case(0.5, 384 << 20, 500_000, 3, SIZES),
    # From here on a fault with a large size would read 30 to 500 pages for one, for minutes.
    Case(1.0, 48 << 20, 20_000, 2, ("4K", "16K", "64K", "AUTO")),
    Case(2.0, 48 << 20, 8_000, 2, ("4K", "16K", "AUTO")),
    Case(3.0, 48 << 20, 8_000, 2, ("4K", "16K", "AUTO")),
)


class Rate(NamedTuple):
    """What redis-benchmark measured: requests a second, the 99th percentile of their times in ms, faults a request."""

    requests: float
    p99: float
    faults: float


Rounds = dict[str, list[dict[str, Rate]]]
"""By side: of each round, by kind."""


def benchmark(running: Running, kind: str, requests: int, keys: int) -> Rate:
    """Run redis-benchmark. Raises RuntimeError if it fails."""
    command = [
        program("redis-benchmark"), "-s", str(running.socket), "-t", kind, "-n", str(requests), "-r", str(keys),
        "-d", str(VALUE), "-P", str(PIPELINE), "-c", str(CLIENTS), "--csv",
    ]  # fmt: skip
    before = running.faults()
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    rows = list(csv.DictReader(line for line in done.stdout.splitlines() if line.startswith('"')))
    if done.returncode or len(rows) != 1:
        raise RuntimeError(f"redis-benchmark ended with {done.returncode}: {done.stdout}{done.stderr}")
    faults = (running.faults() - before) / requests
    return Rate(float(rows[0]["rps"]), float(rows[0]["p99_latency_ms"]), faults)


def measure(side: Side, case: Case) -> tuple[dict[str, Rate], str]:
    """The rates of one side, and what there is to say of its swap. Raises UnavailableError.

    Raises RuntimeError if a value is wrong.
    """
    keys = case.keys
    found: dict[str, Rate] = {}
    swap = int(max(2 * case.share, 1) * case.memory)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usmd-bench-")))
        running = stack.enter_context(contextmanager(side.start)(folder, case.memory, swap))
        client = stack.enter_context(Redis(running.socket))
        if case.fits:
            back_memory(case.memory)
            found[FILL] = benchmark(running, "set", len(keys), len(keys))
        client.set(keys, VALUE)
        note = running.note()
        found[GET] = benchmark(running, "get", case.requests, len(keys))
        some = keys[:: max(len(keys) // CHECKED, 1)]
        wrong = client.wrong(some, VALUE)
        found[SET] = benchmark(running, "set", case.requests, len(keys))
        wrong += client.wrong(some, VALUE, also=client.value_of_many(some, VALUE))
    if wrong:
        raise RuntimeError(f"{side.name}: {len(wrong)} values are wrong, that of key {wrong[0]} first")
    return found, note


def compare(case: Case, all_sides: list[Side]) -> None:
    """Print a table, the ratios and the aims of one case."""
    print(
        f"\n  keys of {case.share:g} times the memory of {case.memory >> 20} MiB ({len(case.keys):,}); "
        f"{case.requests:,} GET and SET a round; medians of {case.rounds} rounds"
    )
    print(f"  {'':14}" + "".join(f" {kind + '/s':>9} {'p99 ms':>8} {'faults':>7}  " for kind in case.kinds))
    rounds: Rounds = {}
    notes: dict[str, str] = {}
    for number in range(case.rounds):
        for side in all_sides if number % 2 == 0 else reversed(all_sides):
            found, notes[side.name] = measure(side, case)
            rounds.setdefault(side.name, []).append(found)
    for side in all_sides:
        cells = [_shown(_median([each[kind] for each in rounds[side.name]])) for kind in case.kinds]
        print(f"  {side.name:14}" + "".join(f" {each}  " for each in cells))
    for name, note in notes.items():
        if note:
            print(f"  {name}, once all is stored: {note}")
    for kind in case.kinds:
        report(case, kind, rounds)


def report(case: Case, kind: str, rounds: Rounds) -> None:
    """Print the ratios of the best size to other sides, and the aims."""
    times = {name: [each[kind].requests for each in of] for name, of in rounds.items()}
    p99s = {name: [each[kind].p99 for each in of] for name, of in rounds.items()}
    by_rate = sorted((f"usmd {size}" for size in case.sizes), key=lambda name: -statistics.median(times[name]))
    best = by_rate[0]

    others = [name for name in rounds if name != best and name in (ALONE, KERNEL, OWN, "usmd 4K", "usmd AUTO")]

    def beside(one: str, other: str) -> str:
        return f"{ratio(times[one], times[other]):.2f}x of {other} (p99 {ratio(p99s[one], p99s[other]):.2f}x)"

    print(f"  {kind}: best is {best}: {', '.join(beside(best, name) for name in others)}")

    def aim(one: str, other: str, least: float) -> None:
        if one in rounds and other in rounds:
            found = ratio(times[one], times[other])
            print(f"    {one} beside {other}: {found:.2f}x {verdict(found, least, at_least=True)}")

    if case.fits:
        aim(best, ALONE, AIM_ALONE)
        aim("usmd AUTO", next(name for name in by_rate if name != "usmd AUTO"), AIM_AUTO)
        if kind == FILL:
            aim(best, "usmd 4K", AIM_SINGLE)
    elif case.share > 1:
        aim(best, KERNEL, AIM_KERNEL)
        aim(OWN, KERNEL, AIM_OWN)
        for name in (best, OWN) if KERNEL in rounds else ():
            found = ratio(p99s[name], p99s[KERNEL])
            print(f"    p99, {name} beside {KERNEL}: {found:.2f}x {verdict(found, AIM_KERNEL, at_least=False)}")


def _median(rates: list[Rate]) -> Rate:
    return Rate(*(statistics.median(each) for each in zip(*rates, strict=True)))


def _shown(rate: Rate) -> str:
    return f"{rate.requests:9,.0f} {rate.p99:8.2f} {rate.faults:7.3f}"


def main() -> None:
    """Print all tables, or why nothing can be compared here."""
    print(
        f"redis: values of {VALUE:,} bytes, {CLIENTS} clients with {PIPELINE} requests each, "
        f"{CHECKED:,} values checked (load average {os.getloadavg()[0]:.1f}); usmd: {BUILD.text}"
    )
    why_not = uffd.usable(uffd.probe()) or ("" if library() else WHY_NOT)
    try:
        program()
        program("redis-benchmark")
    except NoRedisError as error:
        why_not = why_not or str(error)
    if why_not:
        print(f"  skipped: {why_not}")
        return
    with folios_allowed() as said:
        print(f"  {said}")
        found = sides(SIZES)
        for case in CASES:
            left_out = {f"usmd {size}" for size in SIZES if size not in case.sizes} | ({OWN} if case.fits else set())
            compare(case, [side for side in found if side.name not in left_out])


if __name__ == "__main__":
    as_program(main, __doc__)

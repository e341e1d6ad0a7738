"""An unmodified redis-server: under `usmctl run` with faults of several sizes, without usmd, and in the kernel's swap.

On each side redis-benchmark fills an empty server, a client stores a different value under each key, and then
redis-benchmark reads and overwrites keys at random. After each of both, values all over the keys are checked: each is
the one that was stored, or the one that redis-benchmark writes. The rounds of all sides alternate. usmd swaps to a
file; daemon and server are in a cgroup that leaves the kernel's cache of that file little room, where there are
cgroups. The kernel's side has a cgroup of the same memory.
"""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from bench import as_program
from bench.kernel_memory import MemoryCgroup, UnavailableError, memory_cgroup, swap_file
from bench.redis_server import NoRedisError, Redis, program, redis_server
from bench.sides import usmd_for
from usm_wire.native import WHY_NOT, library
from usmd import BUILD
from usmd.ctl.address import admin_socket
from usmd.ctl.connect import Admin
from usmd.mechanism import uffd

MEMORY: Final = 32 << 20
SWAP: Final = 8 * MEMORY
EXTRA: Final = 16 << 20
"""Bytes of usmd's cgroup beyond usmd's memory: the page cache of the swap file, the daemon's tables, and what of the
server is not usmd's."""
KERNEL_EXTRA: Final = 4 << 20
"""Bytes of the kernel's cgroup beyond that memory: what of the server would not be usmd's."""
VALUE: Final = 1024
BYTES_A_KEY: Final = 1400
"""Of Redis's memory, for a key with such a value."""
SHARES: Final = {0.5: 100_000, 1.0: 5_000, 3.0: 1_500}
"""Size of all keys in units of the memory, and requests of each kind."""
SIZES: Final = ("4K", "16K", "64K", "128K", "512K", "2M", "AUTO")
SPARED: Final = ("usmd 128K", "usmd 512K", "usmd 2M")
"""Sides that are left out where the keys do not fit: at random, a fault reads 30 to 500 pages for one, for minutes."""
CHECKED: Final = 2_000
"""Most keys whose values are checked each time, evenly spread: a check is a GET, which may take a fault."""
KINDS: Final = ("FILL", "GET", "SET")
"""SET of keys that are not there, GET, and SET of keys that are."""
ROUNDS: Final = 2
PIPELINE: Final = 16
CLIENTS: Final = 16
LIMIT_SECONDS: Final = 300.0
USMCTL: Final = (sys.executable, "-c", "import sys; from usmd.ctl.cli import main; sys.exit(main())")


class Rate(NamedTuple):
    """What redis-benchmark measured: requests a second, the 99th percentile of their times in ms, faults a request."""

    requests: float
    p99: float
    faults: float


class Running(NamedTuple):
    """A server: its socket, and its page faults so far."""

    socket: Path
    faults: Callable[[], int]


class Side(NamedTuple):
    """A way to run the server."""

    name: str
    start: Callable[[Path], Iterator[Running]]


def faults_of(pid: int) -> int:
    """Page faults of a process, as the kernel counts them, those without I/O included."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return int(fields[7]) + int(fields[9])


def inside(group: MemoryCgroup | None) -> tuple[str, ...]:
    """A command that starts another one in a cgroup."""
    return () if group is None else ("sh", "-c", 'echo $$ >"$0" && exec "$@"', str(group.procs))


def under_usmd(size: str, *, bounded: bool) -> Side:
    """The server under `usmctl run --fhp SIZE`."""

    def start(folder: Path) -> Iterator[Running]:
        with ExitStack() as stack:
            group = stack.enter_context(memory_cgroup(MEMORY + EXTRA)) if bounded else None
            at = stack.enter_context(usmd_for(memory=MEMORY, swap=SWAP, group=group))
            admin = stack.enter_context(Admin(admin_socket(at["admin_address"])))
            run = (*inside(group), *USMCTL, "run", "--require", "--socket", at["address"], "--fhp", size, "--")
            _, path = stack.enter_context(redis_server(folder, None, run))
            yield Running(path, lambda: admin.status().counters["faults"])

    return Side(f"usmd {size}", start)


def without_usmd(folder: Path) -> Iterator[Running]:
    """The server alone, with all memory that it wants."""
    with redis_server(folder) as (process, path):
        yield Running(path, lambda: faults_of(process.pid))


def under_the_kernel(folder: Path) -> Iterator[Running]:
    """The server in a cgroup, with the kernel's swap."""
    with (
        memory_cgroup(MEMORY + KERNEL_EXTRA) as group,
        swap_file(SWAP),
        redis_server(folder, None, inside(group)) as (process, path),
    ):
        yield Running(path, lambda: faults_of(process.pid))


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


def measure(side: Side, share: float, requests: int) -> tuple[Rate, ...]:
    """What `KINDS` names, of one side. Raises UnavailableError, or RuntimeError if a value is wrong."""
    keys = range(int(share * MEMORY / BYTES_A_KEY))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usmd-bench-")))
        running = stack.enter_context(contextmanager(side.start)(folder))
        client = stack.enter_context(Redis(running.socket))
        filled = benchmark(running, "set", min(requests, len(keys)), len(keys))
        client.set(keys, VALUE)
        got = benchmark(running, "get", requests, len(keys))
        some = keys[:: max(len(keys) // CHECKED, 1)]
        wrong = client.wrong(some, VALUE)
        put = benchmark(running, "set", requests, len(keys))
        wrong += client.wrong(some, VALUE, also=client.value_of_many(some, VALUE))
    if wrong:
        raise RuntimeError(f"{side.name}: {len(wrong)} values are wrong, that of key {wrong[0]} first")
    return filled, got, put


def sides() -> list[Side]:
    """The sides that this machine can run; says which it cannot."""
    found = [Side("without usmd", without_usmd)]
    bounded = True
    try:
        with memory_cgroup(MEMORY), swap_file(1 << 20):
            found.append(Side("kernel's swap", under_the_kernel))
    except UnavailableError as error:
        print(f"  kernel's swap: skipped: {error}; the page cache of usmd's swap file has no bound")
        bounded = False
    return found + [under_usmd(size, bounded=bounded) for size in SIZES]


def compare(share: float, requests: int, all_sides: list[Side]) -> None:
    """Print a table, and the ratios, for one size of all keys."""
    print(f"\n  keys of {share:g} times the memory: {requests:,} GET and SET a round, and a FILL of each key at most")
    print(f"  {'':14}" + "".join(f" {kind + '/s':>9} {'p99 ms':>8} {'faults':>7}  " for kind in KINDS))
    rounds: dict[str, list[tuple[Rate, ...]]] = {}
    for number in range(ROUNDS):
        for side in all_sides if number % 2 == 0 else reversed(all_sides):
            rounds.setdefault(side.name, []).append(measure(side, share, requests))
    medians = {name: [_median(list(each)) for each in zip(*of, strict=True)] for name, of in rounds.items()}
    for side in all_sides:
        print(f"  {side.name:14}" + "".join(f" {_shown(each)}  " for each in medians[side.name]))
    for kind, name in enumerate(KINDS):
        best = max((size for size in SIZES if f"usmd {size}" in medians), key=lambda size: _rate(medians, size, kind))
        rate = _rate(medians, best, kind)
        others = [name for name in medians if not name.startswith("usmd") or name in ("usmd 4K", "usmd AUTO")]
        ratios = ", ".join(f"{rate / medians[other][kind].requests:.2f} of {other}" for other in others)
        print(f"  {name}: best at {best}: {ratios}")


def _rate(medians: dict[str, list[Rate]], size: str, kind: int) -> float:
    return medians[f"usmd {size}"][kind].requests


def _median(rates: list[Rate]) -> Rate:
    return Rate(*(statistics.median(each) for each in zip(*rates, strict=True)))


def _shown(rate: Rate) -> str:
    return f"{rate.requests:9,.0f} {rate.p99:8.2f} {rate.faults:7.3f}"


def main() -> None:
    """Print all tables, or why nothing can be compared here."""
    print(
        f"redis: values of {VALUE:,} bytes in {MEMORY >> 20} MiB, {CLIENTS} clients with {PIPELINE} requests each, "
        f"median of {ROUNDS} rounds, {CHECKED:,} values checked (load average {os.getloadavg()[0]:.1f}); "
        f"usmd: {BUILD.text}"
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
    all_sides = sides()
    for share, requests in SHARES.items():
        compare(share, requests, [side for side in all_sides if share < 1 or side.name not in SPARED])


if __name__ == "__main__":
    as_program(main, __doc__)

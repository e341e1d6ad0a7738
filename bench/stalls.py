"""How long the daemon's loop stands, and a neighbour's fault waits, while a client asks for work on very many pages.

One client has `--size` resident (1 GiB) and hints, pins, unmaps and detaches all of it at once. Processes with very
many regions or sessions die, some while they map. Another usmd ends a client because memory is used up, and drains.
Meanwhile a thread of another client touches a page of its own each millisecond. The daemon measures its loop itself
(bench.stalls_daemon). Time for which the loop waits for a CPU is not counted; time for which it waits for another
thread that waits for one is, so on a busy machine its CPU time says more. The neighbour's wait counts everything, the
machine's other work included: the lines "nothing" and "another program frees as much" show it without work of usmd.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

import lib_usm
from bench.native import PAGE, NoCompilerError, Touch, address_of, compiled
from bench.stalls_daemon import Meter
from lib_usm.pin import Pin
from tools import own_daemon
from tools.own_daemon import OwnDaemon, running
from usmd.ctl.address import admin_socket
from usmd.ctl.connect import Admin
from usmd.mechanism import uffd
from usmd.sizes import parse_size

SIZE: Final = 1 << 30
REGIONS: Final = 1400
REGION_PAGES: Final = 4
SESSIONS: Final = 500
"""Sessions of a process that dies."""
MAPPING: Final = 16
"""Processes that die while they map regions."""
MAPPED: Final = 16
"""Regions that each of these keeps."""
LITTLE: Final = 256 << 20
"""Memory of the usmd that has a client ended for want of memory, and drains."""
DRAINED: Final = 50
"""Sessions that a drain ends."""
DRAINED_REGIONS: Final = 4
"""Regions of each of these."""
TTL_SECONDS: Final = 0.5
NOTHING_SECONDS: Final = 1.0
GRACE_SECONDS: Final = 5.0
"""For which a drain waits for sessions that do not leave."""
NEIGHBOUR_PAGES: Final = 1 << 16
NEIGHBOUR_SECONDS: Final = 0.001
DESCRIPTORS: Final = 1 << 16
BOUND: Final = 0.002
"""Seconds for which the loop may stand."""
_POLL_SECONDS: Final = 0.002


class Neighbour:
    """A thread of another client that touches one untouched page after another."""

    def __init__(self, client: lib_usm.Client, touch: Touch | None) -> None:
        """`touch`: for real memory; None: pages are faulted in by call."""
        self._region = client.mmap(NEIGHBOUR_PAGES * PAGE, name="neighbour")
        self._touch = touch
        self._stop = threading.Event()
        self._waits: list[float] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def longest(self) -> float:
        """Seconds of the longest wait since the previous call."""
        waits, self._waits = self._waits, []
        return max(waits, default=0.0)

    def _run(self) -> None:
        for page in range(NEIGHBOUR_PAGES):
            if self._stop.wait(NEIGHBOUR_SECONDS):
                return
            self._waits.append(self._fault(page))

    def _fault(self, page: int) -> float:
        if self._touch is not None:
            pages = np.array([page], np.uint32)
            return float(self._touch.touch(address_of(self._region.buffer), pages, write=True)[0]) / 1e9
        begun = time.perf_counter()
        self._region.ensure(page * PAGE, PAGE)
        return time.perf_counter() - begun


class Stalls(NamedTuple):
    """The setting of one line."""

    address: str
    admin_address: str
    meter: Meter
    neighbour: Neighbour

    def report(self, name: str, work: Callable[[], object], seconds: float = 0.0) -> None:
        """Run `work` and print its cost to others; effects that it starts later begin within `seconds`."""
        self.settle()
        self.meter.reset()
        self.neighbour.longest()
        begun = time.perf_counter()
        work()
        took = time.perf_counter() - begun
        time.sleep(seconds)
        self.settle()
        self.say(name, took)

    def say(self, name: str, took: float) -> None:
        """Print the line of what took so many seconds."""
        meter, wait = self.meter, self.neighbour.longest()
        print(
            f"  {name:30} loop {meter.stretch * 1000:7.2f} (CPU {meter.cpu * 1000:7.2f})   "
            f"one event {meter.event * 1000:7.2f}   neighbour's fault {wait * 1000:7.2f}   call {took * 1000:8.1f}   "
            f"(aim {BOUND * 1000:.0f}: {'met' if meter.stretch <= BOUND else 'MISSED'})"
        )

    def settle(self) -> None:
        """Wait until the core has no work left; twice two turns of the loop, because it may not have begun it."""
        for _ in range(2):
            seen = self.meter.turns
            while self.meter.turns < seen + 2 or self.meter.work_left:
                time.sleep(_POLL_SECONDS)


def resident(client: lib_usm.Client, size: int) -> lib_usm.Region:
    """A region with all pages in memory."""
    region = client.mmap(size, name="large")
    region.ensure(0, size)
    return region


@contextmanager
def victim(address: str, sessions: int, regions: int) -> Iterator[Callable[[], object]]:
    """A process with sessions that have so many regions each, all in memory: what kills it."""
    arguments = (address, str(sessions), str(regions), str(REGION_PAGES * PAGE))
    with own_daemon.start_python("-c", _VICTIM, *arguments, says=True) as process:
        if process.stdout is None:
            raise TypeError("a pipe was asked for")
        process.stdout.readline()

        def die() -> None:
            process.kill()
            process.wait()

        yield die


_VICTIM: Final = """
import signal, sys
import lib_usm
address, sessions, regions, size = sys.argv[1], *map(int, sys.argv[2:])
clients = [lib_usm.connect(address, name="victim") for _ in range(sessions)]
kept = [client.mmap(size) for client in clients for _ in range(regions)]
for region in kept:
    region.ensure(0, size)
print(flush=True)
signal.pause()
"""


@contextmanager
def mappers(address: str) -> Iterator[Callable[[], object]]:
    """Processes that map regions without end: what kills them all."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(own_daemon.start_python("-c", _MAPPER, address, str(PAGE), str(MAPPED), says=True))
            for _ in range(MAPPING)
        ]
        for process in processes:
            if process.stdout is None:
                raise TypeError("a pipe was asked for")
            process.stdout.readline()

        def die() -> None:
            for process in processes:
                process.kill()
            for process in processes:
                process.wait()

        yield die


_MAPPER: Final = """
import sys
import lib_usm
address, size, regions = sys.argv[1], *map(int, sys.argv[2:])
client = lib_usm.connect(address, name="mapper")
print(flush=True)
while True:
    kept = [client.mmap(size) for _ in range(regions)]
    for region in kept:
        region.ensure(0, size)
"""


@contextmanager
def another_program(size: int) -> Iterator[Callable[[], object]]:
    """A program that has a memfd of so many bytes, all in memory, and maps it: what has it give them back."""
    with own_daemon.start_python("-c", _ANOTHER, str(size), says=True, hears=True) as process:
        wants, says = process.stdin, process.stdout
        if wants is None or says is None:
            raise TypeError("a pipe was asked for")
        says.readline()

        def free() -> None:
            wants.write("\n")
            wants.flush()
            says.readline()

        yield free
        wants.close()


_ANOTHER: Final = """
import mmap, os, sys
size = int(sys.argv[1])
memfd = os.memfd_create("another")
os.ftruncate(memfd, size)
mapping = mmap.mmap(memfd, size)
for start in range(0, size, mmap.PAGESIZE):
    mapping[start] = 1
print(flush=True)
sys.stdin.readline()
mapping.close()
os.close(memfd)
print(flush=True)
"""


def measure(stalls: Stalls, size: int, regions: int) -> None:
    """All lines."""
    stalls.report("nothing", lambda: time.sleep(NOTHING_SECONDS))
    with another_program(size) as free_as_much:
        stalls.report("another program frees as much", free_as_much)
    with lib_usm.connect(stalls.address, name="large") as client, resident(client, size) as region:
        stalls.report("hint PRIORITY=HIGH", lambda: region.hint("PRIORITY=HIGH"))
        stalls.report("hint EVICTION=DENY", lambda: region.hint("EVICTION=DENY"))
        stalls.report("hint cleared", lambda: region.hint(""))
        ttl = f"PRIORITY=LOW; TTL={TTL_SECONDS:g}"
        stalls.report("hint with a TTL, and its end", lambda: region.hint(ttl), TTL_SECONDS + 0.2)
        pins: list[Pin] = []
        stalls.report("pin", lambda: pins.append(region.pin()))
        stalls.report("unpin", lambda: pins.pop().release())
        stalls.report("unmap", region.close)
    client = lib_usm.connect(stalls.address, name="large")
    small = [resident(client, size)]  # a region that no variable refers to is given back
    stalls.report("detach", client.close)
    client, small = lib_usm.connect(stalls.address, name="many"), []

    def map_many() -> None:
        with suppress(lib_usm.LimitExceeded):
            small.extend(resident(client, REGION_PAGES * PAGE) for _ in range(regions))

    stalls.report(f"map {regions} regions", map_many)
    stalls.report("  nothing, beside them", lambda: time.sleep(1.5 * NOTHING_SECONDS))
    with Admin(admin_socket(stalls.admin_address)) as admin:
        stalls.report("  usmctl status", admin.status)
        stalls.report("  usmctl regions", lambda: admin.regions(0))
    stalls.report("  a hint on each", lambda: [region.hint("PRIORITY=HIGH") for region in small])
    stalls.report(f"detach, {len(small)} regions", client.close)
    with victim(stalls.address, 1, len(small)) as die:
        stalls.report(f"death, {len(small)} regions", die)
    with victim(stalls.address, SESSIONS, 1) as die:
        stalls.report(f"death, {SESSIONS} sessions", die)
    with mappers(stalls.address) as die:
        stalls.report(f"deaths, {MAPPING} that map", die)


def measure_want(stalls: Stalls) -> None:
    """The line of a client that is ended because memory and swap are used up, all of them by its own pages."""

    def use_all_up() -> None:
        with own_daemon.start_python("-c", _GREEDY, stalls.address, str(2 * LITTLE)) as process:
            process.wait()  # SIGBUS ends it, or the error of a call

    stalls.report("a client uses all memory up", use_all_up)


_GREEDY: Final = """
import contextlib, sys, warnings
import lib_usm
address, size = sys.argv[1], int(sys.argv[2])
client = lib_usm.connect(address, name="greedy")
warnings.simplefilter("ignore")  # the region is larger than memory and swap
region = client.mmap(size)
with contextlib.suppress(lib_usm.UsmError):
    region[:] = b"x" * size
"""


def measure_drain(stalls: Stalls) -> None:
    """The line of a drain; the usmd ends with it."""
    with victim(stalls.address, DRAINED, DRAINED_REGIONS) as die, Admin(admin_socket(stalls.admin_address)) as admin:
        stalls.settle()
        stalls.meter.reset()
        begun = time.perf_counter()
        admin.drain(0.0)
        while Path(stalls.admin_address.removeprefix("unix:")).exists():
            time.sleep(_POLL_SECONDS)
        stalls.say(f"drain, {DRAINED} sessions", time.perf_counter() - begun)
        die()


@contextmanager
def measured(mechanism: str, memory: int, regions: int) -> Iterator[tuple[OwnDaemon, Meter]]:
    """A usmd with so many bytes of memory that measures its loop, and the meter."""
    with tempfile.TemporaryDirectory(prefix="usmd-bench-") as name:
        config, numbers = Path(name) / "usmd.toml", Path(name) / "numbers"
        most_regions = max(regions, 2 * MAPPED, DRAINED_REGIONS) + 1  # a mapper has new ones before the old ones go
        most_sessions = max(SESSIONS, MAPPING, DRAINED) + 2
        text = f"[memory]\nmax_regions = {most_regions}\n[server]\nmax_user_sessions = {most_sessions}\n"
        text += f"drain_grace = {GRACE_SECONDS}\n"
        config.write_text(text, encoding="utf-8")
        flags: tuple[str, ...] = ("--config", str(config), "--mechanism", mechanism, "--page-size", str(PAGE))
        flags += ("--memory", str(memory))
        flags += ("--swap", "memory:16MiB", "--alloc", "flexible_huge_pages(pages=1)", "--oom", "kill_largest")
        with running(*flags, program=("-m", "bench.stalls_daemon", str(numbers))) as daemon:
            yield daemon, Meter(numbers)


@contextmanager
def beside(daemon: OwnDaemon, meter: Meter, touch: Touch | None) -> Iterator[Stalls]:
    """The setting of a line, with a neighbour that faults."""
    with lib_usm.connect(daemon.address, name="neighbour") as client, Neighbour(client, touch) as neighbour:
        yield Stalls(daemon.address, daemon.admin_address, meter, neighbour)


def run(mechanism: str, size: int, regions: int) -> None:
    """Print all lines, or why nothing can be measured here."""
    print(f"what stands while much is asked for ({size >> 20} MiB resident, --mechanism {mechanism}; longest, in ms)")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # without root there are fewer regions
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, DESCRIPTORS),) * 2)
    try:
        with compiled() as folder:
            touch = Touch(folder / "touch.so") if mechanism == "userfaultfd" else None
            memory = 2 * size + (NEIGHBOUR_PAGES + max(regions, SESSIONS) * REGION_PAGES) * PAGE
            with measured(mechanism, memory, regions) as (daemon, meter), beside(daemon, meter, touch) as stalls:
                measure(stalls, size, regions)
            with measured(mechanism, LITTLE, regions) as (daemon, meter):
                with beside(daemon, meter, touch) as stalls:
                    measure_want(stalls)
                measure_drain(stalls)
    except NoCompilerError as error:
        print(f"  skipped: {error}")


def main() -> None:
    """Run with real memory if possible."""
    run("simulated" if uffd.usable(uffd.probe()) else "userfaultfd", SIZE, REGIONS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=parse_size, default=SIZE, help="resident bytes (default: 1GiB)")
    parser.add_argument("--regions", type=int, default=REGIONS, help=f"small regions (default: {REGIONS})")
    parser.add_argument("--mechanism", choices=("userfaultfd", "simulated"), default="userfaultfd")
    chosen = parser.parse_args()
    run(chosen.mechanism, chosen.size, chosen.regions)

"""The ways to run a redis-server that `bench redis` compares: alone, in the kernel's swap, and in usmd."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from bench.kernel_memory import MemoryCgroup, UnavailableError, memory_cgroup, swap_file
from bench.native import PAGE
from bench.redis_server import redis_server
from bench.sides import usmd_for
from usmd.ctl.address import admin_socket
from usmd.ctl.connect import Admin

EXTRA: Final = 16 << 20
"""Bytes of usmd's cgroup beyond usmd's memory: the page cache of the swap file, the daemon's tables, and what of the
server is not usmd's."""
KERNEL_EXTRA: Final = 4 << 20
"""Bytes of the kernel's cgroup beyond that memory: what of the server would not be usmd's."""
ALONE: Final = "without usmd"
KERNEL: Final = "kernel's swap"
OWN: Final = "usmd, its own"
COMPRESSED: Final = 0.0
"""Part of the memory of OWN in which pages are compressed; the rest is frames."""
OWN_FLAGS: Final = ("--evict", "lfu", "--fault-wakeup", "spin:200")
OWN_SAMPLING: Final = 1.25
"""`memory.sampling` of OWN."""
USMCTL: Final = (sys.executable, "-c", "import sys; from usmd.ctl.cli import main; sys.exit(main())")


class Running(NamedTuple):
    """A server: its socket, its page faults so far, and what to say of its swap."""

    socket: Path
    faults: Callable[[], int]
    note: Callable[[], str] = str


class Side(NamedTuple):
    """A way to run the server: `start(folder, memory, swap)`, both in bytes."""

    name: str
    start: Callable[[Path, int, int], Iterator[Running]]


def faults_of(pid: int) -> int:
    """Page faults of a process, as the kernel counts them, those without I/O included."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return int(fields[7]) + int(fields[9])


def _inside(group: MemoryCgroup | None) -> tuple[str, ...]:
    """A command that starts another one in a cgroup."""
    return () if group is None else ("sh", "-c", 'echo $$ >"$0" && exec "$@"', str(group.procs))


@contextmanager
def _usmd(
    folder: Path, memory: int, swap: int, fhp: str, *flags: str, frames: int, bounded: bool
) -> Iterator[tuple[Path, Admin]]:
    """A usmd with so many bytes of frames, in a cgroup of `memory`, and the server under `usmctl run --fhp`."""
    with ExitStack() as stack:
        group = stack.enter_context(memory_cgroup(memory + EXTRA)) if bounded else None
        at = stack.enter_context(usmd_for(*flags, memory=frames, swap=swap, group=group))
        admin = stack.enter_context(Admin(admin_socket(at["admin_address"])))
        run = (*_inside(group), *USMCTL, "run", "--require", "--socket", at["address"], "--fhp", fhp, "--")
        _, path = stack.enter_context(redis_server(folder, None, run))
        yield path, admin


def under_usmd(size: str, *, bounded: bool) -> Side:
    """The server under `usmctl run --fhp SIZE`, with a swap file."""

    def start(folder: Path, memory: int, swap: int) -> Iterator[Running]:
        with _usmd(folder, memory, swap, size, frames=memory, bounded=bounded) as (path, admin):
            yield Running(path, lambda: admin.status().counters["faults"])

    return Side(f"usmd {size}", start)


def with_its_own(
    name: str = OWN, *flags: str, compressed: float = COMPRESSED, sampling: float = OWN_SAMPLING, bounded: bool
) -> Side:
    """The same with single pages and these flags. `sampling`: as `memory.sampling`.

    `compressed`: a part of the memory has compressed pages, in front of the file.
    """

    def start(folder: Path, memory: int, swap: int) -> Iterator[Running]:
        zipped = int(memory * compressed) // PAGE * PAGE
        first = ("--swap", f"compressed:{zipped}") if zipped else ()
        config = folder / "own.toml"
        config.write_text(f"[memory]\nsampling = {sampling}\n", encoding="utf-8")
        given = ("--config", str(config), *first, *(flags or OWN_FLAGS))
        with _usmd(folder, memory, swap, "4K", *given, frames=memory - zipped, bounded=bounded) as (path, admin):
            yield Running(path, lambda: admin.status().counters["faults"], lambda: _compression(admin))

    return Side(name, start)


def _compression(admin: Admin) -> str:
    """How well a compressed device's pages compress, and how many pages are on it and on the file."""
    said = []
    for device in admin.swap_devices():
        pages = device.slots - device.free_slots
        ratio = pages * PAGE / device.stored_bytes if device.kind == "compressed" and device.stored_bytes else 0
        held = f" in {device.held_bytes >> 20} MiB, {ratio:.1f} times smaller" if ratio else ""
        said.append(f"{pages:,} pages {device.kind}{held}")
    return ", ".join(said)


def alone(folder: Path, memory: int, swap: int) -> Iterator[Running]:
    """The server alone, with all memory that it wants."""
    del memory, swap
    with redis_server(folder) as (process, path):
        yield Running(path, lambda: faults_of(process.pid))


def under_the_kernel(folder: Path, memory: int, swap: int) -> Iterator[Running]:
    """The server in a cgroup, with the kernel's swap."""
    with (
        memory_cgroup(memory + KERNEL_EXTRA) as group,
        swap_file(swap),
        redis_server(folder, None, _inside(group)) as (process, path),
    ):
        yield Running(path, lambda: faults_of(process.pid))


def sides(sizes: tuple[str, ...]) -> list[Side]:
    """The sides that this machine can run; says which it cannot."""
    found = [Side(ALONE, alone)]
    bounded = True
    try:
        with memory_cgroup(EXTRA), swap_file(1 << 20):
            found.append(Side(KERNEL, under_the_kernel))
    except UnavailableError as error:
        print(f"  kernel's swap: skipped: {error}; the page cache of usmd's swap file has no bound")
        bounded = False
    return [*found, *(under_usmd(size, bounded=bounded) for size in sizes), with_its_own(bounded=bounded)]

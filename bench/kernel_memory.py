"""A temporary memory cgroup and swap file, for the kernel's side of a comparison; both are removed after the block.

Works with cgroup v1 and v2, as root. UnavailableError says why something is not available.
"""

from __future__ import annotations

import ctypes
import os
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from bench.native import PAGE

MOUNTS: Final = Path("/proc/self/mounts")
SWAPS: Final = Path("/proc/swaps")
_HEADER: Final = struct.Struct("<III")
_HEADER_AT: Final = 1024
_MAGIC: Final = b"SWAPSPACE2"
_CHUNK: Final = 1 << 20
_REMOVAL_SECONDS: Final = 5.0
_libc: Final = ctypes.CDLL(None, use_errno=True)


class UnavailableError(Exception):
    """The machine does not have it, or this user may not use it; the message says why."""


class MemoryCgroup(NamedTuple):
    """A cgroup with a limit; `version` is 1 or 2."""

    path: Path
    version: int

    @property
    def procs(self) -> Path:
        """The file to which a process's number is written to move it here."""
        return self.path / "cgroup.procs"

    def add(self, pid: int) -> None:
        """Count what the process allocates from now on here."""
        self.procs.write_text(str(pid))

    def forbid_swap(self) -> None:
        """Keep the kernel from swapping its memory."""
        (self.path / ("memory.swappiness" if self.version == 1 else "memory.swap.max")).write_text("0")


@contextmanager
def memory_cgroup(limit: int) -> Iterator[MemoryCgroup]:
    """A memory cgroup of at most `limit` bytes. Raises UnavailableError."""
    parent, version = _controller()
    group = MemoryCgroup(parent / f"usmd-bench-{os.getpid()}", version)
    try:
        group.path.mkdir()
    except OSError as error:
        raise UnavailableError(f"no cgroup can be made in {parent}: {error.strerror}") from error
    try:
        try:
            (group.path / ("memory.limit_in_bytes" if version == 1 else "memory.max")).write_text(str(limit))
        except OSError as error:
            raise UnavailableError(f"{group.path} takes no memory limit: {error.strerror}") from error
        yield group
    finally:
        _remove(group.path)


def _controller() -> tuple[Path, int]:
    """Parent folder for cgroups with a memory limit, and the cgroup version. Raises UnavailableError."""
    unified: Path | None = None
    for line in MOUNTS.read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup" and "memory" in options.split(","):
            return Path(place), 1
        if kind == "cgroup2":
            unified = Path(place)
    if unified is None:
        raise UnavailableError("no cgroup file system is mounted")
    if "memory" not in (unified / "cgroup.subtree_control").read_text().split():
        raise UnavailableError(f"{unified} has no memory controller for its children (cgroup.subtree_control)")
    return unified, 2


def _remove(path: Path) -> None:
    """Remove a cgroup, whose last process may still be ending."""
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while True:
        try:
            path.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def swap_file(size: int) -> Iterator[str]:
    """Let the kernel swap to a new file of `size` bytes in the temporary folder, unless it has swap already.

    Yields a description of the swap. Raises UnavailableError.
    """
    active = SWAPS.read_text().splitlines()[1:]
    if active:
        yield f"the machine's own swap ({', '.join(line.split()[0] for line in active)})"
        return
    with tempfile.TemporaryDirectory(prefix="usmd-bench-") as folder:
        path = Path(folder) / "swap"
        _write_swap_file(path, size)
        if _libc.swapon(os.fsencode(path), 0):
            why = os.strerror(ctypes.get_errno())
            raise UnavailableError(f"swapon refuses {path}: {why} (it takes root, and a TMPDIR on a disk)")
        try:
            yield "a swap file"
        finally:
            if _libc.swapoff(os.fsencode(path)):
                why = os.strerror(ctypes.get_errno())
                raise RuntimeError(f"swapoff {path}: {why}; end it by hand")


def _write_swap_file(path: Path, size: int) -> None:
    """Write a file as mkswap does, without holes, which the kernel would refuse. Raises UnavailableError."""
    header = bytearray(PAGE)
    _HEADER.pack_into(header, _HEADER_AT, 1, size // PAGE - 1, 0)
    header[-len(_MAGIC) :] = _MAGIC
    nothing = bytes(_CHUNK)
    try:
        with path.open("xb") as file:
            path.chmod(0o600)
            file.write(header)
            while (left := size - file.tell()) > 0:
                file.write(nothing[:left])
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UnavailableError(f"no swap file of {size} bytes can be written at {path}: {error.strerror}") from error

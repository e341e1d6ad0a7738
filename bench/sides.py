"""A side of a comparison with the kernel: a program in a process of its own, and a usmd for it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol, TypeVar

import msgspec

from bench.kernel_memory import MemoryCgroup
from bench.native import PAGE
from tools import own_daemon
from tools.own_daemon import OwnDaemon, running

_CREDENTIALS: Final = struct.Struct("3i")


class Checked(Protocol):
    """Results of a program that compares what it reads with what it stored."""

    wrong: int
    """Reads that did not find what had been stored."""


_R = TypeVar("_R", bound=Checked)


def run_program(name: str, settings: Mapping[str, object], kind: type[_R], seconds: float) -> _R:
    """Run bench.NAME with settings, for `seconds` at most. Raises RuntimeError if it fails, or if a read is wrong."""
    with own_daemon.start_python("-m", f"bench.{name}", msgspec.json.encode(settings).decode(), says=True) as program:
        try:
            said, _ = program.communicate(timeout=seconds)
        finally:
            program.kill()
    if program.returncode:
        raise RuntimeError(f"the {name} ended with {program.returncode}")
    result = msgspec.json.decode(said, type=kind)
    if result.wrong:
        raise RuntimeError(f"{result.wrong} reads of the {name} did not find what had been stored")
    return result


@contextmanager
def usmd_for(*flags: str, memory: int, swap: int | None, group: MemoryCgroup | None = None) -> Iterator[dict[str, str]]:
    """A separate usmd with real memory, in a cgroup if one is given; yields the settings by which a program uses it.

    `swap`: bytes of a swap file; None: the flags name the swap devices.
    """
    real = ("--mechanism", "userfaultfd", "--memory", str(memory), "--page-size", str(PAGE))
    with running(*real, *flags, swap_file=None if swap is None else str(swap)) as daemon:
        if group is not None:
            group.forbid_swap()
            group.add(_pid_of(daemon))
        yield {
            "address": daemon.address,
            "admin_address": daemon.admin_address,
            "cgroup_procs": "" if group is None else str(group.procs),
        }


def _pid_of(daemon: OwnDaemon) -> int:
    """Process number of a daemon."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(daemon.address.removeprefix("unix:"))
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(credentials)[0]
    return pid

"""Shared by the examples on real memory: a separate daemon whose memory is mapped into them, and its counters.

Real memory is that of the mechanism `userfaultfd`: a region's bytes are a mapping, and usmd serves the hardware's page
fault when an absent page is touched. Any code that works on memory works on it, NumPy's too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

import lib_usm
from tools.own_daemon import running
from usmd.ctl.address import admin_socket
from usmd.ctl.connect import Admin
from usmd.errors import InvalidSize
from usmd.mechanism.uffd import probe, usable
from usmd.sizes import format_size, parse_size

PAGE: Final = 4096


class Memory(NamedTuple):
    """A session with a separate daemon, and the admin calls of that daemon."""

    client: lib_usm.Client
    admin: Admin


class Counts(NamedTuple):
    """Counters of the one process, at a moment, or between two moments (`since`)."""

    faults: int
    major: int
    evictions: int
    swap_ins: int
    swap_outs: int

    @classmethod
    def now(cls, admin: Admin) -> Self:
        """The present counters."""
        (process,) = admin.processes()
        names = ("faults", "major_faults", "evictions", "swap_ins", "swap_outs")
        return cls(*(process.counters[name] for name in names))

    def since(self, before: Self) -> Self:
        """What was counted since `before`."""
        return type(self)(*(now - then for now, then in zip(self, before, strict=True)))


def require() -> None:
    """End the program, with advice, if this machine's kernel gives this user no usable userfaultfd."""
    why_not = usable(probe())
    if why_not:
        raise SystemExit(
            f"this example needs real memory, and usmd has none here: {why_not}\n"
            ".venv/bin/usmctl doctor says what is missing and how to get it"
        )


@contextmanager
def serving(name: str, memory: int, swap: int, *flags: str) -> Iterator[Memory]:
    """Start a usmd with `memory` bytes of real memory and a swap file of `swap` bytes, and attach as `name`."""
    flags = ("--memory", str(memory), "--mechanism", "userfaultfd", *flags)
    with (
        running(*flags, swap_file=str(swap)) as daemon,
        lib_usm.connect(daemon.address, name=name) as client,
        Admin(admin_socket(daemon.admin_address)) as admin,
    ):
        yield Memory(client, admin)


def whole_pages(size: int) -> int:
    """`size` bytes, rounded up to pages."""
    return -(-size // PAGE) * PAGE


def shares(size: int, memory: int) -> str:
    """Two sizes and their ratio, as text."""
    return f"{format_size(size)} over {format_size(memory)} of memory ({size / memory:.3g} times)"


def read_size(text: str) -> int:
    """A size in whole pages, for an option of the command line. Raises typer.BadParameter."""
    try:
        size = parse_size(text)
    except InvalidSize as error:
        raise typer.BadParameter(str(error)) from error
    if not size or size % PAGE:
        raise typer.BadParameter(f"{text!r} is not a whole number of pages of {PAGE} bytes")
    return size


def bars(console: Console, *more: ProgressColumn) -> Progress:
    """Progress bars, one per step, with `more` columns at the end."""
    columns = (TextColumn("{task.description:27}"), BarColumn(bar_width=20), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, *more, console=console)

"""A progress bar for long work, on standard error, if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from usmd.text_output import encoding_of, printable

Advance = Callable[[int], None]
"""Called with the amount of work done since the last call."""


@contextmanager
def progress_bar(what: str, total: int | None, *, of_bytes: bool = False) -> Iterator[Advance]:
    """A bar over `total` units (None: unknown) while the work lasts."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    of = "" if total is None else f" of {total:,}"
    amount = DownloadColumn(binary_units=True) if of_bytes else TextColumn("{task.completed:,.0f}" + of)
    described = TextColumn("{task.description}", markup=False)
    columns = (described, BarColumn(), TaskProgressColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(printable(what, encoding_of(sys.stderr)), total=total)
        yield lambda done: progress.advance(task, done)

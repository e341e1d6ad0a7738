"""`python -m examples.sort_array`: sort a NumPy array that is four times larger than the memory.

The array is in a region of usmd. It is filled with seeded random numbers, sorted in place by NumPy's own sort, and
checked: it is in order, and has the same numbers as before. There is no second copy of it. NumPy knows nothing of usmd:
a touch of an absent page is a page fault, which usmd serves from its swap file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn
from rich.table import Table

from examples.real_memory import Counts, bars, read_size, require, serving, shares
from usmd.ctl.connect import Admin

SEED: Final = 20
CHUNK: Final = 1 << 17
"""Numbers processed at a time: 1 MiB."""
ALLOC: Final = "flexible_huge_pages(pages=16)"
POLL_SECONDS: Final = 0.2

Numbers = NDArray[np.float64]
Bits = NDArray[np.uint64]

console = Console(highlight=False)


class Fingerprint(NamedTuple):
    """A value that depends on a set of numbers and not on their order, and almost surely differs for other sets."""

    numbers: int
    xor: int
    total: int
    """Sum of the mixed bits of each number, modulo 2**64."""


class Step(NamedTuple):
    """The cost of a step."""

    name: str
    counts: Counts
    seconds: float


class Result(NamedTuple):
    """The number of numbers, the mechanism, and the costs."""

    numbers: int
    mechanism: str
    steps: list[Step]


def mixed(bits: Bits) -> Bits:
    """Each number's bits, spread so that sums distinguish sets of numbers (the finalizer of splitmix64)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def added(fingerprint: Fingerprint, numbers: Numbers) -> Fingerprint:
    """The fingerprint with more numbers."""
    bits = numbers.view(np.uint64)
    xor = fingerprint.xor ^ int(np.bitwise_xor.reduce(bits))
    total = (fingerprint.total + int(mixed(bits).sum())) % 2**64
    return Fingerprint(fingerprint.numbers + len(numbers), xor, total)


NOTHING: Final = Fingerprint(0, 0, 0)


def fill(array: Numbers, seed: int, advance: Callable[[int], None]) -> Fingerprint:
    """Fill the array with random numbers in place, and take their fingerprint while they are in memory."""
    random, found = np.random.default_rng(seed), NOTHING
    for start in range(0, len(array), CHUNK):
        part = array[start : start + CHUNK]
        random.random(out=part)
        found = added(found, part)
        advance(len(part))
    return found


def check(array: Numbers, expected: Fingerprint, advance: Callable[[int], None]) -> None:
    """End the program unless the array is in order and has the numbers that filled it."""
    found, last = NOTHING, -np.inf
    for start in range(0, len(array), CHUNK):
        part = array[start : start + CHUNK]
        if part[0] < last or not bool(np.all(part[:-1] <= part[1:])):
            raise SystemExit(f"not in order, at number {start:,} or in the {CHUNK:,} that follow")
        last = float(part[-1])
        found = added(found, part)
        advance(len(part))
    if found != expected:
        raise SystemExit(f"in order, but other numbers than before: {found}, not {expected}")


def traffic(counts: Counts) -> str:
    """Numbers of pages from and to swap."""
    return f"{counts.swap_ins:,} in, {counts.swap_outs:,} out"


@contextmanager
def told(progress: Progress, task: TaskID, admin: Admin, before: Counts) -> Iterator[None]:
    """While the block runs, keep the numbers of pages from and to swap on its bar up to date."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(POLL_SECONDS):
            now = Counts.now(admin).since(before)
            progress.update(task, note=traffic(now))

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


class Sorting:
    """The three steps, each with a progress bar and its cost."""

    def __init__(self, progress: Progress, admin: Admin, array: Numbers) -> None:
        self._progress = progress
        self._admin = admin
        self._array = array
        self.steps: list[Step] = []

    @contextmanager
    def _step(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        bar = self._progress.add_task(name, total=total, note="")
        before, started = Counts.now(self._admin), time.perf_counter()
        with told(self._progress, bar, self._admin, before):
            yield lambda done: self._progress.advance(bar, done)
        seconds = time.perf_counter() - started
        counts = Counts.now(self._admin).since(before)
        self.steps.append(Step(name, counts, seconds))
        self._progress.update(bar, total=total or 1, completed=total or 1, note=traffic(counts))

    def run(self, seed: int) -> None:
        """Fill, sort, check."""
        with self._step("filling", len(self._array)) as advance:
            expected = fill(self._array, seed, advance)
        with self._step("sorting", None):
            self._array.sort()
        with self._step("checking", len(self._array)) as advance:
            check(self._array, expected, advance)


def sort_array(size: int, memory: int, seed: int = SEED, alloc: str = ALLOC) -> Result:
    """Sort `size` bytes of numbers over `memory` bytes. Ends the program if the outcome is wrong."""
    require()
    count = size // np.dtype(np.float64).itemsize
    console.print(f"{count:,} numbers: {shares(size, memory)}, and a swap file")
    with (
        serving("sort_array", memory, 2 * size, "--alloc", alloc) as (client, admin),
        bars(console, TextColumn("{task.fields[note]}")) as progress,
    ):
        region = client.mmap(size, name="array")
        array = region.ndarray(np.float64, (count,))
        sorting = Sorting(progress, admin, array)
        sorting.run(seed)
        result = Result(count, admin.status().mechanism, sorting.steps)
        del array, sorting  # else the region could not be closed
        region.close()
    return result


def show(result: Result) -> None:
    """Print the table."""
    table = Table(title="what it cost")
    table.add_column("")
    for title in ("faults", "from swap", "evictions", "pages in", "pages out", "seconds"):
        table.add_column(title, justify="right")
    for step in result.steps:
        table.add_row(step.name, *(f"{count:,}" for count in step.counts), f"{step.seconds:.1f}")
    console.print(table)
    console.print(
        "a fault not from swap: a first touch of a page, or the first write since it came\n"
        f"{result.numbers:,} numbers are in order, and the same as before\n\n"
        f"mechanism: {result.mechanism}   alloc: {ALLOC}"
    )


def command(
    size: Annotated[
        int,
        typer.Option(parser=read_size, metavar="SIZE", help="The array, 64MiB; 8 bytes a number.", show_default=False),
    ] = 64 << 20,
    memory: Annotated[
        int, typer.Option(parser=read_size, metavar="SIZE", help="Memory of usmd, 16MiB.", show_default=False)
    ] = 16 << 20,
    seed: Annotated[int, typer.Option(min=0, help="Other numbers, by another seed.")] = SEED,
) -> None:
    """Sort a NumPy array in place that is larger than its memory.

    Without options: 64 MiB of numbers over 16 MiB of memory, four times that.

    A larger array over the same memory moves more pages to and from the swap file.
    """
    show(sort_array(size, memory, seed))


def main() -> None:
    """Read the command line and run."""
    name = "python -m examples.sort_array"
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(epilog=f"Examples:\n\n{name}\n\n{name} --size 256MiB --memory 32MiB")(command)
    app(prog_name=name)


if __name__ == "__main__":
    main()

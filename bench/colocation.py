"""Progress during page fetches: a CPU-bound task beside random reads from swap, on one kernel thread.

Two uThreads count the words of real text; other uThreads read random records of a region of four times the memory,
whose swap is a file with direct I/O. This is compared with faults that block the kernel thread until the page is there:
plain touches, which wait in the kernel, as in a program without a LocalManager. All counts and records are checked.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import lib_usm
from bench import as_program
from lib_usm import LocalManager
from tools.own_daemon import running
from usmd.mechanism import uffd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MEMORY: Final = 32 << 20
REGION: Final = 4 * MEMORY
PAGE: Final = 4096
RECORD: Final = 64
READERS: Final = (1, 4, 16, 64)
COUNTERS: Final = 2
"""Number of uThreads that count words."""
SECONDS: Final = 1.0
ROUNDS: Final = 3
TEXT_BYTES: Final = 2048
"""Bytes of text counted between two yields."""
READS: Final = 4000
PARTS: Final = 10_000
"""Reads, and parts of text, of the runs that are timed to their end."""
AIM: Final = 2.26
OUT: Final = Path(__file__).parent / "out"
_WORD: Final = re.compile(r"\w+")
_pages: Final = random.Random(20)
"""One generator for all runs, so that no run reads the pages that the previous one has brought in."""


class Run(NamedTuple):
    """The results of one run."""

    parts: float
    """Parts of text counted per second."""
    reads: float
    """Records read per second."""
    idle: float
    """Share of the time in which the kernel thread slept, or a fault blocked it."""
    total: float
    """Seconds for a fixed amount of both tasks."""


class Text:
    """Real text in parts (the source of argparse), with the number of each word in each part."""

    def __init__(self) -> None:
        text = Path(argparse.__file__).read_text(encoding="utf-8")
        self.parts = [text[start : start + TEXT_BYTES] for start in range(0, len(text), TEXT_BYTES)]
        self.words = [Counter(_WORD.findall(part)) for part in self.parts]

    def count(self, number: int) -> None:
        """Count the words of a part. Raises RuntimeError for a wrong count."""
        number %= len(self.parts)
        if Counter(_WORD.findall(self.parts[number])) != self.words[number]:
            raise RuntimeError("the words of a text were counted wrongly")


def record(page: int) -> bytes:
    """The first bytes of page `page`."""
    return random.Random(page).randbytes(RECORD)


def fill(region: lib_usm.Region) -> None:
    """Write a record to the start of each page, and zeros behind it."""
    for page in range(REGION // PAGE):
        region.write(page * PAGE, record(page) + bytes(8) + page.to_bytes(8, "little"))


class Task:
    """The work of both kinds of uThread, for a time or for an amount."""

    def __init__(
        self, client: lib_usm.Client, region: lib_usm.Region, text: Text, readers: int, *, asynchronous: bool
    ) -> None:
        self.lm = LocalManager(client, asynchronous=asynchronous)
        self.asynchronous = asynchronous
        self.region = region
        self.text = text
        self.readers = readers
        self.parts = self.reads = 0
        self.blocked = 0.0

    def run(self, more_parts: Callable[[], bool], more_reads: Callable[[], bool]) -> float:
        """Run both kinds while there is work; returns the seconds."""

        def count() -> None:
            while more_parts():
                self.text.count(self.parts)
                self.parts += 1
                self.lm.yield_now()

        # The comparison is with a touch that waits in the kernel; `read` would make the page resident first.
        touches = self.region.buffer if self.region.mapping is not None and not self.asynchronous else None

        def read() -> None:
            pages = REGION // PAGE
            while more_reads():
                page = _pages.randrange(pages)
                began = time.perf_counter()
                start = page * PAGE
                found = self.region.read(start, RECORD) if touches is None else bytes(touches[start : start + RECORD])
                self.blocked += time.perf_counter() - began
                if found != record(page):
                    raise RuntimeError(f"page {page} is not what was stored")
                self.reads += 1
                self.lm.yield_now()

        handles = [self.lm.spawn(count) for _ in range(COUNTERS)] + [self.lm.spawn(read) for _ in range(self.readers)]
        began = time.perf_counter()
        self.lm.run()
        seconds = time.perf_counter() - began
        for handle in handles:
            handle.result()
        return seconds


def measure(client: lib_usm.Client, region: lib_usm.Region, text: Text, readers: int, *, asynchronous: bool) -> Run:
    """One pair of runs: for a fixed time, and for a fixed amount of work."""
    task = Task(client, region, text, readers, asynchronous=asynchronous)
    deadline = time.perf_counter() + SECONDS

    def more() -> bool:
        return time.perf_counter() < deadline

    seconds = task.run(more, more)
    stats = task.lm.stats()
    # A thread that touches a missing page sleeps in the kernel, which the LocalManager does not see.
    idle = stats.idle_seconds if asynchronous else stats.idle_seconds + (task.blocked if region.mapping else 0.0)
    fixed = Task(client, region, text, readers, asynchronous=asynchronous)
    total = fixed.run(lambda: fixed.parts < PARTS, lambda: fixed.reads < READS)
    return Run(task.parts / seconds, task.reads / seconds, idle / seconds, total)


def median(runs: Sequence[Run]) -> Run:
    """The median of each figure."""
    return Run(*(statistics.median(column) for column in zip(*runs, strict=True)))


def alone(client: lib_usm.Client, text: Text) -> float:
    """Parts of text per second without readers."""
    region = client.mmap(PAGE)
    task = Task(client, region, text, 0, asynchronous=True)
    deadline = time.perf_counter() + SECONDS
    seconds = task.run(lambda: time.perf_counter() < deadline, lambda: False)
    region.close()
    return task.parts / seconds


def compare(client: lib_usm.Client) -> dict[int, tuple[Run, Run]]:
    """Both ways at each number of readers, in alternating rounds; prints a line for each number."""
    text = Text()
    found: dict[int, tuple[Run, Run]] = {}
    with client.mmap(REGION, name="records") as region:
        fill(region)
        print(f"  the words alone: {alone(client, text):8,.0f} parts/s")
        print(
            "  readers           parts/s             ratio          reads/s            ratio      idle or kept      "
            "total s"
        )
        for readers in READERS:
            kept: list[Run] = []
            goes_on: list[Run] = []
            for _ in range(ROUNDS):
                kept.append(measure(client, region, text, readers, asynchronous=False))
                goes_on.append(measure(client, region, text, readers, asynchronous=True))
            before, after = found[readers] = median(kept), median(goes_on)
            print(
                f"  {readers:7}   {before.parts:8,.0f} -> {after.parts:8,.0f}   {after.parts / before.parts:6.2f}x   "
                f"{before.reads:8,.0f} -> {after.reads:8,.0f}   {after.reads / before.reads:6.2f}x   "
                f"{before.idle:5.0%} -> {after.idle:5.0%}   {before.total:6.2f} -> {after.total:6.2f}"
            )
    return found


def plot(found: dict[int, tuple[Run, Run]], path: Path) -> None:
    """Draw the throughputs of both tasks, synchronous beside asynchronous."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4), layout="constrained")
    places = range(len(found))
    titles = {
        "parts": "words: parts of text a second",
        "reads": "records read a second",
        "idle": "share of time idle or kept by a fault",
    }
    for axis, (field, title) in zip(axes, titles.items(), strict=True):
        for shift, index, label, colour in ((-0.2, 0, "synchronous", "#b0b0b0"), (0.2, 1, "asynchronous", "#1f77b4")):
            heights = [getattr(pair[index], field) for pair in found.values()]
            axis.bar([place + shift for place in places], heights, 0.4, label=label, color=colour)
        axis.set_xticks(list(places), [str(readers) for readers in found])
        axis.set_xlabel("uThreads that read")
        axis.set_title(title, fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
    for place, (before, after) in zip(places, found.values(), strict=True):
        ratio = f"{after.parts / before.parts:.1f}x"
        axes[0].annotate(ratio, (place + 0.2, after.parts), ha="center", va="bottom", fontsize=10)
    axes[2].legend(frameon=False, loc="upper left")
    axes[2].set_ylim(0, 1.3)
    figure.suptitle(
        f"One kernel thread: counting words beside random reads of {REGION >> 20} MiB in {MEMORY >> 20} MiB of memory"
    )
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Print a table for each available mechanism, and draw it."""
    print(
        f"colocation: one kThread, {COUNTERS} uThreads count words ({TEXT_BYTES} bytes of text between yields), others "
        f"read {RECORD} bytes at random\n  of {REGION >> 20} MiB over {MEMORY >> 20} MiB of memory, swap: a file with "
        f"direct I/O; median of {ROUNDS} alternating rounds of {SECONDS:g} s;\n  total: {PARTS:,} parts and {READS:,} "
        f"reads; synchronous -> asynchronous (aim: words {AIM}x at the best, never below 1.0x)"
    )
    why_not = uffd.usable(uffd.probe())
    for mechanism in ("userfaultfd", "simulated"):
        if mechanism == "userfaultfd" and why_not:
            print(f"  userfaultfd: skipped: {why_not}")
            continue
        flags = ("--mechanism", mechanism, "--memory", str(MEMORY), "--alloc", "async_aware")
        with (
            running(*flags, swap_file=f"{REGION * 2}:direct") as daemon,
            lib_usm.connect(daemon.address, name="colocation") as client,
        ):
            print(f"  mechanism {mechanism}")
            found = compare(client)
        path = OUT / f"colocation-{mechanism}.png"
        plot(found, path)
        ratios = [after.parts / before.parts for before, after in found.values()]
        print(f"  words: {min(ratios):.2f}x to {max(ratios):.2f}x; drawn in {path.relative_to(OUT.parent.parent)}")


if __name__ == "__main__":
    as_program(main, __doc__)

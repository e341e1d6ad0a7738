"""`make run`: an application whose memory usmd owns, with and without hints; every byte is checked at the end.

Indexes the text of Python's own standard library, and stores text and index in a usmd whose memory is a quarter of
both. Runs the same queries twice from an equal, cold start: without hints, and with hints to keep the index and evict
the text first. Prints the cost of each run, and compares every byte with the files.
"""

from __future__ import annotations

import argparse
import random
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import lib_usm
from examples.word_index import Corpus, Scan, WordIndex
from tools.own_daemon import OwnDaemon, running
from usmd.ctl.address import admin_socket
from usmd.ctl.connect import Admin
from usmd.sizes import format_size

QUERIES: Final = 1000
SEED: Final = 20
PAGE: Final = 4096
ALLOC: Final = "async_aware(regular=flexible_huge_pages(pages=4))"
INDEX_HINT: Final = "PRIORITY=HIGH; EVICTION=DENY"
TEXT_HINT: Final = "PRIORITY=LOW; EVICTION=ALLOW"
MAX_TEXT: Final = 16 << 20

MEMORY_IS: Final = {
    "simulated": "in the daemon, loaded and stored by calls",
    "userfaultfd": "real: mapped here, with page faults that the daemon serves",
}

console = Console(highlight=False)


class Measured(NamedTuple):
    """The cost of a run of the queries, from the daemon's counters."""

    faults: int
    major: int
    index_faults: int
    evictions: int
    yields: int
    seconds: float
    answers: int


def standard_library() -> list[Path]:
    """The Python files of this machine's standard library, without its tests, up to 16 MiB."""
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
    chosen, total = [], 0
    for path in sorted(root.rglob("*.py")):
        if not left_out & set(path.relative_to(root).parts) and path.stat().st_size:
            total += path.stat().st_size
            if total > MAX_TEXT:
                break
            chosen.append(path)
    return chosen


class Demo:
    """The steps, each with a progress bar."""

    def __init__(self, progress: Progress, paths: list[Path], queries: int) -> None:
        self._progress = progress
        self.queries = queries
        self.corpus = Corpus(paths)
        self.scan = Scan()

    def read(self) -> bytes:
        """Read all files and return the index as bytes."""
        bar = self._progress.add_task("reading the standard library", total=self.corpus.length)
        offset = 0
        for path, size in zip(self.corpus.paths, self.corpus.sizes, strict=True):
            self.scan.add(path.read_bytes(), offset)
            offset += size
            self._progress.advance(bar, size)
        return self.scan.packed()

    def store(self, client: lib_usm.Client, packed: bytes) -> WordIndex:
        """Store text and index in two regions."""
        bar = self._progress.add_task("storing text and index in usmd", total=self.corpus.length + len(packed))
        index = WordIndex(client, self.corpus.length, len(packed))
        offset = 0
        for path, size in zip(self.corpus.paths, self.corpus.sizes, strict=True):
            index.store_text(offset, path.read_bytes())
            offset += size
            self._progress.advance(bar, size)
        index.store_index(packed, lambda stored: self._progress.advance(bar, stored))
        return index

    def query(self, index: WordIndex, admin: Admin, title: str) -> Measured:
        """Run the queries, the same each time, and return their cost."""
        words = sorted(self.scan.words)
        picks = random.Random(SEED).choices(words, k=self.queries)
        bar = self._progress.add_task(f"{self.queries} queries {title}", total=self.queries)
        before, started, answers = counts(admin), time.perf_counter(), 0
        for word in picks:
            lines = index.find(word)
            if not lines or not all(line.startswith(word) for line in lines):
                raise SystemExit(f"a wrong answer for {word.decode()}: {lines}")
            answers += len(lines)
            self._progress.advance(bar)
        seconds = time.perf_counter() - started
        after = counts(admin)
        return Measured(**{key: after[key] - before[key] for key in before}, seconds=seconds, answers=answers)

    def verify(self, index: WordIndex) -> None:
        """Compare every byte of every file with what usmd returns."""
        bar = self._progress.add_task("comparing every byte with the files", total=self.corpus.length)
        offset = 0
        for path, size in zip(self.corpus.paths, self.corpus.sizes, strict=True):
            if index.text[offset : offset + size] != path.read_bytes():
                raise SystemExit(f"{path} came back different")
            offset += size
            self._progress.advance(bar, size)


def counts(admin: Admin) -> dict[str, int]:
    """The present counters of the demo's one process."""
    (process,) = admin.processes()
    regions = {region.name: region for region in admin.regions(process.process_id)}
    return {
        "faults": process.counters["faults"],
        "major": process.counters["major_faults"],
        "index_faults": regions["index"].faults,
        "evictions": process.counters["evictions"],
        "yields": process.counters["yields"],
    }


def cold(client: lib_usm.Client, index: WordIndex) -> None:
    """Evict everything, for an equal start of each run."""
    for region in (index.index, index.text):
        client.usm_hint(region, "DONTNEED")


def run_in(daemon: OwnDaemon, demo: Demo, packed: bytes) -> tuple[Measured, Measured, str]:
    """Store, query twice, verify; returns the costs of the two runs, and the mechanism."""
    with (
        lib_usm.connect(daemon.address, name="word_index") as client,
        Admin(admin_socket(daemon.admin_address)) as admin,
    ):
        mechanism = admin.status().mechanism
        console.print(f"memory is {MEMORY_IS[mechanism]} (mechanism {mechanism})")
        if mechanism == "userfaultfd" and client.why_no_buffer:
            raise SystemExit(f"usmd serves real page faults, but not to this process: {client.why_no_buffer}")
        index = demo.store(client, packed)
        cold(client, index)
        without = demo.query(index, admin, "without hints")
        cold(client, index)
        client.usm_hint(index.index, INDEX_HINT)
        client.usm_hint(index.text, TEXT_HINT)
        with_hints = demo.query(index, admin, "with hints")
        demo.verify(index)
    return without, with_hints, mechanism


def show(without: Measured, with_hints: Measured) -> None:
    """Print the table."""
    table = Table(title="what the same queries cost")
    table.add_column("")
    table.add_column("without hints", justify="right")
    table.add_column("with hints", justify="right")
    for name, field in (
        ("faults", "faults"),
        ("  major (from swap)", "major"),
        ("  on the index", "index_faults"),
        ("evictions", "evictions"),
        ("yields (USM_YIELD)", "yields"),
    ):
        table.add_row(name, f"{getattr(without, field):,}", f"{getattr(with_hints, field):,}")
    table.add_row("seconds", f"{without.seconds:.1f}", f"{with_hints.seconds:.1f}")
    console.print(table)


def main(
    paths: list[Path] | None = None, queries: int = QUERIES, mechanism: str = "auto"
) -> tuple[Measured, Measured, str]:
    """Run the demo over these files (None: the standard library); returns what `run_in` returns."""
    columns = (TextColumn("{task.description:34}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        demo = Demo(progress, standard_library() if paths is None else paths, queries)
        packed = demo.read()
        total = demo.corpus.length + len(packed)
        memory = total // 4 // PAGE * PAGE
        console.print(
            f"{len(demo.corpus.paths)} files: {format_size(demo.corpus.length)} of text, {format_size(len(packed))} of "
            f"index ({len(demo.scan.words):,} words)\n"
            f"usmd has {format_size(memory)} of memory, a quarter of that, and a swap file"
        )
        flags = ("--memory", str(memory), "--alloc", ALLOC, "--evict", "hint_aware", "--mechanism", mechanism)
        with running(*flags, swap_file=str(2 * total)) as daemon:
            without, with_hints, mechanism = run_in(daemon, demo, packed)
    show(without, with_hints)
    console.print(
        f"every byte of {len(demo.corpus.paths)} files is right, "
        f"after {without.answers + with_hints.answers:,} right answers\n\n"
        f"hints: index {INDEX_HINT}\n"
        f"       text  {TEXT_HINT}\n"
        f"alloc: {ALLOC}\n"
        f"evict: hint_aware   oom: refuse   mechanism: {mechanism}\n\n"
        "next:  .venv/bin/usmd serve        a daemon of your own, on defaults\n"
        "       .venv/bin/usmctl status     look in; then map, regions, explain\n"
        "       README.md                   ten lines that use it; docs/ for the rest"
    )
    return without, with_hints, mechanism


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description=__doc__,
        epilog="example: python -m examples.demo --queries 200 --mechanism simulated",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--queries", type=int, default=QUERIES, metavar="N", help=f"queries of each run ({QUERIES:,})")
    parser.add_argument(
        "--mechanism",
        choices=("auto", *MEMORY_IS),
        default="auto",
        help="kind of memory: userfaultfd is real, simulated is in the daemon; auto: what this machine can (default)",
    )
    found = parser.parse_args(given)
    if found.queries < 1:
        parser.error(f"argument --queries: {found.queries}; allowed is 1 and more")
    return found


if __name__ == "__main__":
    asked = arguments()
    try:
        main(queries=asked.queries, mechanism=asked.mechanism)
    except KeyboardInterrupt:
        sys.exit("interrupted")

"""Replay throughput of every evict policy, beside libCacheSim's Python plug-in cache with LRU.

Each round takes the CPU time of the plug-in and then of usmd's replay, so that both run on the same machine state; the
ratio is that of their medians. The replay runs the whole core: page table, frames, slots, counters, and the policy
behind its guard. The plug-in is libCacheSim's cache in C with hooks in Python, which keep the order in an OrderedDict.
It is driven by `get` from Python and, in a second line, by libCacheSim's own reader. The last lines are the wall time
of `usmctl replay` with its default policies on a text of ten times the accesses, reading included, in one process and
two.
"""

from __future__ import annotations

import statistics
import struct
import subprocess
import sys
import tempfile
import time
from array import array
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

from bench import as_program
from usmd.compiled import BUILD
from usmd.lab.loading import Trace, gather
from usmd.lab.replay import Replay, Setup
from usmd.lab.traces.trace import cut
from usmd.policies import registry

PAGES: Final = 100_000
FRAMES: Final = PAGES // 10
SKEW: Final = 1.0
ACCESSES: Final = 500_000
ROUNDS: Final = 5
IN_TEXT: Final = 10 * ACCESSES
AIMS: Final = {
    "lru": "aim 2.0x of the plug-in driven by get",
    "s3_fifo": "aim 1,200,000/s",
    "sieve": "aim 400,000/s",
    "w_tinylfu": "aim 250,000/s",
}


def make_pages(count: int) -> list[int]:
    """Independent accesses, Zipf-distributed over the pages; the same in every run."""
    import numpy

    weights = 1 / numpy.arange(1, PAGES + 1) ** SKEW
    found: list[int] = numpy.random.default_rng(1).choice(PAGES, size=count, p=weights / weights.sum()).tolist()
    return found


def make_trace() -> Trace:
    """A trace of these."""
    return gather(cut(array("q", make_pages(ACCESSES))), f"zipf({SKEW})", lambda: "made")


def command(path: str, jobs: int) -> float:
    """Seconds of `usmctl replay` on a trace."""
    program = [sys.executable, "-c", "import sys; from usmd.ctl.cli import main; sys.exit(main())"]
    start = time.perf_counter()
    subprocess.run([*program, "replay", path, "--jobs", str(jobs)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def replay(trace: Trace, evict: str) -> tuple[float, int]:
    """Accesses per second, and misses."""
    run = Replay(trace, Setup(FRAMES, evict))
    start = time.process_time()  # as for the plug-in; a row's own seconds are those of the wall clock
    for _ in run.run():
        pass
    return len(trace) / (time.process_time() - start), run.row().misses


def plug_in() -> Any:  # noqa: ANN401 - libcachesim has no types
    """LRU as a Python plug-in of libCacheSim."""
    import libcachesim

    def evict(order: OrderedDict[int, None], _: object) -> int:
        return order.popitem(last=False)[0]

    return libcachesim.PluginCache(
        cache_size=FRAMES,
        cache_init_hook=lambda _: OrderedDict(),
        cache_hit_hook=lambda order, request: order.move_to_end(request.obj_id),
        cache_miss_hook=lambda order, request: order.__setitem__(request.obj_id, None),
        cache_eviction_hook=evict,
        cache_remove_hook=lambda order, identity: order.pop(identity, None),
        cache_free_hook=lambda _: None,
        cache_name="python-lru",
    )


def plug_in_by_get(trace: Trace) -> tuple[float, int]:
    """Accesses per second, and misses, with one `get` per access."""
    import libcachesim

    cache, request, misses = plug_in(), libcachesim.Request(), 0
    request.obj_size = 1
    start = time.process_time()
    for page in trace.pages:
        request.obj_id = page
        misses += not cache.get(request)
    return len(trace) / (time.process_time() - start), misses


def plug_in_by_reader(path: str, count: int) -> tuple[float, int]:
    """Accesses per second, and misses, when libCacheSim reads the trace itself."""
    import libcachesim

    reader = libcachesim.TraceReader(
        trace=path,
        trace_type=libcachesim.TraceType.ORACLE_GENERAL_TRACE,
        reader_init_params=libcachesim.ReaderInitParam(ignore_obj_size=True),
    )
    cache = plug_in()
    start = time.process_time()
    ratio, _ = cache.process_trace(reader)
    return count / (time.process_time() - start), round(ratio * count)


def main() -> None:
    """Print a line per policy."""
    trace = make_trace()
    print(
        f"replay ({BUILD.text}; {trace.name}: {ACCESSES:,} reads of {trace.distinct:,} pages, {FRAMES:,} frames, "
        f"one process, median of {ROUNDS} rounds)"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "trace.oracleGeneral.bin"))
        records = b"".join(struct.pack("<IQIq", index, page, 1, -1) for index, page in enumerate(trace.pages))
        Path(path).write_bytes(records)
        theirs: list[tuple[float, int]] = []
        read: list[tuple[float, int]] = []
        ours: list[tuple[float, int]] = []
        for _ in range(ROUNDS):
            theirs.append(plug_in_by_get(trace))
            read.append(plug_in_by_reader(path, len(trace)))
            ours.append(replay(trace, "lru"))
    by_get = statistics.median(rate for rate, _ in theirs)
    _line("libCacheSim's plug-in, by get", theirs, by_get, "")
    _line("libCacheSim's plug-in, by its reader", read, by_get, "")
    _line("lru", ours, by_get, AIMS["lru"])
    for name in sorted(registry.TABLES["evict"]):
        if name != "lru":
            rounds = ROUNDS if name in AIMS else 1
            _line(name, [replay(trace, name) for _ in range(rounds)], by_get, AIMS.get(name, ""))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "trace.txt"))
        Path(path).write_text("\n".join(map(str, make_pages(IN_TEXT))) + "\n", encoding="ascii")
        for jobs in (1, 2):
            took = command(path, jobs)
            print(f"  usmctl replay, {IN_TEXT:,} accesses, four policies, --jobs {jobs}: {took:.1f} s   aim 60")


def _line(name: str, found: list[tuple[float, int]], reference: float, aim: str) -> None:
    rate = statistics.median(rate for rate, _ in found)
    misses = found[0][1]
    print(f"  {name:38} {rate:12,.0f}/s   {rate / reference:5.2f}x   {misses:9,} misses   {aim}")


if __name__ == "__main__":
    as_program(main, __doc__)

"""Miss-ratio curves: the same trace with many sizes of memory and many policies, in parallel processes."""

from __future__ import annotations

import os
import signal
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from math import exp, log
from multiprocessing import active_children, get_context
from pathlib import Path

import msgspec

from usmd.errors import InvalidArgument
from usmd.lab.loading import Trace
from usmd.lab.replay import Replay, Row, Setup


class _Stored(msgspec.Struct, frozen=True):
    """Where a worker finds the arrays of a trace, and the rest of it."""

    folder: str
    trace: Trace
    """With empty arrays."""


def sizes(distinct: int, points: int) -> list[int]:
    """Sizes in frames, evenly spaced on a logarithmic axis from a thousandth of the distinct pages to all of them."""
    if points < 2:
        raise InvalidArgument(f"{points} points; allowed are 2 and more")
    low, high = max(distinct // 1000, 1), max(distinct, 2)
    step = (log(high) - log(low)) / (points - 1)
    return sorted({round(exp(log(low) + step * number)) for number in range(points)})


def curves(trace: Trace, setups: Sequence[Setup], jobs: int | None = None) -> Iterator[Row]:
    """The rows of many replays of a trace, in the order in which they end.

    `jobs`: processes at once, by default as many as there are CPUs. Ending the iteration early ends them.
    """
    with tempfile.TemporaryDirectory(prefix="usmd-") as folder:
        stored = _store(trace, folder)
        workers = min(jobs or os.cpu_count() or 1, len(setups))
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (stored,))
        try:
            # The smallest miss most and take longest, so they go first.
            work: list[Future[Row]] = [
                pool.submit(_replay, each) for each in sorted(setups, key=lambda each: each.frames)
            ]
            for done in as_completed(work):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in active_children():
                child.terminate()


def _store(trace: Trace, folder: str) -> _Stored:
    for name, data in (("pages", trace.pages), ("times", trace.times), ("writes", trace.writes)):
        if data:
            Path(folder, name).write_bytes(data)
    return _Stored(folder, msgspec.structs.replace(trace, pages=array("I"), times=None, writes=b""))


_trace: Trace


def _begin(stored: _Stored) -> None:
    """In a worker: load the arrays once, for all its tasks. Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    global _trace
    pages, times = array("I"), array("d")
    pages.frombytes(_data(stored, "pages"))
    times.frombytes(_data(stored, "times"))
    _trace = msgspec.structs.replace(stored.trace, pages=pages, times=times or None, writes=_data(stored, "writes"))


def _data(stored: _Stored, name: str) -> bytes:
    path = Path(stored.folder, name)
    return path.read_bytes() if path.exists() else b""


def _replay(setup: Setup) -> Row:
    replay = Replay(_trace, setup)
    for _ in replay.run():
        pass
    return replay.row()

"""Replays of one trace with many sizes of memory and policies, in parallel processes; sizes for miss-ratio curves."""

from __future__ import annotations

import os
import signal
import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from ctypes import c_byte
from math import exp, log
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import msgspec

from usmd.errors import InvalidArgument
from usmd.lab.loading import Trace
from usmd.lab.replay import Replay, Row, Setup

PATIENCE = 2.0
"""Seconds that workers get to end when asked; a worker checks every 16384 accesses."""

_SAFE_PATH: Final = "PYTHONSAFEPATH"
"""If set and not empty, Python does not search the current folder for modules."""


class WorkerLost(Exception):
    """A worker process ended by itself."""


class _Stored(msgspec.Struct, frozen=True):
    """A trace for workers: its arrays in files, and its other fields."""

    paths: dict[str, str]
    """Paths of the arrays that are not empty; valid while the parent keeps the files open."""
    trace: Trace
    """The trace with empty arrays."""


def sizes(distinct: int, points: int) -> list[int]:
    """`points` sizes in frames, evenly spaced on a logarithmic axis from a thousandth of the distinct pages to all."""
    if points < 2:
        raise InvalidArgument(f"{points} points; allowed are 2 and more")
    low, high = max(distinct // 1000, 1), max(distinct, 2)
    step = (log(high) - log(low)) / (points - 1)
    return sorted({round(exp(log(low) + step * number)) for number in range(points)})


def curves(trace: Trace, setups: Sequence[Setup], jobs: int | None = None) -> Iterator[Row]:
    """The rows of many replays of a trace, in the order in which they end.

    `jobs`: number of processes; None: one per CPU. If the iteration is ended early, the processes are ended and
    awaited. Raises WorkerLost if one ended by itself.
    """
    context = get_context("spawn")
    stop = context.RawValue("b", 0)  # without a lock, which a dying process could keep
    others = set(active_children())
    with ExitStack() as opened:
        stored = _store(trace, opened)
        workers = min(jobs or os.cpu_count() or 1, len(setups))
        with _imports_of_the_installation():
            pool = ProcessPoolExecutor(workers, context, _begin, (stored, stop))
        try:
            with _signals_blocked(), _imports_of_the_installation():
                # The smallest memory has most misses and takes longest, so it goes first.
                work: list[Future[Row]] = [
                    pool.submit(_replay, each) for each in sorted(setups, key=lambda each: each.frames)
                ]
            for done in as_completed(work):
                yield done.result()
        except BrokenProcessPool as error:
            raise WorkerLost(
                "a process ended by itself (a policy may have ended it, or the system for want of memory, of which "
                "fewer processes take less)"
            ) from error
        finally:
            # They are asked first: if one is killed while it sends a row, the pool waits for ever for the rest.
            stop.value = 1
            impatient = threading.Timer(PATIENCE, _kill, [set(active_children()) - others])
            impatient.start()
            with _signals_blocked():
                pool.shutdown(cancel_futures=True)
            impatient.cancel()


def _kill(workers: Iterable[BaseProcess]) -> None:
    """Kill processes whose policy does not return."""
    for each in workers:
        each.kill()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Delay SIGINT, SIGHUP and SIGTERM for this process; processes started meanwhile never receive them.

    A closed terminal sends SIGHUP to all of them, and the end of a process group SIGTERM.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _imports_of_the_installation() -> Iterator[None]:
    """Keep processes that are started meanwhile from importing modules of the current folder.

    multiprocessing starts them, and a resource tracker, by `python -c`, which searches the current folder first. That
    may be a folder of traces, in which any file may have the name of a Python module.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def _store(trace: Trace, opened: ExitStack) -> _Stored:
    """Put the arrays into memory files that other processes can open, and that vanish if this one is killed."""
    paths = {}
    for name, data in (("pages", trace.pages), ("times", trace.times), ("writes", trace.writes)):
        if data:
            file = opened.enter_context(os.fdopen(os.memfd_create(name), "wb"))
            file.write(data)
            file.flush()
            paths[name] = f"/proc/{os.getpid()}/fd/{file.fileno()}"
    return _Stored(paths, msgspec.structs.replace(trace, pages=array("I"), times=None, writes=b""))


_trace: Trace
_stop: c_byte


def _begin(stored: _Stored, stop: c_byte) -> None:
    """In a worker: load the arrays once for all its tasks."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _trace, _stop
    _stop = stop
    pages, times = array("I"), array("d")
    pages.frombytes(_data(stored, "pages"))
    times.frombytes(_data(stored, "times"))
    _trace = msgspec.structs.replace(stored.trace, pages=pages, times=times or None, writes=_data(stored, "writes"))


def _data(stored: _Stored, name: str) -> bytes:
    return Path(stored.paths[name]).read_bytes() if name in stored.paths else b""


def _end_with_parent() -> None:
    """End a worker whose parent was killed, and so never asks it to end."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _replay(setup: Setup) -> Row:
    """The row of a replay; of the part before `_stop` became nonzero."""
    replay = Replay(_trace, setup)
    for _ in replay.run():
        if _stop.value:
            break
    return replay.row()

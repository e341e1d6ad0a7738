"""Miss-ratio curves: the same trace with many sizes of memory and many policies, in parallel processes."""

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
"""Seconds that processes have to end when they are asked to; one looks every 16384 accesses."""

_SAFE_PATH: Final = "PYTHONSAFEPATH"
"""Set and not empty: Python does not put the current folder before the places where modules are looked for."""


class WorkerLost(Exception):
    """A process that replayed has ended by itself."""


class _Stored(msgspec.Struct, frozen=True):
    """Where a worker finds the arrays of a trace, and the rest of it."""

    paths: dict[str, str]
    """Of the data of each array that is not empty, for as long as the parent keeps them open."""
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

    `jobs`: processes at once, by default as many as there are CPUs. Ending the iteration early ends them, and waits
    until they are gone. Raises WorkerLost when one ended by itself.
    """
    context = get_context("spawn")
    stop = context.RawValue("b", 0)  # no lock, which a process could die with
    others = set(active_children())
    with ExitStack() as opened:
        stored = _store(trace, opened)
        workers = min(jobs or os.cpu_count() or 1, len(setups))
        with _imports_of_the_installation():
            pool = ProcessPoolExecutor(workers, context, _begin, (stored, stop))
        try:
            with _signals_blocked(), _imports_of_the_installation():
                # The smallest miss most and take longest, so they go first.
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
            # Asked first: one that is killed while it sends a row would leave the pool waiting for the rest of it.
            stop.value = 1
            impatient = threading.Timer(PATIENCE, _kill, [set(active_children()) - others])
            impatient.start()
            with _signals_blocked():
                pool.shutdown(cancel_futures=True)
            impatient.cancel()


def _kill(workers: Iterable[BaseProcess]) -> None:
    """End processes whose policy does not return."""
    for each in workers:
        each.kill()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Ctrl-C and the like reach this process afterwards, and those begun meanwhile never, from their first instruction.

    A closed terminal sends SIGHUP to all of them, and who ends a group of processes SIGTERM.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _imports_of_the_installation() -> Iterator[None]:
    """Processes that are started meanwhile import nothing from the current folder.

    multiprocessing starts them, and a tracker of resources, by `python -c`, for which the first place to look for
    modules is the current folder: a trace's folder, in which any file may be called as a module of Python is.
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
    """Put the arrays where other processes can open them, and nothing is left when this one is killed: into memory."""
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
    """In a worker: load the arrays once, for all its tasks."""
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
    """A parent that is killed asks for nothing, and its workers would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _replay(setup: Setup) -> Row:
    """The row of a replay, of which nobody asks for more once `_stop` is not 0."""
    replay = Replay(_trace, setup)
    for _ in replay.run():
        if _stop.value:
            break
    return replay.row()

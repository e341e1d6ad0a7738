"""LocalManager (the name is from USM): runs many uThreads on few kThreads. While one waits for a page, others run.

lib_usm.kthread has the scheduling, lib_usm.uthread the uThreads.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, ParamSpec, SupportsIndex, TypeVar

from lib_usm.arguments import kind_of, shown, whole
from lib_usm.client import Client
from lib_usm.errors import Deadlock, InvalidArgument, WrongType
from lib_usm.kthread import KThread
from lib_usm.limits import thread_limit
from lib_usm.uthread import YIELD, Join, UThread, YieldNow, running
from lib_usm.uthread_kinds import CoroutineUThread, GreenUThread

_P = ParamSpec("_P")
_T = TypeVar("_T")
_MAX_KTHREADS = 32


class LocalManagerStats(NamedTuple):
    """Counts of a LocalManager."""

    spawned: int
    """uThreads."""
    done: int
    """uThreads that have ended, with a result or an error."""
    switches: int
    """Runs of a uThread between two waits or yields."""
    faults: int
    """Faults sent to the daemon."""
    joined_faults: int
    """Faults that were not sent, because another uThread's fault on the page was in flight."""
    batches: int
    """Messages that carried faults, loads and stores."""
    yields: int
    """Faults that the daemon answered with USM_YIELD."""
    plain_faults: int
    """Faults that blocked the kThread, because that cost less than a message; not among `faults`."""
    run_seconds: float
    """Time in `run`, summed over all kThreads."""
    idle_seconds: float
    """The part of `run_seconds` in which a kThread slept because no uThread was ready."""

    @property
    def idle_share(self) -> float:
        """`idle_seconds` as a share of `run_seconds`, 0 to 1."""
        return self.idle_seconds / self.run_seconds if self.run_seconds else 0.0


class LocalManager:
    """Runs uThreads on `kthreads` kernel threads, which accesses to regions of `client` do not block.

    A greenlet (`spawn`) is plain code: a slice of a region, `read`, `write` and `ensure` let other uThreads run while
    pages are missing. A coroutine (`spawn_async`) awaits `region.ensure_async`, `read_async` and `write_async`. A
    uThread runs until it waits, yields or ends. The ready uThreads of the highest `priority` run first, in turn. With
    `asynchronous` false, a fault blocks the kernel thread, for comparison. `run` opens a stream to the daemon for each
    kThread. Accesses through `buffer` or an array block the kernel thread: call `ensure` before them. Raises
    InvalidArgument, WrongType and OutOfRange.
    """

    def __init__(self, client: Client, kthreads: SupportsIndex = 1, *, asynchronous: bool = True) -> None:
        count = whole(kthreads, "number of kThreads")
        if not 1 <= count <= _MAX_KTHREADS:
            raise InvalidArgument(f"{count} kThreads; allowed are 1 to {_MAX_KTHREADS}")
        self.client = client
        self.finished = False
        """True if no uThread is left; then the kThreads end."""
        self._lock = threading.Lock()
        self._kthreads = [KThread(self, self._lock, asynchronous=asynchronous) for _ in range(count)]
        self._spawned = 0
        self._done = 0
        self._running = False
        self._run_seconds = 0.0
        self._interrupt: BaseException | None = None
        self._deadlock: Deadlock | None = None

    @property
    def session(self) -> object:
        """The client, whose regions are served."""
        return self.client

    def spawn(
        self, function: Callable[..., _T], *args: object, name: str | None = None, priority: SupportsIndex = 0
    ) -> UThread[_T]:
        """Make a uThread that calls `function(*args)`. Any thread may call this, at any time."""
        if not callable(function):
            raise InvalidArgument(f"{function!r} cannot be called; a uThread needs a function")
        if inspect.iscoroutinefunction(function):
            raise InvalidArgument(f"{function!r} is a coroutine function; use spawn_async for it")
        urgency = _checked(name, priority)
        kthread, label = self._place(function, name)
        return self._add(kthread, GreenUThread(kthread, label, urgency, partial(function, *args)))

    def spawn_async(
        self,
        function: Callable[..., Coroutine[Any, Any, _T]],
        *args: object,
        name: str | None = None,
        priority: SupportsIndex = 0,
    ) -> UThread[_T]:
        """Make a uThread of the coroutine that `function(*args)` returns. Any thread may call this, at any time."""
        if not callable(function):
            raise InvalidArgument(f"{function!r} cannot be called; a uThread needs a coroutine function")
        urgency = _checked(name, priority)
        coroutine = function(*args)
        if not inspect.iscoroutine(coroutine):
            raise InvalidArgument(f"{function!r} returned {coroutine!r}, which is not a coroutine; use spawn for it")
        kthread, label = self._place(function, name)
        return self._add(kthread, CoroutineUThread(kthread, label, urgency, coroutine))

    def _place(self, function: object, name: str | None) -> tuple[KThread, str]:
        """The kThread with the fewest uThreads, and the name of a new uThread."""
        with self._lock:
            self._spawned += 1
            number = self._spawned
        kthread = min(self._kthreads, key=lambda each: len(each.members) + len(each.inbox))
        return kthread, name or f"{getattr(function, '__name__', 'uThread')}-{number}"

    def _add(self, kthread: KThread, uthread: UThread[_T]) -> UThread[_T]:
        self.finished = False
        if self._running:
            kthread.post(partial(kthread.add, uthread))
        else:
            kthread.add(uthread)
        return uthread

    def yield_now(self) -> YieldNow:
        """Let the other ready uThreads run first. A coroutine awaits the result."""
        kthread = running.kthread
        if kthread is None:
            raise InvalidArgument("yield_now was called outside of a LocalManager's uThreads")
        if kthread.switching:
            kthread.yield_now()
        return YIELD

    def current(self) -> UThread[Any] | None:
        """The uThread whose code calls this; None outside of this LocalManager's uThreads."""
        kthread = running.kthread
        return kthread.current if kthread is not None and kthread.serves_manager(self) else None

    def run(self) -> None:
        """Run all uThreads, also those spawned meanwhile, until each has ended.

        The calling thread is the first kThread. An exception of a uThread is raised by its `result`. But
        KeyboardInterrupt and SystemExit cancel all other uThreads and are raised here. Raises Deadlock, after it was
        raised in each uThread that waited in vain.
        """
        if running.kthread is not None:
            raise InvalidArgument("run was called in a uThread")
        with self._lock:
            if self._running:
                raise InvalidArgument("run was called while another thread runs this LocalManager")
            self._running = True
        began = time.perf_counter()
        try:
            with ExitStack() as opened:
                for kthread in self._kthreads:
                    kthread.open(*self.client.open_pager())
                    opened.callback(kthread.close)
                self.finished = self._done == self._spawned
                self._run_all()
        finally:
            self._run_seconds += (time.perf_counter() - began) * len(self._kthreads)
            self._running = False
        interrupt, self._interrupt = self._interrupt, None
        deadlock, self._deadlock = self._deadlock, None
        if interrupt is not None:
            raise interrupt
        if deadlock is not None:
            raise deadlock

    def _run_all(self) -> None:
        crashed: list[BaseException] = []

        def run(kthread: KThread) -> None:
            try:
                kthread.run()
            except BaseException as error:  # noqa: BLE001 - raised below
                crashed.append(error)
                self._finish()

        threads = [
            threading.Thread(target=run, args=(kthread,), name=f"kThread-{number}")
            for number, kthread in enumerate(self._kthreads[1:], 1)
        ]
        started = []
        try:
            for thread in threads:
                thread.start()
                started.append(thread)
        except RuntimeError as error:
            crashed.append(thread_limit(error, "a kThread cannot be started"))
            self._finish()
        else:
            run(self._kthreads[0])
        for thread in started:
            thread.join()
        if crashed:
            raise crashed[0]

    def stats(self) -> LocalManagerStats:
        """The counts so far. A run's time is added when the run ends, the switches of a turn when the turn ends."""
        counts = [kthread.counts() for kthread in self._kthreads]
        faults, joined, batches, yields, plain = (sum(column) for column in zip(*counts, strict=True))
        return LocalManagerStats(
            spawned=self._spawned,
            done=self._done,
            switches=sum(kthread.switches for kthread in self._kthreads),
            faults=faults,
            joined_faults=joined,
            batches=batches,
            yields=yields,
            plain_faults=plain,
            run_seconds=self._run_seconds,
            idle_seconds=sum(kthread.idle_seconds for kthread in self._kthreads),
        )

    # Called by kThreads

    def one_ended(self) -> None:
        """Count a uThread that has ended."""
        with self._lock:
            self._done += 1
            last = self._done == self._spawned
        if last:
            self._finish()

    def _finish(self) -> None:
        self.finished = True
        for kthread in self._kthreads:
            kthread.post(_nothing)

    def is_stuck(self) -> bool:
        """True if no uThread can wake another one; then a Deadlock is raised in each uThread."""
        with self._lock:
            if self.finished or not all(kthread.idle and not kthread.inbox for kthread in self._kthreads):
                return False
            stuck = [uthread for kthread in self._kthreads for uthread in kthread.members]
            for kthread in self._kthreads:
                kthread.idle = False
        error = Deadlock(
            f"{len(stuck)} uThreads wait for each other, and for nothing else: "
            + ", ".join(_what_it_waits_for(uthread) for uthread in stuck[:20])
            + (", ..." if len(stuck) > 20 else "")
        )
        self._deadlock = error
        for uthread in stuck:
            uthread.kthread.post(partial(uthread.throw, Deadlock(*error.args)))
        return True

    def interrupted(self, error: BaseException) -> None:
        """Cancel all uThreads; `run` raises `error`."""
        self._interrupt = error
        for kthread in self._kthreads:
            kthread.post(kthread.cancel_all)


def _checked(name: str | None, priority: SupportsIndex) -> int:
    """The priority as an int. Raises WrongType and OutOfRange."""
    if name is not None and not isinstance(name, str):
        raise WrongType(f"name {shown(name)} of a uThread is {kind_of(name)}; a str is needed")
    return whole(priority, "priority")


def _what_it_waits_for(uthread: UThread[Any]) -> str:
    target = uthread.waiting.target.name if isinstance(uthread.waiting, Join) else "nothing"
    return f"{uthread.name!r} waits for {target!r}"


def _nothing() -> None:
    """A job that only wakes its kThread."""

"""A kThread: one kernel thread that runs uThreads in turn, and sleeps only when none is ready.

A turn runs each ready uThread once. Faults are gathered during the turn and sent at its end, or before a uThread runs
that has not faulted in its last two runs. So faults travel together, and no fault waits for a uThread that computes.
lib_usm.local_manager knows all uThreads and when they have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

import greenlet

from lib_usm import steps
from lib_usm.errors import InvalidArgument
from lib_usm.limits import limit_reached
from lib_usm.pager import Pager, Stream
from lib_usm.plain_faults import PlainFaults
from lib_usm.uthread import MAY_FAULT, Join, Manager, UThread, running
from lib_usm.waits import Wait

_T = TypeVar("_T")

Counts: TypeAlias = tuple[int, int, int, int, int]
"""Faults sent, faults that joined others, batches, yields, plain faults."""

_READ: Final = select.POLLIN
_READ_AND_WRITE: Final = select.POLLIN | select.POLLOUT


class KThread:
    """Runs its uThreads on the kernel thread that calls `run`. Any thread may call `post`, only that one the rest.

    With `asynchronous` false, a fault blocks the kernel thread until its pages are there.
    """

    def __init__(self, manager: Manager, lock: threading.Lock, *, asynchronous: bool) -> None:
        self.manager = manager
        self.lock = lock
        """The manager's lock."""
        self.asynchronous = asynchronous
        self.current: UThread[Any] | None = None
        """The uThread whose code runs."""
        self.switching = False
        """True if the current uThread is a greenlet, which can be switched away from."""
        self.runs = False
        self.idle = False
        """True if the thread sleeps with nothing in flight, so that only another kThread can wake it. Guarded by
        `lock`."""
        self.members: dict[UThread[Any], None] = {}
        """Its uThreads that have not ended, in the order of their creation."""
        self.inbox: deque[Callable[[], object]] = deque()
        """Jobs that other threads posted."""
        self._door = threading.Lock()
        self.switches = 0
        self.idle_seconds = 0.0
        self._queues: list[tuple[int, deque[UThread[Any]]]] = []
        self._only: deque[UThread[Any]] | None = None
        """The queue, while all uThreads have one priority."""
        self._left = 0
        """uThreads that are still to run in this turn."""
        self._hub: greenlet.greenlet | None = None
        self._stream: Stream
        self._pager: Pager
        self._poll: select.poll
        self._wakeup = self._descriptor = -1
        self._past: Counts = (0, 0, 0, 0, 0)
        self._plain = PlainFaults()
        self._told = 0
        """Faults sent of which `_plain` was told."""
        self.greenlets: Final = _GreenletRunner(self)
        self.coroutines: Final = _CoroutineRunner(self)

    def queue_of(self, priority: int) -> deque[UThread[Any]]:
        """The ready uThreads of a priority; higher numbers run first."""
        for known, queue in self._queues:
            if known == priority:
                return queue
        added: deque[UThread[Any]] = deque()
        self._queues = sorted([*self._queues, (priority, added)], key=lambda entry: -entry[0])
        self._only = added if len(self._queues) == 1 else None
        return added

    def add(self, uthread: UThread[Any]) -> None:
        """Add a new uThread, which is ready."""
        self.members[uthread] = None
        uthread.queue.append(uthread)

    def post(self, job: Callable[[], object]) -> None:
        """Run `job` on this kThread; at once if the caller is this kThread."""
        if running.kthread is self:
            job()
            return
        with self._door:
            self.inbox.append(job)
            if self._wakeup >= 0:
                os.eventfd_write(self._wakeup, 1)

    # Life

    def open(self, stream: Stream, pager: Pager) -> None:
        """Prepare to run, with a stream of its own and the pager on it. Raises LimitExceeded or OSError."""
        self._stream, self._pager = stream, pager
        self._plain, self._told = PlainFaults(), 0
        try:
            self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError as error:
            stream.close()
            raise limit_reached(error, "a kThread cannot be started") or error from None
        self._poll = select.poll()
        self._poll.register(self._wakeup, _READ)
        self._descriptor = stream.fileno()
        self._poll.register(self._descriptor, _READ)
        self.runs = True

    def close(self) -> None:
        """Release what `open` opened."""
        self._past = self.counts()
        self.runs = False
        self._stream.close()
        with self._door:
            os.close(self._wakeup)
            self._wakeup = -1

    def counts(self) -> Counts:
        """The sums of what its pagers have counted."""
        if not self.runs:
            return self._past
        pager = self._pager
        mine = pager.faults_sent, pager.joined, pager.batches, pager.yields, self._plain.count
        faults, joined, batches, yields, plain = (before + now for before, now in zip(self._past, mine, strict=True))
        return faults, joined, batches, yields, plain

    def run(self) -> None:
        """Run uThreads until no uThread of the manager is left."""
        self._hub = greenlet.getcurrent()
        running.kthread = self
        try:
            self._do_jobs()
            while not self.manager.finished:
                try:
                    self._turn()
                except (KeyboardInterrupt, SystemExit) as error:
                    self.manager.interrupted(error)
        finally:
            running.kthread = None
            self._hub = self.current = None

    def _turn(self) -> None:
        """Run each ready uThread once, those of the highest priority first, then receive."""
        pager = self._pager
        only = self._only
        if only is None:
            turn = sum(len(queue) for _, queue in self._queues)
            take = self._take_first
        else:
            turn = len(only)
            take = only.popleft
        self._left = turn
        uthread: UThread[Any] | None = None
        while self._left:
            self._left -= 1
            uthread = take()
            if pager.unsent and not uthread.may_fault:
                self._flush()
            self.current = uthread
            uthread.resume()
        uthread = self.current = None
        self.switches += turn
        if pager.unsent:
            self._flush()
        if self.inbox:
            self._do_jobs()
        if pager.in_flight or not turn:
            began, answers = time.thread_time() + self.idle_seconds, pager.in_flight > 0
            self._look(wait=not any(queue for _, queue in self._queues))
            self._plain.sent(time.thread_time() + self.idle_seconds - began if answers else 0.0)

    def _flush(self) -> None:
        """Send what was filed."""
        began, before, pager = time.thread_time(), self._told, self._pager
        pager.flush()
        self._told = pager.faults_sent
        self._plain.sent(time.thread_time() - began, self._told - before)

    def _take_first(self) -> UThread[Any]:
        """The next uThread of the highest priority. A turn has enough, because uThreads leave a queue only here."""
        return next(queue for _, queue in self._queues if queue).popleft()

    def _look(self, *, wait: bool) -> None:
        """Receive what has arrived; with `wait`, sleep until something arrives."""
        if self.manager.finished:
            return
        if wait:
            with self.lock:
                self.idle = not self._pager.in_flight
            if self.idle and self.manager.is_stuck():
                return
            self._sleep()
            with self.lock:
                self.idle = False
            if self.inbox:
                self._do_jobs()
        elif self._poll.poll(0) or self._pager.end is not None:
            self._receive()

    def _sleep(self) -> None:
        if self._pager.end is not None and self._pager.in_flight:
            self._receive()  # the stream ended during a send
            return
        began = time.perf_counter()
        if self._descriptor >= 0:
            self._poll.modify(self._descriptor, _READ_AND_WRITE if self._stream.wants_to_send else _READ)
        self._poll.poll()
        self.idle_seconds += time.perf_counter() - began
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wakeup)
        self._receive()

    def _receive(self) -> None:
        self._pager.receive()
        if self._pager.end is not None and self._descriptor >= 0:
            self._poll.unregister(self._descriptor)
            self._descriptor = -1

    def _do_jobs(self) -> None:
        while self.inbox:
            self.inbox.popleft()()

    def cancel_all(self) -> None:
        """Cancel every uThread but the current one."""
        ready = {uthread for _, queue in self._queues for uthread in queue}
        for uthread in list(self.members):
            if uthread is not self.current:
                idle = uthread.waiting is None and uthread not in ready
                uthread.throw(asyncio.CancelledError())
                if idle:
                    uthread.queue.append(uthread)  # an interrupt hit when it was about to run

    # What uThreads do

    def yield_now(self) -> None:
        """Put the current greenlet at the end of its queue and run the others."""
        uthread = self.current
        if uthread is None or self._hub is None:
            return
        if uthread.may_fault:
            uthread.may_fault -= 1
        uthread.enqueue(uthread)
        only = self._only
        if self._left and only is not None and not self._pager.unsent:
            following = only[0]
            switch = following.switch
            if switch is not None:
                # A direct switch takes half the time of one through the scheduler.
                self._left -= 1
                self.current = only.popleft()
                del uthread, following
                switch()
                return
        self._hub.switch()

    def wait(self, uthread: UThread[Any], wait: Wait) -> None:
        """Stop a uThread until `wait` is over."""
        faulted = not isinstance(wait, Join)
        if faulted:
            uthread.may_fault = MAY_FAULT
        if not wait.remaining or uthread.thrown is not None:
            wait.waiter = None
            uthread.queue.append(uthread)
            return
        uthread.waiting = wait
        if faulted and not self.asynchronous:
            self._block(wait)
            uthread.queue.remove(uthread)
            uthread.queue.appendleft(uthread)

    def park(self, wait: Wait) -> None:
        """Stop the current greenlet until `wait` is over, and run the others meanwhile."""
        uthread, hub = self.current, self._hub
        if uthread is None or hub is None:
            raise RuntimeError("no uThread runs here")
        if not self.asynchronous and not isinstance(wait, Join):
            wait.waiter = _NOBODY
            self._block(wait)
            return
        self.wait(uthread, wait)
        hub.switch()

    def _block(self, wait: Wait) -> None:
        """Block the kernel thread until `wait` is over."""
        self._pager.flush()
        while wait.remaining:
            self._sleep()

    def place(self) -> steps.Place:
        """The place where the current uThread files its requests. Raises InvalidArgument if no uThread runs."""
        if self.current is None:
            raise InvalidArgument("no uThread runs here")
        return steps.Place(self._pager, self.current, self._plain)

    def warn(self) -> None:
        """Issue the warnings that the daemon sent, from the code of the current uThread."""
        self._pager.warn()

    def serves(self, region: steps.StepsRegion) -> bool:
        """True if an access to `region` by the current code runs in `greenlets`, and may be switched away from."""
        return self.switching and self.owns(region) and (self.asynchronous or region.mapping is None)

    def owns(self, region: steps.StepsRegion) -> bool:
        """True if `region` belongs to the LocalManager's client."""
        return region.session is self.manager.session

    def serves_manager(self, manager: object) -> bool:
        """True if the kThread belongs to this LocalManager."""
        return self.manager is manager

    # Called by uThreads

    def interrupted(self, error: BaseException) -> None:
        """Pass on an interrupt of a uThread, which cancels all others."""
        self.manager.interrupted(error)

    def ended(self, uthread: UThread[Any]) -> None:
        """Remove a uThread that has ended."""
        self.members.pop(uthread, None)
        self.manager.one_ended()


class _GreenletRunner:
    """Runs steps for the current greenlet of a kThread. Other uThreads run while they wait."""

    def __init__(self, kthread: KThread) -> None:
        self._kthread = kthread

    def run(self, make: Callable[[steps.Place], steps.Steps[_T]]) -> _T:
        """Return the result of the steps."""
        park = self._kthread.park
        todo = make(self._kthread.place())
        try:
            while True:
                park(next(todo))
        except StopIteration as stop:
            result: _T = stop.value
            self._kthread.warn()
            return result
        finally:
            todo.close()


class _CoroutineRunner:
    """Runs steps for the current coroutine of a kThread: it yields their waits, so that other uThreads run."""

    def __init__(self, kthread: KThread) -> None:
        self._kthread = kthread

    async def run(self, make: Callable[[steps.Place], steps.Steps[_T]]) -> _T:
        """Return the result of the steps."""
        result: _T = await make(self._kthread.place())  # type: ignore[misc]  # steps are generators that can be awaited
        self._kthread.warn()
        return result


class _Nobody:
    """The waiter of a wait that blocks the kernel thread."""

    def wake(self) -> None:
        """Do nothing: the kernel thread checks the wait itself."""


_NOBODY: Final = _Nobody()

"""Delays wherever no order is promised, so that tests fail that do not wait.

`make delayed` sets `USM_TEST_DELAYS=store=0.05,load=0.05,answer=0.01,log=0.05`, or the like, in the environment: each
name is a place of PLACES, each value the longest delay there in seconds. Each delay is random, between half of the
longest and the longest. Daemons that tests start have all delays, the test's own process those of
IN_PROCESS.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final

VARIABLE: Final = "USM_TEST_DELAYS"
_source = random.Random()


def _drawn(longest: float) -> float:
    return _source.uniform(longest / 2, longest)


def read(text: str) -> dict[str, float]:
    """The longest delays by place. Raises ValueError for a place that is not in PLACES, and for an invalid number."""
    found: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        place, _, seconds = item.partition("=")
        if place not in PLACES:
            raise ValueError(f"{VARIABLE}: {place!r} is not one of {', '.join(PLACES)}")
        found[place] = float(seconds)
    return found


def of_environment() -> dict[str, float]:
    """The longest delays that $USM_TEST_DELAYS asks for, by place."""
    return read(os.environ.get(VARIABLE, ""))


def inject_from_environment(places: Collection[str] | None = None) -> None:
    """Put the delays of $USM_TEST_DELAYS into this process for good. `places`: only those; None: all."""
    for place, longest in of_environment().items():
        if places is None or place in places:
            PLACES[place](longest)


def late_lines(lines: Iterable[str], longest: float) -> Iterator[str]:
    """The lines in order, each after a random delay from its arrival: they are read late, not written late."""
    came: queue.SimpleQueue[tuple[float, str] | None] = queue.SimpleQueue()

    def read() -> None:
        for line in lines:
            came.put((time.monotonic() + _drawn(longest), line))
        came.put(None)

    threading.Thread(target=read, name="late-lines", daemon=True).start()
    while (found := came.get()) is not None:
        due, line = found
        time.sleep(max(0.0, due - time.monotonic()))
        yield line


def _late(function: Callable[..., Any], longest: float) -> Callable[..., Any]:
    """A function for worker threads, with half of the delay before its work and half after it."""

    def late(*arguments: Any) -> Any:
        half = _drawn(longest) / 2
        time.sleep(half)
        found = function(*arguments)
        time.sleep(half)
        return found

    return late


def _store(longest: float) -> None:
    """Writes to swap are late."""
    from usmd.swap.base import SwapDevice

    SwapDevice.write = _late(SwapDevice.write, longest)  # type: ignore[method-assign]


def _load(longest: float) -> None:
    """Reads from swap are late, also from a device in memory."""
    from usmd.swap.base import SwapDevice

    SwapDevice.read = _late(SwapDevice.read, longest)  # type: ignore[method-assign]
    SwapDevice.read_now = lambda *_: None  # type: ignore[method-assign]


def _answer(longest: float) -> None:
    """Answers to calls are late, so messages on streams overtake them."""
    from usmd.server import rpc

    guarded = rpc._guarded

    def late(method: Any, work: Any) -> Any:
        call = guarded(method, work)

        async def answer_late(request: Any, context: Any) -> Any:
            answer = await call(request, context)
            await asyncio.sleep(_drawn(longest))
            return answer

        return call if method.client_streaming or method.server_streaming else answer_late

    rpc._guarded = late


def _stream(longest: float) -> None:
    """Outcomes of faults are late, so answers to calls overtake them."""
    from usmd.server.fault_stream import FaultStream

    flush = FaultStream._flush

    async def late(self: FaultStream) -> None:
        await asyncio.sleep(_drawn(longest))
        await flush(self)

    FaultStream._flush = late  # type: ignore[method-assign]


def _client(longest: float) -> None:
    """A client's thread reads outcomes late, while its other threads run."""
    from lib_usm.pager import Pager

    receive = Pager.receive

    def late(self: Pager) -> None:
        time.sleep(_drawn(longest))
        receive(self)

    Pager.receive = late  # type: ignore[method-assign]


def at_start() -> None:
    """A forked program begins late."""
    time.sleep(_drawn(of_environment().get("start", 0.0)))


def _by_the_others(longest: float) -> None:
    """Does nothing: tests.support.daemon delays log lines, and tests.support.forked delays starts."""
    del longest


PLACES: Final[dict[str, Callable[[float], None]]] = {
    "store": _store,
    "load": _load,
    "answer": _answer,
    "stream": _stream,
    "client": _client,
    "start": _by_the_others,
    "log": _by_the_others,
}
"""Place → function that injects its delay."""
IN_PROCESS: Final = ("store", "client")
"""Places in the test's own process. Not `load`, because some tests there are about devices that are read at once."""

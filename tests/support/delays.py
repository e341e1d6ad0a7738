"""Delays at the places whose order nothing promises, to make tests fail that assert on what ends later.

`USM_TEST_DELAYS=store=0.05,load=0.05,answer=0.01,log=0.05` in the environment of a test run (`make delayed` sets it):
each name is a place of PLACES, each value the longest delay in seconds there. A delay is drawn anew each time, from
half of the longest on. Daemons that tests start take them up, and the test's own process takes up those of IN_PROCESS.
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
    """Put the delays of $USM_TEST_DELAYS into this process, for good; of these places alone, if they are given."""
    for place, longest in of_environment().items():
        if places is None or place in places:
            PLACES[place](longest)


def late_lines(lines: Iterable[str], longest: float) -> Iterator[str]:
    """Lines in their order, each as long after it came as is drawn: what is read late, and not what is written late."""
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
    """A function of a worker thread: half of the delay comes before its work, and half before its end is known."""

    def late(*arguments: Any) -> Any:
        half = _drawn(longest) / 2
        time.sleep(half)
        found = function(*arguments)
        time.sleep(half)
        return found

    return late


def _store(longest: float) -> None:
    """A page is in swap later than it was asked to go."""
    from usmd.swap.base import SwapDevice

    SwapDevice.write = _late(SwapDevice.write, longest)  # type: ignore[method-assign]


def _load(longest: float) -> None:
    """A page from swap is in memory later than the fault, though its device is memory too."""
    from usmd.swap.base import SwapDevice

    SwapDevice.read = _late(SwapDevice.read, longest)  # type: ignore[method-assign]
    SwapDevice.read_now = lambda *_: None  # type: ignore[method-assign]


def _answer(longest: float) -> None:
    """An answer to a call arrives later than what the call did, and what comes on streams overtakes it."""
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
    """Outcomes of faults arrive later than what was done for them, and answers to calls overtake them."""
    from usmd.server.fault_stream import FaultStream

    flush = FaultStream._flush

    async def late(self: FaultStream) -> None:
        await asyncio.sleep(_drawn(longest))
        await flush(self)

    FaultStream._flush = late  # type: ignore[method-assign]


def _client(longest: float) -> None:
    """A client's thread hears of outcomes later than they came, and its other threads go on meanwhile."""
    from lib_usm.pager import Pager

    receive = Pager.receive

    def late(self: Pager) -> None:
        time.sleep(_drawn(longest))
        receive(self)

    Pager.receive = late  # type: ignore[method-assign]


def at_start() -> None:
    """A forked program begins later than it was started."""
    time.sleep(_drawn(of_environment().get("start", 0.0)))


def _by_the_others(longest: float) -> None:
    """Places of the tests' own: tests.support.daemon reads log lines late, tests.support.forked starts late."""
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
"""What injects each."""
IN_PROCESS: Final = ("store", "client")
"""Where a test's own process is delayed. Some of its tests are about devices that are read at once."""

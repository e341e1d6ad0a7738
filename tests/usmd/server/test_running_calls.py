"""Calls that a server is answering."""

import asyncio

from usmd.server import running_calls
from usmd.server.running_calls import RunningCalls


class Call:
    """The context of a call."""

    def __init__(self):
        self.end = None

    def add_done_callback(self, function):
        self.end = lambda: function(self)


def test_it_waits_for_the_calls_that_run_and_for_those_that_come_meanwhile(monkeypatch):
    monkeypatch.setattr(running_calls, "QUIET_SECONDS", 0.0)

    async def main():
        calls, first, second = RunningCalls(), Call(), Call()
        await calls.answered()  # there are none
        calls.began(first)
        answered = asyncio.create_task(calls.answered())
        await asyncio.sleep(0)
        calls.began(second)
        first.end()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not answered.done()
        second.end()
        await answered

    asyncio.run(main())


def test_a_call_may_end_after_nobody_waits_any_more():
    async def main():
        calls, call = RunningCalls(), Call()
        calls.began(call)
        answered = asyncio.create_task(calls.answered())
        await asyncio.sleep(0)
        answered.cancel()
        await asyncio.wait([answered])
        call.end()
        await calls.answered()

    asyncio.run(main())

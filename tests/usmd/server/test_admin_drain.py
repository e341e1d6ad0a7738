"""Drains by call: what they answer, and that a dry run changes nothing."""

import asyncio

import pytest

from tests.support.session_bench import PAGE, fill
from tests.support.waiting import wait_until_async
from tests.usmd.server.test_ending import Setup
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.core import events
from usmd.core.hints import parse_hint
from usmd.errors import InvalidArgument
from usmd.server.admin_drain import MOST_SECONDS, DrainRequests


def asked(test, **settings):
    async def main():
        setup = Setup(**settings)
        requests = DrainRequests(setup.bench.engine, setup.ending)
        await test(setup, lambda **fields: requests.answer(pb.DrainRequest(**fields)))
        setup.sessions.end_all("over")
        await setup.bench.engine.close()

    asyncio.run(main())


def test_the_answer_says_who_loses_how_much_in_memory_and_in_swap():
    async def test(setup, ask):
        small, large, none = (setup.sessions.attach(name, "") for name in ("small", "large", "none"))
        fill(setup.bench, small, 1)
        region = fill(setup.bench, large, 2)
        setup.bench.engine.submit(events.SetHint(large.process_id, region, 0, 1, parse_hint("DONTNEED")))
        state = setup.bench.engine.core.state
        await wait_until_async(lambda: state.regions[region].swapped == 1, "a page in swap")
        answer = await ask(dry_run=True)
        assert [(each.process_id, each.name, each.pid, each.bytes) for each in answer.losses] == [
            (large.process_id, "large", 0, 2 * PAGE),
            (small.process_id, "small", 0, PAGE),
        ]
        assert (answer.sessions, answer.seconds_left) == (3, 0.0)
        assert none.process_id not in {each.process_id for each in answer.losses}
        assert not setup.sessions.draining

    asked(test, frames=8)


def test_a_notice_is_given_and_a_dry_run_says_what_a_further_request_would_leave_of_it():
    async def test(setup, ask):
        assert (await ask(dry_run=True, notice_seconds=30)).seconds_left == 0.0
        setup.sessions.attach("app", "")
        assert (await ask(dry_run=True, notice_seconds=30)).seconds_left == 30.0
        assert (await ask(notice_seconds=30, grace_seconds=2)).seconds_left == 30.0
        assert (setup.ending.grace, setup.ending.over.is_set()) == (2.0, False)
        assert [(await ask(dry_run=True, notice_seconds=s)).seconds_left for s in (60, 10, 0)] == [30.0, 10.0, 0.0]
        assert (await ask()).seconds_left == 0.0
        assert setup.ending.over.is_set()

    asked(test)


@pytest.mark.parametrize("field", ["grace_seconds", "notice_seconds"])
@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), MOST_SECONDS + 1])
def test_a_time_that_is_none_is_refused_and_nothing_drains(field, seconds):
    async def test(setup, ask):
        with pytest.raises(InvalidArgument, match=rf"{field} .*; allowed are 0 to 86400"):
            await ask(**{field: seconds})
        assert not setup.sessions.draining

    asked(test)

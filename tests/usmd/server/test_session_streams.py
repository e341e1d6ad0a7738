"""Streams of a session: which outcomes reach which, and how they end."""

import pytest

from tests.support.session_bench import fill, run
from usmd.core import commands
from usmd.errors import LimitExceeded
from usmd.server import sessions as module

TOP = (1 << 64) - 1


def test_outcomes_reach_the_outbox_of_their_process_and_wake_its_stream():
    async def conversation(bench):
        session = bench.sessions.attach("one", "")
        one, two = session.open_stream(), bench.sessions.attach("two", "").open_stream()
        fill(bench, session, 1)
        bench.engine.on_outcomes(commands.Outcomes(session.process_id, [commands.Yielded(TOP, 1)], one.index))
        assert [outcome.fault_id for outcome in one.outbox] == [0, TOP]
        assert one.wake.is_set()
        assert two.outbox == []
        assert not two.wake.is_set()

    run(conversation)


def test_outcomes_reach_the_stream_that_filed_their_faults():
    async def conversation(bench):
        session = bench.sessions.attach("app", "")
        first, second, third = (session.open_stream() for _ in range(3))
        second.direct = True
        outcomes = [commands.Yielded(TOP, token) for token in range(4)]
        for stream, outcome in zip((third, first, second, third), outcomes, strict=True):
            bench.engine.on_outcomes(commands.Outcomes(session.process_id, [outcome], stream.index))
        assert (first.outbox, second.outbox, third.outbox) == (outcomes[1:2], outcomes[2:3], outcomes[0::3])
        assert [stream.wake.is_set() for stream in (first, second, third)] == [True, False, True]

    run(conversation)


def test_outcomes_of_a_closed_stream_are_dropped_and_its_index_does_not_come_again():
    async def conversation(bench):
        session = bench.sessions.attach("app", "")
        first, second = session.open_stream(), session.open_stream()
        bench.sessions.close_stream(session, second)
        third = session.open_stream()
        assert (first.index, second.index, third.index) == (0, 1, 2)
        bench.engine.on_outcomes(commands.Outcomes(session.process_id, [commands.Yielded(7, 1)], second.index))
        assert first.outbox == second.outbox == third.outbox == []
        assert not session.ended.is_set()

    run(conversation)


def test_when_the_faults_of_a_session_fit_what_waits_for_that_is_told_and_of_one_that_is_gone_nothing():
    async def conversation(bench):
        session = bench.sessions.attach("app", "")
        told = []
        session.on_room = lambda: told.append(session.ended.is_set())
        bench.engine.on_faults_fit(commands.FaultsFit(session.process_id))
        assert (session.room.is_set(), told) == (True, [False])
        bench.sessions.end(session, "over")
        assert told == [False, True]
        bench.engine.on_faults_fit(commands.FaultsFit(session.process_id))
        assert told == [False, True]

    run(conversation)


def test_the_end_of_the_first_stream_ends_the_session():
    async def conversation(bench):
        session = bench.sessions.attach("app", "")
        first, second = session.open_stream(), session.open_stream()
        ended = []
        second.on_ended = lambda: ended.append(second)
        bench.sessions.close_stream(session, first)
        assert session.ended.is_set()
        assert ended == [second]
        bench.sessions.close_stream(session, second)

    run(conversation)


def test_a_session_has_so_many_streams_at_a_time_and_no_more():
    async def conversation(bench):
        session = bench.sessions.attach("app", "")
        streams = [session.open_stream() for _ in range(module.MAX_STREAMS)]
        with pytest.raises(LimitExceeded, match="allowed are 64 at a time"):
            session.open_stream()
        bench.sessions.close_stream(session, streams[-1])
        assert session.open_stream().index == module.MAX_STREAMS

    run(conversation)

"""When the daemon ends: notices, what cuts them short, and what is told to whom. The clock is the test's."""

import asyncio

import pytest

from tests.support.session_bench import PAGE, Bench, fill
from usmd.errors import Draining
from usmd.server.ending import LEEWAY_SECONDS, NAMED, Ending
from usmd.server.sessions import NOTICES_A_TURN
from usmd.server.stream_messages import Drains


class Setup:
    """An ending over sessions, at a time that a test sets."""

    def __init__(self, grace=5.0, notice=0.0, **settings):
        self.bench = Bench(**settings)
        self.sessions = self.bench.sessions
        self.now = 100.0
        self.bench.engine.now = lambda: self.now
        self.heard, self.told, self.notices = [], [], []
        self.ending = Ending(self.bench.engine, self.sessions, self.heard.append, self, grace=grace, notice=notice)
        self.ending.given = self.notices.append

    def notify(self, state):
        """In the place of the service manager."""
        self.told.append(state)

    def at(self, now):
        """Whether it is over at a time."""
        self.now = now
        self.ending.tick()
        return self.ending.over.is_set()

    def hearing(self, session):
        session.open_stream()
        stream = session.open_stream()
        self.sessions.hear(stream)
        return stream


def run(test, **settings):
    async def main():
        setup = Setup(**settings)
        await test(setup)
        setup.sessions.end_all("over")
        await setup.bench.engine.close()

    asyncio.run(main())


def test_without_a_notice_or_a_session_the_end_is_now():
    async def test(setup):
        assert setup.ending.seconds_left is None
        setup.ending.drain(30.0)
        assert setup.ending.over.is_set()

    run(test)

    async def with_a_session(setup):
        setup.sessions.attach("app", "")
        setup.ending.drain(grace=2.5)
        assert (setup.ending.over.is_set(), setup.ending.grace, setup.heard, setup.notices) == (True, 2.5, [], [])

    run(with_a_session)


def test_during_a_notice_sessions_go_on_and_new_ones_are_refused_with_the_time_that_is_left():
    async def test(setup):
        session = setup.sessions.attach("app", "")
        setup.ending.drain(30.0)
        assert not setup.at(129.9)
        setup.now = 110.0
        assert setup.ending.seconds_left == 20.0
        assert setup.sessions.find(session.token) is session
        fill(setup.bench, session, 1)
        for begin in (
            lambda: setup.sessions.attach("late", ""),
            lambda: setup.sessions.begin("late", 1, 1, None, lambda: None),
        ):
            with pytest.raises(Draining, match="usmd ends all sessions in 20 s and takes no new sessions"):
                begin()
        assert setup.at(130.0)
        assert setup.ending.seconds_left is None

    run(test)


def test_a_notice_ends_with_the_last_session():
    async def test(setup):
        one, two = setup.sessions.attach("one", ""), setup.sessions.attach("two", "")
        setup.ending.drain(30.0)
        setup.sessions.end(one, "detached")
        assert not setup.at(101.0)
        setup.sessions.end(two, "detached")
        assert setup.at(101.0)

    run(test)


def test_a_further_request_shortens_a_notice_and_never_lengthens_it():
    async def test(setup):
        setup.sessions.attach("app", "")
        setup.ending.drain(30.0)
        setup.ending.drain(3600.0)
        assert setup.ending.seconds_left == 30.0
        setup.ending.drain(10.0)
        assert setup.ending.seconds_left == 10.0
        assert setup.notices == [30.0, 10.0]
        setup.ending.drain()
        assert setup.ending.over.is_set()
        setup.ending.drain(60.0)
        assert setup.ending.over.is_set()

    run(test)


def test_a_signal_gives_the_configured_notice_the_second_ends_it_and_the_third_the_grace():
    async def test(setup):
        setup.sessions.attach("app", "")
        setup.ending.set(7.0, 60.0)
        assert setup.ending.signalled() == "usmd drains in 60 s; a second signal ends this notice"
        assert setup.told == [f"STATUS=sessions end in 60 s\nEXTEND_TIMEOUT_USEC={int((67 + LEEWAY_SECONDS) * 1e6)}"]
        assert (setup.ending.over.is_set(), setup.ending.grace) == (False, 7.0)
        assert "a second signal ends the grace" in setup.ending.signalled()
        assert (setup.ending.over.is_set(), setup.ending.hurry.is_set()) == (True, False)
        assert setup.ending.signalled() == "the grace of running calls is over"
        assert setup.ending.hurry.is_set()

    run(test)


def test_a_signal_during_an_operators_notice_leaves_it_as_long_as_is_configured_at_most():
    async def test(setup):
        setup.sessions.attach("app", "")
        setup.ending.drain(30.0)
        setup.ending.signalled()
        assert setup.ending.seconds_left == 20.0

    run(test, notice=20.0)

    async def none_is_configured(setup):
        setup.sessions.attach("app", "")
        setup.ending.drain(30.0)
        setup.ending.signalled()
        assert setup.ending.over.is_set()

    run(none_is_configured)


def test_streams_that_asked_are_told_few_in_a_turn_and_a_late_one_at_once():
    async def test(setup):
        sessions = [setup.sessions.attach(f"app{number}", "") for number in range(NOTICES_A_TURN + 1)]
        streams = [setup.hearing(session) for session in sessions]
        streams[0].outbox.clear()
        setup.ending.drain(30.0)
        assert [stream.outbox for stream in streams] == [[Drains(30.0)]] * NOTICES_A_TURN + [[]]
        setup.sessions.close_stream(sessions[-1], streams[-1])
        await asyncio.sleep(0)
        assert streams[-1].outbox == []
        assert all(stream.wake.is_set() for stream in streams[:-1])
        assert [session.streams[0].outbox for session in sessions] == [[]] * len(sessions)
        setup.now = 125.0
        late = sessions[0].open_stream()
        setup.sessions.hear(late)
        setup.sessions.hear(late)
        assert late.outbox == [Drains(5.0)]

    run(test, max_sessions=20, of_user=20)


def test_the_notice_names_who_loses_most_memory():
    async def test(setup):
        for number in range(NAMED + 1):
            session = setup.sessions.attach(f"app{number}", "")
            fill(setup.bench, session, number)
        setup.ending.drain(30.0)
        await setup.ending.tell(30.0)
        (notice,) = setup.heard
        assert (notice.kind, notice.process_id) == ("drain_notice", 0)
        assert notice.message == f"usmd ends in 30 s, and with it {15 * PAGE} B of 6 sessions"
        named = notice.fields["losses"].split(", app")
        assert [each.rsplit(") ", 1)[1] for each in named] == [f"{pages * PAGE} B" for pages in (5, 4, 3, 2, 1)]
        assert named[0].startswith("app5 (process ")
        assert "pid unknown" in named[0]

    run(test, max_sessions=20, of_user=20, frames=32, alloc="first_fit")

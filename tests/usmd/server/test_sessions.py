"""Sessions: who gets one, what they are told at the end, and what they leave."""

import asyncio
import gc
from collections import Counter

import pytest

from tests.support.session_bench import PAGE, FakeIdentity, fill, run
from usmd.core import events
from usmd.core.hints import parse_hint
from usmd.errors import Draining, InvalidArgument, LimitExceeded, SessionKilled, UnknownSession
from usmd.policy_rules import Choice, PolicyRule
from usmd.server import sessions as module
from usmd.server.policy_changes import PolicyChanges
from usmd.server.sessions import ENDS_A_TURN
from usmd.server.watch import Watch

SECONDS = 60


def test_a_session_is_found_by_its_own_token_alone():
    async def conversation(bench):
        one, two = bench.sessions.attach("one", ""), bench.sessions.attach("two", "")
        assert one.token != two.token
        assert bench.sessions.find(one.token) is one
        for token in (None, "", one.token[:-1], one.token.swapcase(), str(one.process_id)):
            with pytest.raises(UnknownSession):
                bench.sessions.find(token)

    run(conversation)


def test_there_are_no_more_sessions_than_allowed_until_one_ends():
    async def conversation(bench):
        first = bench.sessions.attach("a", "")
        bench.sessions.attach("b", "")
        with pytest.raises(LimitExceeded, match=r"server\.max_sessions"):
            bench.sessions.attach("c", "")
        bench.sessions.end(first, "detached")
        bench.sessions.attach("c", "")
        assert len(bench.sessions) == 2

    run(conversation, max_sessions=2)


def test_the_kernels_word_decides_by_rule_and_is_on_record():
    async def conversation(bench):
        bench.identities.tickets["t"] = FakeIdentity(1234)
        bench.sessions.attach("app", "t")
        bench.sessions.attach("app", "")
        vouched, stranger = bench.processes()
        assert (vouched.pid, vouched.uid, vouched.policies.specifications["evict"]) == (4711, 1234, "lru")
        assert (stranger.pid, stranger.uid, stranger.policies.specifications["evict"]) == (None, None, "fifo")
        assert [each.policies.specifications["cond"] for each in (vouched, stranger)] == ["swap_back", "trim"]

    run(conversation, evict="fifo", cond="trim", rules=(PolicyRule(uid=1234, evict="lru", cond="swap_back"),))


def test_a_client_that_chooses_policies_gets_them_or_no_session():
    async def conversation(bench):
        bench.sessions.attach("app", "", Choice("flexible_huge_pages(pages=4)", "hint_aware(fallback=lru)"))
        bench.sessions.begin("plain", 1, 1, Choice(evict="lru"), lambda: None)
        chosen = [each.policies.specifications for each in bench.processes()]
        assert [(each["alloc"], each["evict"]) for each in chosen] == [
            ("flexible_huge_pages(pages=4)", "hint_aware(fallback=lru)"),
            ("async_aware", "lru"),
        ]
        bench.identities.tickets["t"] = identity = FakeIdentity(1)
        for refused in (Choice(evict="arc"), Choice(evict="lru(size=1)"), Choice(alloc="flexible_huge_pages(pages=0)")):
            with pytest.raises(InvalidArgument):
                bench.sessions.attach("app", "", refused)
        with pytest.raises(InvalidArgument, match="does not allow arc"):
            bench.sessions.attach("app", "t", Choice(evict="arc"))
        assert identity.closed == 1
        assert len(bench.processes()) == 2

    run(conversation, choices=("flexible_huge_pages", "hint_aware", "lru"))


def test_a_forged_or_used_ticket_gets_no_session():
    async def conversation(bench):
        bench.identities.tickets["t"] = FakeIdentity(1)
        with pytest.raises(UnknownSession):
            bench.sessions.attach("app", "forged")
        bench.sessions.attach("app", "t")
        with pytest.raises(UnknownSession):
            bench.sessions.attach("app", "t")
        assert len(bench.processes()) == 1

    run(conversation)


def test_of_sessions_that_end_together_each_turn_of_the_loop_ends_a_few_and_none_is_found_any_more():
    async def conversation(bench):
        sessions = [bench.sessions.attach(f"app{number}", "") for number in range(3 * ENDS_A_TURN + 1)]
        left = []
        for session in sessions:
            bench.sessions.end(session, "its client is gone")
            bench.sessions.end(session, "twice does nothing", Draining("no"))
            with pytest.raises(UnknownSession):
                bench.sessions.find(session.token)
        for _ in range(4):
            left.append(len(bench.processes()))
            await asyncio.sleep(0)
        assert left == [2 * ENDS_A_TURN + 1, ENDS_A_TURN + 1, 1, 0]
        assert [session.end_error for session in sessions] == [None] * len(sessions)
        assert len(bench.sessions) == 0

    run(conversation, max_sessions=20, of_user=20)


def test_a_process_that_the_oom_policy_ends_first_is_not_detached_any_more():
    async def conversation(bench):
        sessions = [bench.sessions.attach(f"app{number}", "") for number in range(ENDS_A_TURN + 1)]
        for session in sessions:
            bench.sessions.end(session, "its client is gone")
        last = sessions[-1]
        bench.engine.submit(events.Broken([last.process_id], "out of memory"))
        assert isinstance(last.end_error, SessionKilled)
        await bench.sessions.finish()
        assert bench.processes() == []

    run(conversation, max_sessions=20, of_user=20)


def test_the_end_of_the_identity_connection_ends_the_session():
    async def conversation(bench):
        identity = bench.identities.tickets["t"] = FakeIdentity(1)
        session = bench.sessions.attach("app", "t")
        identity.on_gone()
        assert session.ended.is_set()
        assert bench.processes() == []
        identity.on_gone()

    run(conversation)


def test_the_end_of_the_session_and_a_refused_attach_close_the_identity_connection():
    async def conversation(bench):
        ended, refused = FakeIdentity(1), FakeIdentity(1)
        bench.identities.tickets = {"ended": ended, "refused": refused}
        session = bench.sessions.attach("app", "ended")
        assert ended.closed == 0
        bench.sessions.end(session, "detached")
        assert ended.closed == 1
        with pytest.raises(InvalidArgument):
            bench.sessions.attach("", "refused")
        assert refused.closed == 1
        assert len(bench.sessions) == 0

    run(conversation)


def test_a_session_that_opens_no_stream_ends_and_one_that_did_lives_on():
    async def conversation(bench):
        idle, busy = bench.sessions.attach("idle", ""), bench.sessions.attach("busy", "")
        busy.open_stream()
        notices = []
        bench.engine.on_notice = notices.append
        await asyncio.wait_for(idle.ended.wait(), SECONDS)
        assert "no fault stream was opened within 0.02 s" in notices[0].message
        assert bench.sessions.find(busy.token) is busy

    run(conversation, attach_timeout=0.02)


def test_a_detached_session_is_unknown_and_its_stream_ends_well():
    async def conversation(bench):
        session = bench.sessions.attach("app", "")
        streams, ended = (session.open_stream(), session.open_stream()), []
        for stream in streams:
            stream.on_ended = lambda stream=stream: ended.append(stream)
        bench.sessions.end(session, "detached")
        assert session.end_error is None
        assert ended == list(streams)
        with pytest.raises(UnknownSession):
            bench.sessions.find(session.token)
        bench.sessions.end(session, "twice does nothing")

    run(conversation)


def test_drain_ends_every_session_with_the_cause_and_refuses_new_ones():
    async def conversation(bench):
        ended = [bench.sessions.attach(name, "") for name in ("a", "b")]
        bench.sessions.draining = True
        assert bench.sessions.end_all("usmd is draining") == 2
        for session in ended:
            assert isinstance(session.end_error, Draining)
            with pytest.raises(Draining, match="usmd is draining"):
                bench.sessions.find(session.token)
        with pytest.raises(Draining):
            bench.sessions.attach("late", "")

    run(conversation)


def kill(bench, name="large"):
    """A session that the oom policy has killed."""
    large = bench.sessions.attach(name, "")
    region = fill(bench, large, 2)
    bench.engine.submit(events.SetHint(large.process_id, region, 0, None, parse_hint("EVICTION=DENY")))
    small = bench.sessions.attach("small", "")
    fill_one = bench.engine.submit(events.Map(small.process_id, PAGE, "")).region_id
    bench.engine.submit(events.Faults(small.process_id, [events.FaultRequest(1, fill_one, 0, 1, True)]))
    bench.sessions.end(small, "done")
    return large


def test_a_killed_session_is_told_why_at_every_call():
    async def conversation(bench):
        large = kill(bench)
        assert isinstance(large.end_error, SessionKilled)
        for _ in range(2):
            with pytest.raises(SessionKilled, match="out of memory: it held 2 of 2 frames"):
                bench.sessions.find(large.token)

    run(conversation, oom="kill_largest", evict="fifo", alloc="first_fit")


def test_only_so_many_ends_are_remembered(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 2)

    async def conversation(bench):
        oldest, *others = [kill(bench) for _ in range(3)]
        with pytest.raises(UnknownSession):
            bench.sessions.find(oldest.token)
        for session in others:
            with pytest.raises(SessionKilled):
                bench.sessions.find(session.token)

    run(conversation, oom="kill_largest", evict="fifo", alloc="first_fit")


def living():
    """The Python objects there are, by the name of their type."""
    gc.collect()
    return Counter(type(each).__name__ for each in gc.get_objects())


def test_sessions_that_have_ended_leave_nothing_behind():
    async def conversation(bench):
        changes, watch = PolicyChanges(bench.engine.now), Watch()

        def hear(notice):
            changes.hear(notice)
            watch.publish(notice)

        bench.engine.on_notice = hear

        async def live(count):
            """Sessions that do all that leaves a record somewhere, and are ended in each way."""
            for number in range(count):
                bench.identities.tickets["ticket"] = FakeIdentity(number)
                session = bench.sessions.attach(f"app{number % 7}", "ticket")
                submit, process = bench.engine.submit, session.process_id
                if number % 5:
                    stream = session.open_stream()
                region = bench.engine.map(events.Map(process, 8 * PAGE, f"region {number}")).region_id
                submit(events.SetHint(process, region, 0, 4 * PAGE, parse_hint("PRIORITY=LOW; TTL=1000")))
                submit(events.SetPolicy(process, "evict", ("lru", "arc", "s3_fifo", "lirs")[number % 4]))
                for page in range(8):
                    submit(events.Faults(process, [events.FaultRequest(page, region, page, 1, write=False)]))
                submit(events.PageFaults(process, [events.PageFault(region, page, write=False) for page in range(8)]))
                submit(events.SetHint(process, region, 0, None, parse_hint("DONTNEED")))
                if number % 3:
                    bench.sessions.end(session, "detached")
                elif number % 5:
                    bench.sessions.close_stream(session, stream)
                else:
                    session.identity.on_gone()
                submit(events.Tick())
                await asyncio.sleep(0)  # the loop keeps up to 100 cancelled timers, and forgets more in its turns

        await live(20)
        before = living()
        await live(200)
        grown = {name: count for name, count in (living() - before).items() if count > 120}
        assert grown == {}
        assert len(bench.sessions) == 0

    run(conversation)


def test_callers_that_get_no_session_are_logged_by_user(logged):
    async def conversation(bench):
        bench.identities.tickets["t"] = FakeIdentity(1234)
        for ticket, wrong in (("t", Choice(evict="nope")), ("", Choice(evict="nope")), ("forged", Choice())):
            with pytest.raises((InvalidArgument, UnknownSession)):
                bench.sessions.attach("app", ticket, wrong)
        await asyncio.sleep(0)

    run(conversation)
    assert [(each["uid"], each["pid"], each["attaches"]) for each in logged if each["event"] == "attach_refused"] == [
        (1234, 4711, 1),
        (None, None, 2),
    ]


def test_a_session_that_has_a_stream_or_has_ended_keeps_no_timer():
    async def conversation(bench):
        idle, busy = bench.sessions.attach("idle", ""), bench.sessions.attach("busy", "")
        deadlines = [idle.deadline, busy.deadline]
        assert [each.cancelled() for each in deadlines] == [False, False]
        busy.open_stream()
        bench.sessions.end(idle, "detached")
        assert [each.cancelled() for each in deadlines] == [True, True]

    run(conversation)

"""Messages of what the core says; most of them are seen on the wire by test_admin_service."""

from tests.usmd.server.test_engine import PAGE, Bench
from usmd.core import events, report
from usmd.core.commands import Notice
from usmd.core.hints import parse_hint
from usmd.core.pressure import Pressure
from usmd.server.admin_messages import AdminMessages, pressure_message
from usmd.server.policy_changes import PolicyChanges

DEFAULTS = {"alloc": "first_fit", "evict": "hint_aware(fallback=lru)", "oom": "refuse", "cond": "none"}


def messages(bench):
    changes = PolicyChanges(bench.engine.now)
    return AdminMessages(bench.engine, changes, DEFAULTS), changes


def test_a_policy_counts_its_users_and_is_the_default_whatever_its_parameters():
    bench = Bench()
    made, _ = messages(bench)
    fifo = made.policy("evict", "fifo", [bench.engine.core.state.processes[bench.process]])
    assert (list(fifo.process_ids), fifo.is_default, fifo.errors) == ([bench.process], False, 0)
    assert made.policy("evict", "hint_aware", ()).is_default
    assert made.policy("alloc", "first_fit", ()).summary


def test_the_policies_of_a_process_come_with_the_change_that_brought_them():
    bench = Bench()
    made, changes = messages(bench)
    changes.hear(
        Notice(
            "policy_replaced",
            bench.process,
            "",
            {"policy_kind": "evict", "policy": "arc", "errors": "101", "did": "made 101 errors", "replaced_by": "fifo"},
        )
    )
    answer = made.process_policies(bench.engine.core.state.processes[bench.process])
    assert [(each.kind, each.policy) for each in answer.policies] == [
        ("alloc", "first_fit"),
        ("evict", "fifo"),
        ("oom", "refuse"),
        ("cond", "none"),
    ]
    change = answer.policies[1].change
    assert (change.before, change.after, change.misbehaved) == ("arc", "fifo", True)
    assert (change.errors, change.did) == (101, "made 101 errors")
    assert 0 <= change.seconds_ago < 10
    assert not answer.policies[0].HasField("change")


def test_pressure_is_shares_and_microseconds_and_full_is_unset_while_it_is_not_known():
    found = Pressure()
    found.advance(0.0, 0.0, None)
    found.advance(10.0, 2.5, 1.0)
    message = pressure_message(found)
    some = found.some.averages
    assert [message.some.avg10, message.some.avg60, message.some.avg300] == some == sorted(some, reverse=True)
    assert message.some.total_us == 2_500_000
    assert message.HasField("full")
    found.advance(11.0, 2.5, None)
    assert not pressure_message(found).HasField("full")


def test_a_hint_tells_how_long_it_lasts():
    bench = Bench()
    made, _ = messages(bench)
    region = bench.engine.core.state.regions[bench.region]
    bench.engine.submit(events.SetHint(bench.process, bench.region, 0, PAGE, parse_hint("PRIORITY=LOW; TTL=100")))
    bench.engine.submit(events.SetHint(bench.process, bench.region, PAGE, PAGE, parse_hint("PRIORITY=LOW")))
    ends, stays = [made.hint_range(report.hint_report(region, each, ())) for each in region.hints]
    assert 90 < ends.expires_in_seconds <= 100
    assert not stays.HasField("expires_in_seconds")
    kept = made.kept_pages(region.process)
    assert (kept.hint_ranges, kept.unevictable_pages) == (2, 0)

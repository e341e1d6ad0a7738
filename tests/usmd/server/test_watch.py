"""Events on their way to the log and to those who watch, slow ones included."""

import asyncio

import pytest

from usmd.core.commands import Notice
from usmd.errors import InvalidArgument
from usmd.server.watch import BACKLOG, Watch


@pytest.fixture
def watch():
    return Watch(clock=lambda: 1700000000.0)


def notice(number, kind="process_attached"):
    return Notice(kind, number, f"event {number}", {"name": "app"})


def read(watcher, count):
    """The next `count` of what a watcher hears: process numbers, the count of missed ones as text, None for the end."""

    async def heard():
        found = []
        for _ in range(count):
            event = await asyncio.wait_for(watcher.next(), 10)
            if event is None:
                found.append(None)
            elif event.notice.kind == "events_missed":
                found.append(event.notice.fields["missed"])
            else:
                found.append(event.notice.process_id)
        return found

    return asyncio.run(heard())


def test_a_watcher_hears_what_happens_while_it_watches_in_order(watch):
    watch.publish(notice(1))
    with watch.watcher() as watcher:
        watch.publish(notice(2))
        watch.publish(notice(3))
        watch.end()
    watch.publish(notice(4))
    assert read(watcher, 3) == [2, 3, None]


def test_an_event_carries_the_wall_clock(watch):
    with watch.watcher() as watcher:
        watch.publish(notice(1))
        event = asyncio.run(watcher.next())
    assert (event.time, event.notice.message) == (1700000000.0, "event 1")


def test_a_watcher_waits_for_an_event(watch):
    async def main():
        with watch.watcher() as watcher:
            waiting = asyncio.create_task(watcher.next())
            await asyncio.sleep(0)
            assert not waiting.done()
            watch.publish(notice(7))
            return (await asyncio.wait_for(waiting, 10)).notice.process_id

    assert asyncio.run(main()) == 7


def test_a_slow_watcher_is_told_how_many_it_missed_where_they_are_missing(watch):
    with watch.watcher() as watcher:
        for number in range(BACKLOG + 5):
            watch.publish(notice(number))
        assert read(watcher, 2) == [0, 1]
        watch.publish(notice(5000))
        assert read(watcher, BACKLOG) == [*range(2, BACKLOG), "5", 5000]


def test_a_watcher_that_has_caught_up_is_told_without_a_further_event(watch):
    with watch.watcher() as watcher:
        for number in range(BACKLOG + 1):
            watch.publish(notice(number))
        assert read(watcher, BACKLOG + 1)[-1] == "1"


def test_a_slow_watcher_is_told_before_the_end(watch):
    with watch.watcher() as watcher:
        for number in range(BACKLOG + 3):
            watch.publish(notice(number))
        watch.end()
        assert read(watcher, BACKLOG + 2)[-2:] == ["3", None]


def test_a_slow_watcher_takes_nothing_from_the_others(watch):
    with watch.watcher(), watch.watcher() as quick:
        for number in range(0, 2 * BACKLOG, 10):
            for each in range(10):
                watch.publish(notice(number + each))
            assert read(quick, 10) == list(range(number, number + 10))


def test_events_reach_the_log_with_their_weight_and_the_frequent_ones_do_not(watch, logged):
    watch.publish(notice(1))
    for kind in ("swap_error", "page_poisoned", "thread_blocked", "pages_evicted"):
        watch.publish(notice(2, kind))
    assert [(line["log_level"], line["event"]) for line in logged] == [
        ("info", "process_attached"), ("warning", "swap_error"), ("warning", "page_poisoned"),
        ("warning", "thread_blocked"),
    ]  # fmt: skip
    assert logged[0] == {
        "event": "process_attached", "log_level": "info", "process_id": 1, "message": "event 1", "name": "app",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "processes", "heard"),
    [
        ((), (), [1, 2, 3, 0]),
        (["swap_error"], (), [2, 0]),
        ((), [1, 2], [1, 2]),
        (["swap_error", "process_attached"], [2, 3], [2, 3]),
        (["policy_set"], [1], []),
    ],
)
def test_a_watcher_hears_of_the_kinds_and_processes_it_asked_for(watch, kinds, processes, heard):
    with watch.watcher(kinds, processes) as watcher:
        for number, kind in ((1, "process_attached"), (2, "swap_error"), (3, "process_attached"), (0, "swap_error")):
            watch.publish(notice(number, kind))
        watch.end()
        assert read(watcher, len(heard) + 1) == [*heard, None]


def test_what_a_watcher_does_not_want_takes_nothing_of_its_backlog(watch):
    with watch.watcher(["swap_error"]) as watcher:
        for number in range(BACKLOG + 5):
            watch.publish(notice(number, "pages_evicted"))
        watch.publish(notice(7, "swap_error"))
        watch.end()
        assert read(watcher, 2) == [7, None]


def test_a_kind_that_there_is_not_is_refused_with_those_there_are(watch):
    wrong = watch.watcher(["swap_error", "swap_eror"])
    with pytest.raises(InvalidArgument, match=r"event kind 'swap_eror' does not exist; allowed are .*swap_error"):
        wrong.__enter__()

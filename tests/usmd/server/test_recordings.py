"""A recording: nothing is lost without being counted, and nothing is kept beyond the bound."""

import asyncio
from array import array

import pytest

from usmd.core.region import page_key
from usmd.server import recordings
from usmd.server.recordings import Recording


def touches(*pages, kind=0):
    return array("q", [entry for page in pages for entry in (page_key(1, page), kind)])


def read(recording, messages=None):
    """All that an ended recording still says."""

    async def collect():
        return [message async for message in recording.messages()]

    return asyncio.run(asyncio.wait_for(collect(), 10))


def test_accesses_come_with_their_times_in_groups_and_then_the_end():
    recording = Recording(100.0)
    recording.touched(touches(1, 2, kind=3), 100.5)
    recording.touched(touches(1), 101.0)
    recording.ended("detached")
    *some, last = read(recording)
    (message,) = some
    assert (list(message.seconds), list(message.counts), message.kinds) == ([0.5, 1.0], [2, 1], b"\3\3\0")
    assert list(message.pages) == [page_key(1, page) for page in (1, 2, 1)]
    assert (last.ended, last.dropped, len(last.pages)) == ("detached", 0, 0)


def test_much_is_cut_into_messages_of_whole_groups(monkeypatch):
    monkeypatch.setattr(recordings, "MESSAGE_ACCESSES", 10)
    recording = Recording(0.0)
    for size in (6, 6, 25, 1, 1):
        recording.touched(touches(*range(size)), 1.0)
    recording.ended("")
    messages = read(recording)
    assert [list(message.counts) for message in messages] == [[6], [6], [25], [1, 1], []]
    assert messages[-1].ended == "the process ended"


def test_what_there_is_no_room_for_is_dropped_and_counted(monkeypatch):
    monkeypatch.setattr(recordings, "MAX_WAITING", 10)
    recording = Recording(0.0)
    recording.touched(touches(*range(8)), 1.0)
    recording.touched(touches(*range(3)), 2.0)
    recording.touched(touches(*range(2)), 3.0)
    recording.ended("")
    messages = read(recording)
    assert list(messages[0].counts) == [8, 2]
    assert messages[0].dropped == messages[-1].dropped == 3


def test_a_quiet_process_is_heard_of_now_and_then(monkeypatch):
    monkeypatch.setattr(recordings, "FLUSH_SECONDS", 0.001)
    monkeypatch.setattr(recordings, "HEARTBEAT_SECONDS", 0.003)
    recording = Recording(0.0)

    async def beats():
        found = []
        async for message in recording.messages():
            found.append(len(message.pages))
            if len(found) == 2:
                recording.touched(touches(5), 1.0)
            if len(found) == 3:
                recording.ended("")
        return found

    assert asyncio.run(asyncio.wait_for(beats(), 10)) == [0, 0, 1, 0]


@pytest.mark.parametrize("kind", range(4))
def test_every_kind_is_kept(kind):
    recording = Recording(0.0)
    recording.touched(touches(7, kind=kind), 0.0)
    recording.changed(None, 0.0)
    recording.ended("")
    assert read(recording)[0].kinds == bytes([kind])

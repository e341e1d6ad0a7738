"""When a message is read: after its token was looked at, in a turn, and for a limited time."""

import asyncio
import functools

import grpc.aio
import pytest

from tests.support.waiting import wait_until_async
from usmd.errors import InvalidArgument, LimitExceeded, UnknownSession
from usmd.server.admission import STRANGERS, TICKET_KEY, TOKEN_KEY, Admission, Turns, metadata_of


class Call:
    """A call whose message comes when it is told to."""

    def __init__(self):
        self.metadata = ()
        self.message = asyncio.get_running_loop().create_future()
        self.asked = False

    def invocation_metadata(self):
        return self.metadata

    async def read(self):
        self.asked = True
        return await self.message


class Tokens:
    """One session and one ticket."""

    def __init__(self):
        self.session = Turns(1, 60.0)
        self.ticket = Turns(1, 60.0, 60.0)

    def of_token(self, token):
        if token != "right":
            raise UnknownSession("no session has this token")
        return self.session

    def of_ticket(self, ticket):
        return self.ticket if ticket == "right" else None


def admission():
    tokens = Tokens()
    return Admission(tokens.of_token, tokens.of_ticket)


def keyed(key, value):
    call = Call()
    call.metadata = ((key, value),)
    return call


def in_loop(test):
    """Run a test in an event loop of its own."""

    @functools.wraps(test)
    def run():
        asyncio.run(test())

    return run


@in_loop
async def test_a_wrong_token_is_refused_before_anything_is_read():
    for call in (Call(), keyed(TOKEN_KEY, "wrong"), keyed(TOKEN_KEY, b"right")):
        with pytest.raises(UnknownSession):
            await admission().read(call)
        assert not call.asked


@in_loop
async def test_calls_of_a_session_beyond_its_turns_are_not_read_and_then_are():
    door = admission()
    first, second = keyed(TOKEN_KEY, "right"), keyed(TOKEN_KEY, "right")
    reads = [asyncio.create_task(door.read(call)) for call in (first, second)]
    await wait_until_async(lambda: first.asked, "the first is read")
    await asyncio.sleep(0)
    assert not second.asked
    second.message.set_result("two")
    first.message.set_result("one")
    assert await asyncio.gather(*reads) == ["one", "two"]


@in_loop
async def test_strangers_share_their_turns_and_a_ticket_has_one_of_its_own():
    door = admission()
    strangers = [Call() for _ in range(STRANGERS + 1)]
    reads = [asyncio.create_task(door.read_stranger(call)) for call in strangers]
    await wait_until_async(lambda: strangers[STRANGERS - 1].asked, "all turns are taken")
    known, forged = keyed(TICKET_KEY, "right"), keyed(TICKET_KEY, "wrong")
    known.message.set_result("hello")
    assert await door.read_stranger(known) == "hello"
    reads.append(asyncio.create_task(door.read_stranger(forged)))
    await asyncio.sleep(0)
    assert not strangers[-1].asked
    assert not forged.asked
    for task in reads:
        task.cancel()
    await asyncio.gather(*reads, return_exceptions=True)


@in_loop
async def test_a_message_that_does_not_come_in_time_ends_its_call_and_frees_its_turn():
    turns = Turns(1, 0.001)
    with pytest.raises(LimitExceeded, match=r"not complete within 0\.001 s"):
        await turns.read(Call())
    ready = Call()
    ready.message.set_result("here")
    assert await turns.read(ready) == "here"


@in_loop
async def test_a_turn_that_does_not_come_in_time_ends_its_call():
    turns = Turns(1, 60.0, 0.001)
    holder = asyncio.create_task(turns.read(Call()))
    await asyncio.sleep(0)
    late = Call()
    with pytest.raises(LimitExceeded, match="1 messages of callers without a token at a time"):
        await turns.read(late)
    assert not late.asked
    holder.cancel()


@in_loop
async def test_a_call_without_a_message_is_an_invalid_argument():
    call = keyed(TOKEN_KEY, "right")
    call.message.set_result(grpc.aio.EOF)
    with pytest.raises(InvalidArgument, match="without a message"):
        await admission().read(call)


@in_loop
async def test_a_stream_of_strangers_is_read_to_its_end():
    left = ["one", "two", grpc.aio.EOF]

    class Stream(Call):
        async def read(self):
            return left.pop(0)

    assert [message async for message in admission().read_strangers(Stream())] == ["one", "two"]


@in_loop
async def test_metadata_is_text_or_nothing():
    assert metadata_of(keyed("key", "text"), "key") == "text"
    assert metadata_of(keyed("key", b"bytes"), "key") is None
    assert metadata_of(keyed("key", "text"), "other") is None

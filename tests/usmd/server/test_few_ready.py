"""Of many descriptors that are ready together each turn of the loop reads a few, and none is left out."""

import asyncio
import contextlib
import functools
import os
import socket

import pytest

from tests.support.waiting import wait_until_async
from usmd.server.few_ready import FewReady


def in_loop(test):
    """Run a test on a loop of its own, with a stack that closes its sockets."""

    def run():
        with contextlib.ExitStack() as stack:
            asyncio.run(test(stack))

    return run


class Pairs:
    """Connected sockets: usmd's ends, and the peers'. `read` has what each turn of the loop has read."""

    def __init__(self, stack, few, count):
        self.few = few
        self.ours, self.peers = [], []
        self.read = [[]]
        for number in range(count):
            ours, peer = socket.socketpair()
            for each in (ours, peer):
                stack.enter_context(each)
            self.ours.append(ours)
            self.peers.append(peer)
            few.add(ours.fileno(), functools.partial(self.on_ready, number))
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self):
        if self.read[-1]:
            self.read.append([])
        asyncio.get_running_loop().call_soon(self._turn)

    def on_ready(self, number):
        self.ours[number].recv(1)
        self.read[-1].append(number)

    def all_read(self):
        return [number for turn in self.read for number in turn]


@in_loop
async def test_a_turn_reads_so_many_and_no_more_and_all_have_theirs(stack):
    few = FewReady(3)
    pairs = Pairs(stack, few, 20)
    for peer in pairs.peers:
        peer.send(b"x")
    await wait_until_async(lambda: len(pairs.all_read()) == 20, "all are read")
    assert sorted(pairs.all_read()) == list(range(20))
    assert max(len(turn) for turn in pairs.read) == 3
    few.close()


@in_loop
async def test_one_that_is_always_ready_leaves_the_others_their_turns(stack):
    few = FewReady(1)
    pairs = Pairs(stack, few, 3)
    pairs.peers[0].send(b"x" * 1000)
    for peer in pairs.peers[1:]:
        peer.send(b"x")
    await wait_until_async(lambda: {1, 2} <= set(pairs.all_read()), "the others are read")
    assert len(pairs.all_read()) < 1000
    few.close()


@in_loop
async def test_a_reader_may_remove_others_and_itself_and_one_that_was_removed_is_not_called(stack):
    few = FewReady(8)
    pairs = Pairs(stack, few, 4)

    def removes_all():
        for ours in pairs.ours:
            few.remove(ours.fileno())
        pairs.read[-1].append("removed")

    for ours in pairs.ours:
        few.remove(ours.fileno())
        few.add(ours.fileno(), removes_all)
    for peer in pairs.peers:
        peer.close()
    await wait_until_async(lambda: pairs.all_read() == ["removed"], "one reader is called")
    few.remove(pairs.ours[0].fileno())  # a second call does nothing
    few.add(pairs.ours[0].fileno(), lambda: pairs.on_ready(0))
    await wait_until_async(lambda: 0 in pairs.all_read(), "the end of the peer is read")
    few.close()


@in_loop
async def test_a_reader_that_fails_is_reported_and_the_others_are_called(stack):
    few, told = FewReady(2), []
    pairs = Pairs(stack, few, 3)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    error = ValueError("no")

    def fail():
        few.remove(pairs.ours[0].fileno())
        raise error

    few.remove(pairs.ours[0].fileno())
    few.add(pairs.ours[0].fileno(), fail)
    for peer in pairs.peers:
        peer.send(b"x")
    await wait_until_async(lambda: set(pairs.all_read()) == {1, 2}, "the others are read")
    assert told == [error]
    few.close()


def test_one_that_was_never_used_needs_no_loop():
    few = FewReady(1)
    few.close()
    with pytest.raises(ValueError, match="closed"):
        few._set.poll(0)


@in_loop
async def test_a_descriptor_that_has_the_number_of_one_that_was_ready_is_not_taken_for_it(stack):
    few = FewReady(8)
    ours, peers = zip(*(socket.socketpair() for _ in range(3)), strict=True)
    for each in (*ours, *peers):
        stack.enter_context(each)
    numbers = [each.fileno() for each in ours[:2]]
    called, taken_for_it = [], []

    def replaces_the_other(number):
        """As an end that closes a descriptor, and a session that begins and gets its number, in one turn."""
        called.append(number)
        ours[number].recv(1)
        other = numbers[1 - number]
        few.remove(other)
        os.dup2(ours[2].fileno(), other)
        few.add(other, lambda: taken_for_it.append(other))

    for number, descriptor in enumerate(numbers):
        few.add(descriptor, functools.partial(replaces_the_other, number))
        peers[number].send(b"x")
    await wait_until_async(lambda: called, "one of them is read")
    peers[2].send(b"x")  # now it is ready itself
    assert taken_for_it == []
    await wait_until_async(lambda: taken_for_it, "what has the number now is read")
    assert len(called) == 1
    few.close()

"""Of many calls in one turn of the loop some wait for the next turns, in their order."""

import asyncio
import functools

import pytest

from usmd.server.few_a_turn import FewATurn


def in_loop(test):
    """Run a test on a loop of its own."""

    @functools.wraps(test)
    def run():
        asyncio.run(test())

    return run


async def turn():
    await asyncio.sleep(0)


@in_loop
async def test_a_turn_has_so_many_calls_and_no_more():
    few, done = FewATurn(3), []
    for number in range(7):
        few.call(lambda number=number: done.append(number))
    assert done == [0, 1, 2]
    await turn()
    assert done == [0, 1, 2, 3, 4, 5]
    few.call(lambda: done.append(7))
    await turn()
    assert done == [0, 1, 2, 3, 4, 5, 6, 7]


@in_loop
async def test_a_turn_waits_for_the_calls_before_it():
    few, done = FewATurn(2), []
    await few.turn()
    for number in range(6):
        few.call(lambda number=number: done.append(number))
    await few.turn()
    assert done == [0, 1, 2, 3, 4, 5]


@in_loop
async def test_a_call_may_call_for_another_and_that_has_its_turn_behind_those_that_wait():
    few, done = FewATurn(2), []
    few.call(lambda: few.call(lambda: done.append(1)))
    few.call(lambda: few.call(lambda: done.append(3)))
    few.call(lambda: done.append(2))
    assert done == [1]
    await few.turn()
    assert done == [1, 2, 3]


@in_loop
async def test_calls_after_one_that_fails_are_made():
    few, done, told = FewATurn(1), [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    error = ValueError("no")

    def fail():
        raise error

    with pytest.raises(ValueError, match="no"):
        few.call(fail)
    few.call(fail)
    few.call(lambda: done.append(1))
    await few.turn()
    assert (told, done) == ([error], [1])

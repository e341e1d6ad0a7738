"""Long work: how much of it a turn of the loop takes."""

import asyncio
from itertools import count, pairwise

import pytest

from usmd.server.pauses import TURN_SECONDS, Turns, in_parts


@pytest.mark.parametrize(
    ("most", "cost", "turns"),
    [(4, lambda _item: 1, [4, 4, 2]), (4, lambda item: item, [4, 1, 1, 1, 1, 1, 1]), (1, lambda _item: 1, [1] * 10)],
)
def test_the_loop_has_its_turn_after_each_part(most, cost, turns):
    async def main():
        found, others = [], []

        def beat():
            others.append(len(found))
            loop.call_soon(beat)

        loop = asyncio.get_running_loop()
        loop.call_soon(beat)
        async for item in in_parts(range(10), most, cost):
            found.append(item)
        assert found == list(range(10))
        return others

    seen = [0, *asyncio.run(main()), 10]
    assert [after - before for before, after in pairwise(seen) if after > before] == turns


@pytest.mark.parametrize(("seconds", "turns"), [(TURN_SECONDS, 4), (0.6 * TURN_SECONDS, 2), (0.0, 0)])
def test_the_loop_has_its_turn_after_steps_that_took_long(seconds, turns):
    now = count()

    async def work():
        found = Turns(lambda: seconds * next(now))
        for _ in range(4):
            await found.step()
        assert found.cpu_seconds > 0

    steps = work()
    for found in count():
        try:
            steps.send(None)
        except StopIteration:
            assert found == turns
            return

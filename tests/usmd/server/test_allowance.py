"""Connections that wait for a session, by user: how many there may be, and what is told of the others."""

import asyncio

from usmd.server.allowance import TELL_SECONDS, Allowance, Complaints


def in_loop(work):
    """Run `work()` in a loop, and what it leaves to be done next."""

    async def main():
        work()
        await asyncio.sleep(0)

    asyncio.run(main())


def test_a_user_has_so_many_and_another_has_them_too(logged):
    def work():
        door = Allowance("identity", of_user=2, in_all=100)
        assert [door.enter(7, 1), door.enter(7, 1), door.enter(8, 2)] == [None, None, None]
        assert door.enter(7, 1) == (
            "user 7 has 2 connections without a session to the identity socket; server.max_user_connections allows 2"
        )
        door.settle(7)
        assert door.enter(7, 1) is None
        door.leave(7, waiting=True)
        assert door.enter(7, 1) is None

    in_loop(work)
    assert [each["connections"] for each in logged if each["event"] == "connections_refused"] == [1]


def test_all_users_together_have_so_many():
    def work():
        door = Allowance("memory", of_user=2, in_all=3)
        for uid in (1, 2, 3):
            assert door.enter(uid, uid) is None
            door.settle(uid)
        assert door.enter(4, 4) == "there are 3 connections to the memory socket; usmd's limit of open files allows 3"
        door.leave(1, waiting=False)
        assert door.enter(4, 4) is None

    in_loop(work)


def test_the_reason_says_what_is_counted_and_what_allows_so_many():
    def work():
        door = Allowance("admin", of_user=1, in_all=9, counted="connections", allows="a setting")
        assert door.enter(7, 1) is None
        assert door.enter(7, 1) == "user 7 has 1 connections to the admin socket; a setting allows 1"

    in_loop(work)


def test_one_line_tells_of_all_of_a_user_that_go_together():
    told = []

    def work():
        complaints = Complaints(lambda *line: told.append(line))
        for _ in range(5):
            complaints.add(7, 1, "too many")
        complaints.add(8, 2, "too many")

    in_loop(work)
    assert told == [(7, 1, "too many", 5), (8, 2, "too many", 1)]


def test_the_operator_is_told_of_a_user_once_in_a_while():
    times = iter([100.0, 100.0 + TELL_SECONDS - 0.01, 100.0 + TELL_SECONDS])
    told = []

    async def work():
        complaints = Complaints(lambda *line: told.append(line), lambda: next(times))
        for expected in (1, 1, 2):
            complaints.add(7, 1, "too many")
            await asyncio.sleep(0)
            assert len(told) == expected

    asyncio.run(work())
    assert told == [(7, 1, "too many", 1), (7, 1, "too many", 2)]

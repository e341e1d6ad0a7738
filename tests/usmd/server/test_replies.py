import asyncio

import pytest

from usmd.server.replies import Replies


def test_each_request_gets_its_own_reply_also_before_it_is_waited_for():
    async def main():
        replies = Replies()
        (first, one), (second, two) = replies.expect(), replies.expect()
        replies.give(second, 7)
        replies.give(first)
        return await one, await two

    assert asyncio.run(main()) == (0, 7)


def test_a_caller_that_waits_no_longer_and_a_request_that_was_refused_are_forgotten():
    async def main():
        replies = Replies()
        (first, one), (second, _) = replies.expect(), replies.expect()
        one.cancel()
        replies.give(first, 7)
        replies.drop(second)
        for number in (first, second):
            with pytest.raises(KeyError):
                replies.give(number)

    asyncio.run(main())

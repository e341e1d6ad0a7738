"""The pauses after failures of a server."""

from usmd.swap.remote.requests import BATCH, PAUSES, Breaker, in_batches, key_of


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_server_that_failed_once_is_asked_again_at_once_and_then_ever_more_rarely():
    clock = Clock()
    breaker = Breaker(clock)
    assert breaker.lets_through()
    for pause in (*PAUSES, PAUSES[-1]):
        breaker.failed("no answer")
        assert breaker.why == "no answer"
        if pause:
            clock.now += pause * 0.6
            assert not breaker.lets_through()
            clock.now += pause * 0.6
        assert breaker.lets_through()


def test_an_answer_ends_the_pauses():
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(4):
        breaker.failed("no answer")
    assert not breaker.lets_through()
    breaker.answered()
    assert breaker.lets_through()
    assert (breaker.why, breaker.failures) == ("", 0)
    breaker.failed("again")
    assert breaker.lets_through()


def test_the_key_of_a_request():
    assert key_of(("GETRANGE", "some", 0, 1)) == "some"
    assert key_of(("EVAL", "return 1", 1, "other", b"x")) == "other"


def test_batches():
    assert [len(each) for each in in_batches(range(2 * BATCH + 1))] == [BATCH, BATCH, 1]
    assert list(in_batches([])) == []

"""What each kind of wait keeps of the answers, and when it wakes."""

import pytest

import lib_usm
from lib_usm.waits import AheadWait, FaultsWait, TokenWait, Wait
from tests.support.uthreads import failed
from usm_wire.pb.usm.v1 import client_pb2 as pb


class Waiter:
    woken = 0

    def wake(self):
        self.woken += 1


def waiting(kind, *arguments, remaining, **keywords):
    wait = kind(Waiter(), *arguments, **keywords)
    wait.remaining = remaining
    return wait


def test_the_first_error_is_kept_and_the_last_answer_wakes():
    wait = waiting(Wait, remaining=3)
    first = lib_usm.DataLoss("first")
    wait.took(lib_usm.Yielded(1))
    wait.took(first)
    assert not wait.waiter.woken
    wait.answered(lib_usm.SwapIOError("second"))
    assert (wait.waiter.woken, wait.error) == (1, first)


def test_a_wait_without_a_waiter_wakes_nobody():
    wait = waiting(Wait, remaining=1)
    waiter, wait.waiter = wait.waiter, None
    wait.answered(None)
    assert not waiter.woken


def test_an_access_that_fails_is_an_error_unless_it_was_sent_ahead():
    failure = pb.AccessOutcome(failure=failed(0, 0, "NOT_FOUND").failure)
    for outcome, kind in ((failure, lib_usm.NotFound), (pb.AccessOutcome(), lib_usm.UsmError)):
        wait = waiting(Wait, remaining=1)
        wait.accessed(outcome)
        assert isinstance(wait.error, kind)
        ahead = waiting(AheadWait, remaining=1)
        ahead.accessed(outcome)
        assert (ahead.error, ahead.answer, ahead.waiter.woken) == (None, outcome, 1)


def test_answers_of_faults_are_kept_in_the_order_of_filing():
    wait = waiting(FaultsWait, [None, None], yields=True, remaining=2)
    loss = lib_usm.DataLoss("lost")
    wait.took(lib_usm.Yielded(5), 1)
    wait.took(loss, 0)
    assert wait.results() == [loss, lib_usm.Yielded(5)]
    assert wait.error is None


def test_the_end_of_the_stream_is_raised_instead_of_answers():
    faults, completion = waiting(FaultsWait, [None], yields=False, remaining=1), waiting(TokenWait, 7, remaining=1)
    for wait, result in ((faults, faults.results), (completion, completion.result)):
        wait.answered(lib_usm.ConnectionLost("gone"))
        with pytest.raises(lib_usm.ConnectionLost, match="gone"):
            result()


def test_a_completion_is_the_result_or_raised():
    wait, failed_wait = waiting(TokenWait, 7, remaining=1), waiting(TokenWait, 8, remaining=1)
    with pytest.raises(lib_usm.InternalError, match="token 7 was not completed"):
        wait.result()
    brought = lib_usm.Allocated(pb.Allocated())
    wait.took(brought)
    assert wait.result() is brought
    failed_wait.took(lib_usm.DataLoss("lost"))
    assert failed_wait.waiter.woken
    with pytest.raises(lib_usm.DataLoss, match="lost"):
        failed_wait.result()

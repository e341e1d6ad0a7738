import inspect
import re

import grpc
import pytest

import lib_usm
from usm_wire.pb.usm.v1 import common_pb2
from usmd import errors

ALL = [item for _, item in inspect.getmembers(errors, inspect.isclass) if item.__module__ == errors.__name__]
CLASSES = [item for item in ALL if item is not errors.EndsRun]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_one_of_ours_and_says_what_it_means(error):
    assert issubclass(error, errors.UsmdError)
    assert error.__doc__


@pytest.mark.parametrize("error", CLASSES)
def test_the_code_is_a_grpc_status_and_no_success(error):
    assert grpc.StatusCode[error.code] is not grpc.StatusCode.OK


@pytest.mark.parametrize("error", CLASSES)
def test_the_reason_is_a_failure_reason_of_the_wire(error):
    assert f"FAILURE_REASON_{error.reason}" in common_pb2.FailureReason.keys()  # noqa: SIM118 - an enum, no dict


def test_every_failure_reason_of_the_wire_has_an_error():
    on_the_wire = {name.removeprefix("FAILURE_REASON_") for name in common_pb2.FailureReason.keys()}  # noqa: SIM118
    assert on_the_wire - {error.reason for error in CLASSES} == {"UNSPECIFIED"}


def test_the_drawn_tree_is_the_real_one():
    drawn = {}
    parents = {}
    for line in errors.__doc__.splitlines():
        match = re.match(r"( {4}[\s\u2502\u251c\u2514\u2500]*)([A-Z]\w+)", line)
        if match:
            depth = len(match[1]) // 4
            parents[depth] = match[2]
            drawn[match[2]] = parents.get(depth - 1, "Exception")
    assert drawn == {error.__name__: error.__base__.__name__ for error in CLASSES}


def test_families_hold_what_ends_a_session_and_what_concerns_a_page():
    assert set(errors.SessionEnded.__subclasses__()) == {errors.UnknownSession, errors.SessionKilled, errors.Draining}
    assert {errors.OutOfMemory, errors.DataLoss, errors.SwapIOError} <= set(errors.PageUnavailable.__subclasses__())


def test_daemon_and_library_agree_on_what_may_be_tried_again():
    for error in CLASSES:
        own = getattr(lib_usm, error.__name__, None)
        assert own is None or own.retryable == error.retryable, error


def test_what_ends_a_run_is_no_error_that_a_handler_of_errors_takes():
    assert not issubclass(errors.EndsRun, Exception)

"""Every call of an operator that is more than a look is logged, with its caller, and its refusal too."""

import asyncio

import pytest

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.errors import NotFound
from usmd.server.audit import LOOKS, audited
from usmd.server.operators import Operator

SERVICE = pb.DESCRIPTOR.services_by_name["AdminService"]
METHODS = [method.name for method in SERVICE.methods]
STEERING = {
    "SetPolicy", "SetLimits", "SetUserLimits", "ClearHints", "RecordAccesses", "ShadowPolicies", "Validate", "Reload",
    "Drain", "AddSwapDevice", "RetireSwapDevice", "CancelSwapRetirement",
}  # fmt: skip


class Servicer:
    """Answers each call with its name, or raises `error`."""

    def __init__(self, error=None):
        self._error = error

    def __getattr__(self, name):
        async def call(request, context):
            if self._error is not None:
                raise self._error
            return name

        return call


def calls(error=None, operator=Operator(7, 1000)):  # noqa: B008 - it cannot change
    return audited(SERVICE, Servicer(error), lambda context: operator)


def test_a_password_in_a_url_is_not_logged(logged):
    request = pb.AddSwapDeviceRequest(device="redis:redis://swap:s3cret@far:8GiB")
    asyncio.run(calls().AddSwapDevice(request, None))
    (line,) = logged
    assert line["request"] == 'device: "redis:redis://...@far:8GiB"'


def test_looks_are_the_calls_that_only_read():
    """A new call is logged, until it stands in LOOKS and here."""
    assert set(METHODS) - LOOKS == STEERING
    assert set(METHODS) >= LOOKS


@pytest.mark.parametrize("name", METHODS)
def test_a_call_is_answered_as_before_and_logged_unless_it_is_a_look(name, logged):
    assert asyncio.run(getattr(calls(), name)(pb.DrainRequest(grace_seconds=2), None)) == name
    line = {
        "event": "operator_acted", "log_level": "info", "call": name, "pid": 7, "uid": 1000,
        "request": "grace_seconds: 2.0",
    }  # fmt: skip
    assert logged == ([] if name in LOOKS else [line])


def test_a_refused_call_is_logged_with_the_reason(logged):
    with pytest.raises(NotFound):
        asyncio.run(calls(NotFound("no process 5")).SetPolicy(pb.SetPolicyRequest(process_id=5, evict="lru"), None))
    (line,) = logged
    assert (line["event"], line["log_level"], line["call"], line["request"]) == (
        "operator_refused", "warning", "SetPolicy", 'process_id: 5 evict: "lru"',
    )  # fmt: skip
    assert (line["reason"], line["message"]) == ("NOT_FOUND", "no process 5")


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ZeroDivisionError()])
def test_a_call_that_breaks_off_may_have_done_something_and_is_logged(logged, error):
    with pytest.raises(type(error)):
        asyncio.run(calls(error).Drain(pb.DrainRequest(), None))
    assert [(each["event"], each["call"]) for each in logged] == [("operator_acted", "Drain")]


def test_a_long_request_is_cut_and_a_caller_that_came_by_another_way_has_no_number(logged):
    asyncio.run(calls(operator=None).SetPolicy(pb.SetPolicyRequest(evict="x" * 60_000), None))
    (line,) = logged
    assert (line["pid"], line["uid"]) == (None, None)
    assert len(line["request"]) < 1100

"""The error tree, and how the daemon's failures become errors."""

import builtins
import gc
import inspect
import re
import weakref

import grpc
import pytest

import lib_usm
from lib_usm import channel, errors
from usm_wire.pb.usm.v1 import client_pb2, common_pb2

REASONS = {
    "INVALID_ARGUMENT": lib_usm.InvalidArgument,
    "OUT_OF_RANGE": lib_usm.OutOfRange,
    "INVALID_HINT": lib_usm.InvalidHint,
    "UNKNOWN_SESSION": lib_usm.UnknownSession,
    "SESSION_KILLED": lib_usm.SessionKilled,
    "NOT_FOUND": lib_usm.NotFound,
    "OUT_OF_MEMORY": lib_usm.OutOfMemory,
    "LIMIT_EXCEEDED": lib_usm.LimitExceeded,
    "DATA_LOSS": lib_usm.DataLoss,
    "SWAP_IO": lib_usm.SwapIOError,
    "UNMAPPED": lib_usm.Unmapped,
    "DRAINING": lib_usm.Draining,
    "INTERNAL": lib_usm.InternalError,
}


def test_every_reason_of_the_wire_contract_has_a_class_of_its_own():
    named = {name.removeprefix("FAILURE_REASON_") for name, _ in common_pb2.FailureReason.items()} - {"UNSPECIFIED"}
    assert named == set(REASONS)
    assert len(set(REASONS.values())) == len(REASONS)


@pytest.fixture
def why_at_once(monkeypatch):
    """The fault stream of a session that is over has ended, or will not: the client does not wait to be told why."""
    monkeypatch.setattr(channel, "_WHY_TIMEOUT_SECONDS", 0.0)


@pytest.mark.parametrize("reason", REASONS)
def test_a_call_failed_for_a_reason_raises_its_class_with_the_daemons_text(daemon, client, wire, why_at_once, reason):
    daemon.refusals["MapRegion"] = wire.rich_status(grpc.StatusCode.ABORTED, reason, "what the daemon says")
    with pytest.raises(lib_usm.UsmError) as caught:
        client.mmap(10)
    assert type(caught.value) is REASONS[reason]
    assert str(caught.value) == "what the daemon says"


@pytest.mark.parametrize("reason", REASONS)
def test_a_fault_failed_for_a_reason_raises_its_class_with_text_and_page(daemon, client, wire, reason):
    region = client.mmap(64)
    daemon.answers = lambda fault: wire.failed(fault, reason, "what the daemon says")
    with pytest.raises(lib_usm.UsmError) as caught:
        client.fault(region, 32, 16)
    assert type(caught.value) is REASONS[reason]
    assert str(caught.value) == "what the daemon says"
    assert caught.value.page == 2


def test_a_reason_from_a_later_version_is_an_internal_error_with_its_text():
    failure = client_pb2.Failure(message="something new")
    failure.MergeFromString(b"\x08\xe7\x07")  # reason = 999
    error = errors.error_of_failure(failure)
    assert type(error) is lib_usm.InternalError
    assert str(error) == "something new"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, lib_usm.ConnectionLost),
        (grpc.StatusCode.UNAUTHENTICATED, lib_usm.UnknownSession),
        (grpc.StatusCode.NOT_FOUND, lib_usm.NotFound),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, lib_usm.LimitExceeded),
        (grpc.StatusCode.UNIMPLEMENTED, lib_usm.InternalError),
    ],
)
def test_a_call_failed_without_a_known_reason_goes_by_its_code(daemon, client, wire, why_at_once, code, kind):
    daemon.refusals["MapRegion"] = wire.rich_status(code, "FROM_THE_FUTURE", "text")
    with pytest.raises(lib_usm.UsmError) as caught:
        client.mmap(10)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"text (gRPC status {code.name})")
    assert ("connect again" in str(caught.value)) == (kind is lib_usm.ConnectionLost)


def test_a_failure_of_grpc_itself_or_of_another_service_goes_by_its_code(daemon, client, wire):
    plain = wire.plain_status(grpc.StatusCode.NOT_FOUND, "nowhere")
    contradiction = wire.contradicting_status(grpc.StatusCode.NOT_FOUND, "nowhere")
    for refusal in (plain, contradiction):
        daemon.refusals["MapRegion"] = refusal
        with pytest.raises(lib_usm.NotFound, match=r"^nowhere \(gRPC status NOT_FOUND\)$"):
            client.mmap(10)


def test_an_error_without_a_status_keeps_its_text():
    error = errors.error_of_call(grpc.RpcError("odd"))
    assert (type(error), str(error)) == (lib_usm.InternalError, "the call failed without a status: odd")


def test_all_errors_derive_from_usm_error_and_are_exported():
    classes = [item for _, item in inspect.getmembers(errors, inspect.isclass) if item.__module__ == errors.__name__]
    assert all(issubclass(item, lib_usm.UsmError) for item in classes)
    assert {item.__name__ for item in classes} <= set(lib_usm.__all__)


def test_a_copy_to_raise_keeps_kind_text_and_page():
    error = lib_usm.DataLoss("gone")
    error.page = 5
    copy = errors.again(error)
    assert copy is not error
    assert (type(copy), str(copy), copy.page) == (lib_usm.DataLoss, "gone", 5)


def test_the_tree_of_the_docstring_is_that_of_the_classes():
    # A line of it: the name at its depth, and the class of Python that it is too.
    lines = re.findall(r"^    ([│ ]*)[├└]── (\w+)(?: \((\w+)\))? {2,}\S", errors.__doc__, re.MULTILINE)
    parents = {0: lib_usm.UsmError}
    listed = {lib_usm.UsmError}
    for indent, name, other in lines:
        depth = len(indent) // 4
        item = getattr(errors, name)
        parent = parents[depth]
        assert item.__bases__ == (parent, *([getattr(builtins, other)] if other else [])), name
        parents[depth + 1] = item
        listed.add(item)
    classes = {item for _, item in inspect.getmembers(errors, inspect.isclass) if item.__module__ == errors.__name__}
    assert listed == classes


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        (lib_usm.OutOfMemory, MemoryError),
        (lib_usm.Thrashing, MemoryError),
        (lib_usm.LimitExceeded, MemoryError),
        (lib_usm.DaemonUnavailable, ConnectionError),
        (lib_usm.ConnectionLost, ConnectionError),
        (lib_usm.ClosedError, ValueError),
        (lib_usm.Unmapped, lib_usm.ClosedError),
        (lib_usm.InUse, BufferError),
    ],
)
def test_errors_are_what_python_calls_their_kind_too(kind, other):
    error = kind("text")
    assert isinstance(error, other)
    assert (str(error), error.args) == ("text", ("text",))
    assert (type(errors.again(error)), str(errors.again(error))) == (kind, "text")


@pytest.fixture
def no_collection():
    """Only the last reference frees an object."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Held:
    """What a caller of lib_usm has in its frame."""


@pytest.mark.parametrize("reason", ["OUT_OF_MEMORY", "DATA_LOSS"])
@pytest.mark.parametrize("use", ["fault", "read", "write", "ensure", "hint", "mmap", "fault_many", "wait"])
def test_an_error_that_was_caught_keeps_nothing_of_its_callers(daemon, client, wire, no_collection, use, reason):
    region = client.mmap(64)
    daemon.answers = lambda fault: wire.failed(fault, reason)
    refusal = wire.rich_status(grpc.StatusCode.ABORTED, reason, "no")
    daemon.refusals.update(dict.fromkeys(["HintRegion", "MapRegion"], refusal))
    uses = {
        "fault": lambda: client.fault(region, 0, 1),
        "read": lambda: region[0],
        "write": lambda: region.write(0, b"x"),
        "ensure": region.ensure,
        "hint": lambda: client.usm_hint(region, "PRIORITY=LOW"),
        "mmap": lambda: client.mmap(5),
        "fault_many": lambda: errors.again(client.fault_many([(region, 0, 1)])[0]),
        "wait": lambda: client.wait(77),
    }

    def call():
        held = Held()
        try:
            uses[use]()
        except lib_usm.UsmError:
            return weakref.ref(held)
        return weakref.ref(held)

    assert call()() is None


def everything():
    """All classes of errors."""
    found = [errors.UsmError]
    for each in found:
        found += each.__subclasses__()
    return found


def test_families_hold_what_ends_a_session_and_what_concerns_a_page_and_all_are_exported():
    names = {
        family: {each.__name__ for each in everything() if issubclass(each, family) and each is not family}
        for family in (lib_usm.SessionEnded, lib_usm.PageUnavailable)
    }
    assert names[lib_usm.SessionEnded] == {"Draining", "SessionKilled", "UnknownSession", "ConnectionLost"}
    assert names[lib_usm.PageUnavailable] == {"OutOfMemory", "Thrashing", "DataLoss", "SwapIOError"}
    assert {each.__name__ for each in everything() if each.__module__ == errors.__name__} <= set(lib_usm.__all__)


def test_an_error_says_whether_the_same_call_may_succeed_later():
    retryable = {each.__name__ for each in everything() if each.retryable}
    assert retryable == {"DaemonUnavailable", "OutOfMemory", "SwapIOError", "Thrashing", "WaitTimeout"}


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (lib_usm.OutOfMemory, MemoryError), (lib_usm.SwapIOError, OSError), (lib_usm.ConnectionLost, ConnectionError),
        (lib_usm.DaemonUnavailable, ConnectionError), (lib_usm.WaitTimeout, TimeoutError),
    ],
)  # fmt: skip
def test_an_error_of_a_family_is_still_what_python_calls_its_kind(error, builtin):
    with pytest.raises(builtin):
        raise error("why")

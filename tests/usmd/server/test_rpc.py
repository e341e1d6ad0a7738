"""How calls reach methods: errors with their cause, bytes that are no message, and defects that tell nothing."""

import asyncio
import threading

import grpc
import grpc.aio
import pytest

from tests.support.raw_client import FaultStream, open_channel, refused
from usm_wire.pb.usm.v1 import admin_pb2, admin_pb2_grpc, client_pb2
from usmd.errors import InvalidArgument, LimitExceeded
from usmd.server.rpc import (
    LONG_MESSAGE_BYTES,
    MAX_LONG_FIELDS,
    MAX_MESSAGE_BYTES,
    Malformed,
    check_message,
    safe_parser,
    service_handler,
)

SECRET = "swordfish"


def defect_in(method):
    return {"event": "defect", "log_level": "error", "exc_info": True, "method": method}


class Admin:
    """Methods that end in every way; the rest of the service is never called."""

    error = LimitExceeded("too many")

    def __getattr__(self, name):
        async def method(request, context):
            raise AssertionError(f"{name} was called")

        return method

    async def GetStatus(self, request, context):  # noqa: N802
        raise RuntimeError(SECRET)

    async def ListProcesses(self, request, context):  # noqa: N802
        raise self.error

    async def ListRegions(self, request, context):  # noqa: N802
        return admin_pb2.ListRegionsResponse(next_page_token=request.page_token)

    async def WatchEvents(self, request, context):  # noqa: N802
        await context.write(admin_pb2.Event(kind="first"))
        raise KeyError(SECRET)


class Client(Admin):
    async def StreamFaults(self, context):  # noqa: N802
        await context.read()
        raise ValueError(SECRET)


@pytest.fixture
def ask(tmp_path, logged):
    """Serves Admin and Client for the time of `ask(conversation)`, which gets a channel in a thread of its own."""

    def ask(conversation, servicer=None):
        async def main():
            server = grpc.aio.server()
            services = (
                (admin_pb2.DESCRIPTOR.services_by_name["AdminService"], servicer or Admin()),
                (client_pb2.DESCRIPTOR.services_by_name["ClientService"], Client()),
            )
            server.add_generic_rpc_handlers([service_handler(*service) for service in services])
            server.add_insecure_port(f"unix:{tmp_path}/s")
            await server.start()
            channel = open_channel(f"unix:{tmp_path}/s")
            try:
                return await asyncio.to_thread(conversation, channel)
            finally:
                channel.close()
                await server.stop(0)

        return asyncio.run(main())

    return ask


def test_a_defect_is_internal_and_tells_the_client_nothing(ask, logged):
    answer = ask(
        lambda channel: refused(admin_pb2_grpc.AdminServiceStub(channel).GetStatus, admin_pb2.GetStatusRequest())
    )
    assert answer == ("INTERNAL", "INTERNAL", "a defect of usmd; its log has the details")
    assert logged == [defect_in("usm.v1.AdminService.GetStatus")]


def test_a_defect_in_a_stream_of_answers_tells_nothing_either(ask, logged):
    def watch(channel):
        events = admin_pb2_grpc.AdminServiceStub(channel).WatchEvents(admin_pb2.WatchEventsRequest())
        assert next(events).kind == "first"
        return refused(next, events)

    assert ask(watch) == ("INTERNAL", "INTERNAL", "a defect of usmd; its log has the details")
    assert logged == [defect_in("usm.v1.AdminService.WatchEvents")]


def test_a_defect_in_a_fault_stream_tells_nothing_either(ask, logged):
    def stream(channel):
        faults = FaultStream(channel, None)
        faults.send()
        ended = faults.ends_with()
        faults.close()
        return ended

    assert ask(stream) == ("INTERNAL", "INTERNAL", "a defect of usmd; its log has the details")
    assert logged == [defect_in("usm.v1.ClientService.StreamFaults")]


def test_a_message_to_a_client_that_has_gone_is_no_defect(ask, logged):
    written, ended = threading.Event(), threading.Event()

    class Late(Admin):
        async def WatchEvents(self, request, context):  # noqa: N802
            await context.write(admin_pb2.Event(kind="first"))
            written.set()  # the client may have read the message before
            try:
                await asyncio.Event().wait()  # waits: until it is cancelled
            except asyncio.CancelledError:
                with pytest.raises(grpc.aio.InternalError):
                    await context.write(admin_pb2.Event(kind="second"))
                await context.write(admin_pb2.Event(kind="third"))
            finally:
                ended.set()

    def leave(channel):
        events = admin_pb2_grpc.AdminServiceStub(channel).WatchEvents(admin_pb2.WatchEventsRequest())
        assert next(events).kind == "first"
        assert written.wait(90)
        events.cancel()
        return ended.wait(90)

    assert ask(leave, Late())
    assert logged == []


def test_an_error_on_purpose_has_its_status_reason_and_text_and_is_no_defect(ask, logged):
    answer = ask(
        lambda channel: refused(
            admin_pb2_grpc.AdminServiceStub(channel).ListProcesses, admin_pb2.ListProcessesRequest()
        )
    )
    assert answer == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", "too many")
    assert logged == []


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_a_long_error_arrives_with_its_beginning_and_its_end(ask, letter):
    servicer = Admin()
    servicer.error = InvalidArgument(f"begin {letter * 100_000} end")
    status, reason, text = ask(
        lambda channel: refused(
            admin_pb2_grpc.AdminServiceStub(channel).ListProcesses, admin_pb2.ListProcessesRequest()
        ),
        servicer,
    )
    assert (status, reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert (text[:6], text[-4:]) == ("begin ", " end")
    assert len(text.encode()) <= MAX_MESSAGE_BYTES + 5


def test_an_answer_comes_back(ask):
    request = admin_pb2.ListRegionsRequest(page_token="7")
    answer = ask(lambda channel: admin_pb2_grpc.AdminServiceStub(channel).ListRegions(request, timeout=90))
    assert answer.next_page_token == "7"


def test_a_method_that_does_not_exist_is_unimplemented(ask):
    answer = ask(lambda channel: refused(channel.unary_unary("/usm.v1.AdminService/Nothing"), b"", timeout=90))
    assert answer[0] == "UNIMPLEMENTED"


def test_bytes_that_are_no_message_become_an_error_that_names_the_message():
    parse = safe_parser(admin_pb2.GetMemoryMapRequest.FromString, "GetMemoryMapRequest", limit=10)
    assert parse(b"\x08\x05").cells == 5
    broken = parse(b"\xff")
    assert isinstance(broken, Malformed)
    with pytest.raises(InvalidArgument, match=r"^the message is not a valid GetMemoryMapRequest$"):
        check_message(broken)
    check_message(parse(b""))


def test_a_message_over_its_limit_is_refused_before_it_is_parsed():
    parse = safe_parser(admin_pb2.GetMemoryMapRequest.FromString, "GetMemoryMapRequest", limit=10)
    with pytest.raises(InvalidArgument, match=r"^a GetMemoryMapRequest of 11 bytes; allowed are 10$"):
        check_message(parse(b"\xff" * 11))


@pytest.mark.parametrize("field", [b"\x0a\x00", b"\x08\x80\x01", b"\x09" + bytes(8), b"\x0d" + bytes(4)])
def test_a_long_message_has_so_many_fields_and_no_more(field):
    seen = []
    parse = safe_parser(seen.append, "Request", limit=1 << 20)
    long = b"\x12\x80\x80\x20" + bytes(1 << 19)
    parse(field * (MAX_LONG_FIELDS - 1) + long)
    parse(field * (LONG_MESSAGE_BYTES // len(field)))  # not a long one
    assert len(seen) == 2
    refused_ = parse(long + field * MAX_LONG_FIELDS)
    assert len(seen) == 2
    with pytest.raises(InvalidArgument, match=r"^a Request of \d+ bytes, which may have no more than 8192 fields$"):
        check_message(refused_)


@pytest.mark.parametrize(
    "data", [b"\x0b", b"\x0c", b"\xff" * 20, b"\x12\xff\xff\xff\xff\x0f", b"\x12", b"\x08", b"\x09\0"]
)
def test_a_long_message_that_is_none_is_refused(data):
    parse = safe_parser(client_pb2.StreamFaultsRequest.FromString, "StreamFaultsRequest", limit=1 << 20)
    assert isinstance(parse(b"\x12\x80\x80\x20" + bytes(1 << 19) + data), Malformed)

"""Clients on bare stubs, for requests that lib_usm never sends: forged tokens, odd numbers, broken bytes."""

from __future__ import annotations

import queue
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.support.daemon import RunningDaemon
from tests.support.waiting import wait_equal
from usm_wire.pb.usm.v1 import admin_pb2_grpc, client_pb2, client_pb2_grpc
from usmd.ctl.targets import Place

TOKEN_KEY = "usm-session-token"
SECONDS = 60.0
"""Deadline of every call, so that a test of a daemon that hangs fails."""


def open_channel(address: str) -> grpc.Channel:
    """A channel with a connection of its own."""
    return grpc.insecure_channel(
        address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    )


def cause(error: grpc.RpcError) -> tuple[str, str]:
    """Status and reason of a failed call, by name. Without an ErrorInfo the reason is empty."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    if status is not None and status.details and status.details[0].Unpack(info):
        assert info.domain == "usmd"
    return error.code().name, info.reason


def refused(call, *arguments, **keywords) -> tuple[str, str, str]:
    """(status, reason, text) of a call that must fail."""
    try:
        answer = call(*arguments, **keywords)
    except grpc.RpcError as error:
        return (*cause(error), error.details())
    raise AssertionError(f"the call was answered: {answer!r}")


class FaultStream:
    """A fault stream of a session: `send` sends batches, `outcomes` receives."""

    def __init__(self, channel: grpc.Channel, token: str | None) -> None:
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        open_stream = channel.stream_stream(
            "/usm.v1.ClientService/StreamFaults",
            request_serializer=None,
            response_deserializer=client_pb2.StreamFaultsResponse.FromString,
        )
        metadata = () if token is None else ((TOKEN_KEY, token),)
        self.call = open_stream(iter(self._outgoing.get, None), metadata=metadata, timeout=2 * SECONDS)

    def send_bytes(self, data: bytes) -> None:
        self._outgoing.put(data)

    def send(self, *faults: tuple[int, int, int, int]) -> None:
        """Send one batch of (fault_id, region_id, first_page, page_count)."""
        message = client_pb2.StreamFaultsRequest()
        for fault_id, region_id, first_page, page_count in faults:
            message.faults.add(fault_id=fault_id, region_id=region_id, first_page=first_page, page_count=page_count)
        self.send_bytes(message.SerializeToString())

    def send_accesses(self, *accesses: client_pb2.Access, faults: tuple[client_pb2.Fault, ...] = ()) -> None:
        """Send one message with these faults and then these accesses."""
        self.send_bytes(client_pb2.StreamFaultsRequest(faults=faults, accesses=accesses).SerializeToString())

    def answers(self, count: int) -> list[client_pb2.AccessOutcome]:
        """At least `count` next answers of accesses; drops the outcomes before them."""
        found: list[client_pb2.AccessOutcome] = []
        while len(found) < count:
            found.extend(next(self.call).accessed)
        return found

    def outcomes(self, count: int) -> list[client_pb2.Outcome]:
        """At least `count` next outcomes."""
        found: list[client_pb2.Outcome] = []
        while len(found) < count:
            found.extend(next(self.call).outcomes)
        return found

    def fault(self, region_id: int, first_page: int, page_count: int = 1) -> client_pb2.Outcome:
        """The final outcome of one fault; no other may be under way."""
        self.send((1, region_id, first_page, page_count))
        outcome = self.outcomes(1)[-1]
        return outcome if outcome.WhichOneof("outcome") != "yielded" else self.outcomes(1)[-1]

    def ends_with(self) -> tuple[str, str, str]:
        """(status, reason, text) of the end of the stream; drops the outcomes before it."""
        try:
            for _ in self.call:
                pass
        except grpc.RpcError as error:
            return (*cause(error), error.details())
        return self.call.code().name, "", ""

    def close(self) -> None:
        self._outgoing.put(None)


class RawClient:
    """A session. A test may set another `token`."""

    def __init__(self, address: str, name: str = "app", ticket: str = "") -> None:
        self.channel = open_channel(address)
        self.stub = client_pb2_grpc.ClientServiceStub(self.channel)
        self.attached = self.stub.Attach(client_pb2.AttachRequest(name=name, ticket=ticket), timeout=SECONDS)
        self.token: str | None = self.attached.session_token
        self._stream: FaultStream | None = None

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, like a client that dies."""
        if self._stream is not None:
            self._stream.close()
        self.channel.close()

    def call(self, method: str, request: Any) -> Any:
        metadata = () if self.token is None else ((TOKEN_KEY, self.token),)
        return getattr(self.stub, method)(request, metadata=metadata, timeout=SECONDS)

    def refused(self, method: str, request: Any) -> tuple[str, str, str]:
        """(status, reason, text) of a call that must fail."""
        return refused(self.call, method, request)

    def call_bytes(self, method: str, data: bytes) -> bytes:
        """Call a unary method of the client service with these bytes as its message."""
        work = self.channel.unary_unary(f"/usm.v1.ClientService/{method}")
        metadata = () if self.token is None else ((TOKEN_KEY, self.token),)
        return work(data, metadata=metadata, timeout=SECONDS)

    def stream(self) -> FaultStream:
        """The session's first fault stream; opens it at the first call."""
        if self._stream is None:
            self._stream = FaultStream(self.channel, self.token)
        return self._stream

    def further_stream(self, channel: grpc.Channel | None = None) -> FaultStream:
        """Open another fault stream, and wait until it answers. The first stream must be open."""
        stream = FaultStream(channel or self.channel, self.token)
        stream.send_accesses(client_pb2.Access())
        stream.answers(1)
        return stream

    def map(self, length: int, name: str = "") -> int:
        return self.call("MapRegion", client_pb2.MapRegionRequest(length=length, name=name)).region_id

    def load(self, region: int, offset: int, length: int) -> Any:
        return self.call("Load", client_pb2.LoadRequest(region_id=region, offset=offset, length=length))

    def store(self, region: int, offset: int, data: bytes) -> Any:
        return self.call("Store", client_pb2.StoreRequest(region_id=region, offset=offset, data=data))

    def hint(self, region: int, text: str, offset: int = 0, length: int = 0) -> Any:
        request = client_pb2.HintRegionRequest(region_id=region, offset=offset, length=length, text=text)
        return self.call("HintRegion", request)

    def evict(self, daemon: RunningDaemon, region: int, first: int, pages: int = 1, text: str = "DONTNEED") -> None:
        """Evict pages by a hint, and wait until they are in swap only, or absent if they are zero."""
        page_size = self.attached.page_size
        self.hint(region, text, first * page_size, pages * page_size)

        def present() -> dict[int, str]:
            found = {
                page: daemon.admin.explain(self.attached.process_id, Place(region, "", page * page_size)).state
                for page in range(first, first + pages)
            }
            return {page: state for page, state in found.items() if state not in ("SWAPPED", "ABSENT")}

        wait_equal(present, {}, f"pages {first} to {first + pages - 1} of region {region} are out of memory")

    def put(self, region: int, page: int, data: bytes) -> None:
        """Store at the start of a page, faulting as often as needed."""
        page_size = self.attached.page_size
        while self.store(region, page * page_size, data).absent_pages:
            outcome = self.stream().fault(region, page)
            assert outcome.HasField("allocated"), outcome

    def get(self, region: int, page: int, length: int) -> bytes:
        """Load from the start of a page, faulting as often as needed."""
        page_size = self.attached.page_size
        while (answer := self.load(region, page * page_size, length)).absent_pages:
            outcome = self.stream().fault(region, page)
            assert outcome.HasField("allocated"), outcome
        return answer.data


def admin_stub(channel: grpc.Channel) -> admin_pb2_grpc.AdminServiceStub:
    return admin_pb2_grpc.AdminServiceStub(channel)

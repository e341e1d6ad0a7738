"""The gRPC channel of one session: attach, calls with the session token, and their errors."""

from __future__ import annotations

from typing import TypeVar

import grpc
from google.protobuf.message import Message

from lib_usm.address import SocketAddress
from lib_usm.errors import (
    ClosedError,
    ConnectionLost,
    DaemonUnavailable,
    InternalError,
    SessionKilled,
    UnknownSession,
    UsmError,
    again,
    error_of_call,
)
from lib_usm.session_stream import SessionStream
from lib_usm.user_warnings import warn_over_budget
from usm_wire.conventions import OVER_BUDGET_KEY, TICKET_KEY, TOKEN_KEY
from usm_wire.pb.usm.v1 import client_pb2, client_pb2_grpc

_ATTACH_TIMEOUT_SECONDS = 2.0
# A call may learn that the session has ended shortly before the fault stream learns the reason.
_WHY_TIMEOUT_SECONDS = 1.0
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment must not see local sockets
    ("grpc.enable_retries", 0),  # a store must not be sent twice, and a broken session does not return
    ("grpc.max_receive_message_length", -1),  # the limits that apply are in AttachResponse
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for each client
)

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class SessionChannel:
    """A channel to the daemon at `address`; `attach` must be the first call."""

    def __init__(self, address: SocketAddress) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(address.grpc_target, options=_OPTIONS)
        self.metadata: tuple[tuple[str, str], ...] = ()
        """Metadata of every call of the session."""
        self._closed = False
        self._stream: SessionStream | None = None
        self.killed: SessionKilled | None = None
        """Why the session ended, if a call reported it; the fault stream may not have reported it yet."""
        self.stub = client_pb2_grpc.ClientServiceStub(self._channel)

    def attach(self, name: str, ticket: str, alloc: str = "", evict: str = "") -> client_pb2.AttachResponse:
        """Begin a session, with the policies that are chosen if these are not empty.

        Raises DaemonUnavailable after at most 2 s, else the error that the daemon answers.
        """
        request = client_pb2.AttachRequest(name=name, ticket=ticket, alloc=alloc, evict=evict)
        if ticket:
            self.metadata = ((TICKET_KEY, ticket),)  # with a ticket usmd reads the request at once
        try:
            answer = self.call(self.stub.Attach, request, timeout=_ATTACH_TIMEOUT_SECONDS)
        except InternalError as error:
            if "UNIMPLEMENTED" in str(error):
                raise DaemonUnavailable(
                    f"{self._address} is not usmd's client socket (perhaps its admin socket); give the one that `usmd "
                    "serve` names as socket"
                ) from None
            raise
        except ConnectionLost as error:
            raise DaemonUnavailable(
                f"no daemon answers at {self._address}: what listens there is not usmd, or too busy to answer within "
                f"{_ATTACH_TIMEOUT_SECONDS:g} s ({str(error).partition(' (gRPC status')[0]})"
            ) from None
        if not (answer.page_size and answer.max_transfer_bytes and answer.max_fault_pages and answer.max_batch_faults):
            raise InternalError(f"the daemon at {self._address} gave a session with a limit of 0: {answer}")
        self.metadata = ((TOKEN_KEY, answer.session_token),)
        return answer

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        timeout: float | None = None,
    ) -> ResponseT:
        """Call `method` of `self.stub`; `timeout` in seconds. Raises the UsmError of its failure."""
        try:
            answer, call = method.with_call(request, timeout=timeout, metadata=self.metadata)
        except (grpc.RpcError, ValueError) as error:
            # gRPC raises ValueError on a closed channel; another thread may close it at any time.
            if self._closed:
                raise ClosedError(f"the client of {self._address} was closed") from None
            if isinstance(error, ValueError):
                raise
            failure = error_of_call(error)
            raise self.explained(failure) from None
        for key, value in call.trailing_metadata() or ():
            if key == OVER_BUDGET_KEY and isinstance(value, str) and value.isdecimal():
                warn_over_budget(int(value))
        return answer

    def open_stream(self) -> SessionStream:
        """Open the session's own stream; the session ends with it."""
        self._stream = SessionStream(lambda requests: self.stub.StreamFaults(requests, metadata=self.metadata))
        return self._stream

    def explained(self, failure: UsmError) -> UsmError:
        """The error to raise for a failed call or stream: the session's end, if that caused the failure."""
        if self._stream is not None and isinstance(failure, (ConnectionLost, DaemonUnavailable, UnknownSession)):
            # The stream knows why the session ended; the failure only says that it did.
            failure = self._stream.why(_WHY_TIMEOUT_SECONDS) or failure
        if isinstance(failure, SessionKilled):
            self.killed = SessionKilled(*failure.args)
        return again(failure)

    def close(self) -> None:
        """End all calls in progress and close the connection."""
        self._closed = True
        self._channel.close()

"""Passes gRPC calls to methods and errors to clients, without the daemon's internals.

Handlers are registered here rather than by generated code, because a message that cannot be parsed must become
INVALID_ARGUMENT without the parser's text, and every UsmdError must carry its reason to the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from google.protobuf import any_pb2, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from usm_wire.conventions import ERROR_DOMAIN
from usmd import log
from usmd.errors import InvalidArgument, UsmdError
from usmd.server.admission import Context
from usmd.server.running_calls import RunningCalls

MAX_MESSAGE_BYTES: Final = 1000
"""Bytes of an error's text, which may quote what the client sent. It is in the trailers twice, once with up to three
characters a byte, and gRPC refuses more than 8 KiB of trailers."""


MAX_REQUEST_BYTES: Final = 64 << 10
"""Bytes of a message, unless its method has another limit. Parsing 4 MiB of map entries takes the loop a second."""
LONG_MESSAGE_BYTES: Final = 256 << 10
"""Beyond this, fields are counted before a message is parsed: a valid long message has long fields, not many."""
MAX_LONG_FIELDS: Final = 8192
"""Fields of a long message. Without such a limit 2 MiB of empty fields take 0.1 s to parse and 100 MiB to hold."""


class Malformed:
    """Stands for a message that cannot be parsed, or is too long; `why` is for the sender."""

    def __init__(self, why: str) -> None:
        self.why = why


def safe_parser(
    parse: Callable[[bytes], Message], name: str, limit: int = MAX_REQUEST_BYTES
) -> Callable[[bytes], Message | Malformed]:
    """A deserializer for messages called `name` of at most `limit` bytes, which never raises."""

    def deserialize(data: bytes) -> Message | Malformed:
        if len(data) > limit:
            return Malformed(f"a {name} of {len(data)} bytes; allowed are {limit}")
        if len(data) > LONG_MESSAGE_BYTES and not _few_fields(data):
            return Malformed(f"a {name} of {len(data)} bytes, which may have no more than {MAX_LONG_FIELDS} fields")
        try:
            return parse(data)
        except DecodeError:
            return Malformed(f"the message is not a valid {name}")

    return deserialize


def _few_fields(data: bytes) -> bool:
    """Whether a message seems to have at most MAX_LONG_FIELDS fields of its own, none of them a group."""
    at = 0
    for _ in range(MAX_LONG_FIELDS):
        if at >= len(data):
            return True
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 2:
                length, at = _varint(data, at)
                at += length
            case 5:
                at += 4
            case _:
                return False
    return at >= len(data)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends. The parser refuses one that is cut off or too long."""
    value = 0
    for shift, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    return value, at + 10


def check_message(message: object) -> None:
    """Raise InvalidArgument for a message that could not be parsed."""
    if isinstance(message, Malformed):
        raise InvalidArgument(message.why)


async def abort(context: Context, error: UsmdError) -> NoReturn:
    """End a call with an error's status and its reason."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN))
    code: grpc.StatusCode = getattr(grpc.StatusCode, error.code)
    status = rpc_status.to_status(status_pb2.Status(code=code.value[0], message=_short(str(error)), details=[detail]))
    await context.abort(status.code, status.details, status.trailing_metadata)


def _short(text: str) -> str:
    """The text, or its beginning and its end if it is too long."""
    data = text.encode(errors="replace")
    if len(data) <= MAX_MESSAGE_BYTES:
        return text
    half = MAX_MESSAGE_BYTES // 2
    return f"{data[:half].decode(errors='ignore')} ... {data[-half:].decode(errors='ignore')}"


Read = Callable[[Context], Awaitable[object]]


def service_handler(
    descriptor: ServiceDescriptor,
    servicer: object,
    limits: Mapping[str, int] | None = None,
    reads: Mapping[str, Read] | None = None,
    running: RunningCalls | None = None,
) -> grpc.GenericRpcHandler:
    """Handlers for all methods of a service, found on `servicer` by the method's name.

    `limits`: bytes of a request message by method, if not MAX_REQUEST_BYTES. `reads`: by method, what reads its single
    request, which gRPC does not read before; "" for all methods that are not named. `running` is told of each call.

    A method is a coroutine. It gets (request, context) and returns its response. A stream of requests it reads by
    `context.read()`, and gets (context) alone; a stream of responses it writes by `context.write()`.
    """
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in descriptor.methods:
        work: Callable[..., Awaitable[Any]] = getattr(servicer, method.name)
        limit = (limits or {}).get(method.name, MAX_REQUEST_BYTES)
        parse = safe_parser(
            message_factory.GetMessageClass(method.input_type).FromString, method.input_type.name, limit
        )
        read = None if reads is None else reads.get(method.name) or reads[""]
        work = work if read is None or method.client_streaming else _reading(read, work)
        call = _guarded(method, work, running)
        if method.client_streaming:
            handlers[method.name] = grpc.stream_stream_rpc_method_handler(call, parse, _serialize)
        elif read is not None:
            # Declared as a stream of requests, the same on the wire: else gRPC would take in the message at once.
            handler = (
                grpc.stream_stream_rpc_method_handler
                if method.server_streaming
                else grpc.stream_unary_rpc_method_handler
            )
            handlers[method.name] = handler(call, parse, _serialize)
        elif method.server_streaming:
            handlers[method.name] = grpc.unary_stream_rpc_method_handler(call, parse, _serialize)
        else:
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(call, parse, _serialize)
    return grpc.method_handlers_generic_handler(descriptor.full_name, handlers)


def _reading(read: Read, work: Callable[..., Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
    """The method, with its request read by `read` first."""

    async def call(_: object, context: Context) -> object:
        request = await read(context)
        check_message(request)
        return await work(request, context)

    return call


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _guarded(
    method: MethodDescriptor, work: Callable[..., Awaitable[Any]], running: RunningCalls | None
) -> Callable[[Any, Context], Awaitable[Any]]:
    """The method; a UsmdError becomes the call's status, any other error INTERNAL with its details in the log alone."""

    async def call(request: object, context: Context) -> object:
        if running is not None:
            running.began(context)
        try:
            if method.client_streaming:
                return await work(context)
            check_message(request)
            return await work(request, context)
        except grpc.aio.InternalError:
            return None  # a message could not be written because the client is gone
        except UsmdError as error:
            await abort(context, error)
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception:  # noqa: BLE001 - logged with its traceback, and the call fails
            log.event("defect", exc_info=True, method=method.full_name)
            await abort(context, UsmdError("a defect of usmd; its log has the details"))

    return call

"""Every error that lib_usm raises on purpose, as one tree, and the conversion of the daemon's failures to them.

    UsmError
    ├── InvalidArgument (ValueError)   a value outside what is allowed
    │   ├── OutOfRange (IndexError)    an offset or length outside its region
    │   ├── WrongType (TypeError)      a value of a type that makes no sense
    │   └── InvalidHint                unknown key, invalid value, duplicate key, too long
    ├── NotCopyable (TypeError)        a client or a region cannot be copied or pickled
    ├── NotFound (LookupError)         no such region of this client
    ├── UnknownToken (LookupError)     no yielded fault has this token
    ├── NotRunning                     no LocalManager runs the uThread
    ├── Deadlock                       all uThreads wait for each other
    ├── WaitTimeout (TimeoutError)     the fault is still being served; wait again with the same token
    ├── PageUnavailable                a page cannot be brought in; the session and other pages are not affected
    │   ├── OutOfMemory (MemoryError)  no frame, and the oom policy refused
    │   │   └── Thrashing              a page was evicted again and again before its use
    │   ├── DataLoss                   the page's bytes in swap are damaged; no bytes are returned in their place
    │   └── SwapIOError (OSError)      a swap device cannot be read or written, or does not answer in time
    ├── LimitExceeded (MemoryError)    a limit of the daemon, or of this process
    ├── ClosedError (ValueError)       the client or the region was closed
    │   └── Unmapped                   the region was closed while a fault waited
    ├── NoBuffer (BufferError)         the region is not mapped into this process
    ├── InUse (BufferError)            arrays or views of the region's memory are in use
    ├── ForkedChild                    the client belongs to the parent process
    ├── DaemonUnavailable (ConnectionError)   no daemon answers at the address, or it refuses this user
    ├── SessionEnded                   the session and its regions are gone: connect again
    │   ├── Draining                   the daemon is shutting down and takes no new work
    │   ├── SessionKilled              the daemon ended the session; the message says why
    │   ├── UnknownSession             the daemon does not know the session, or no longer
    │   └── ConnectionLost (ConnectionError)  the session ended because the connection broke
    └── InternalError                  a defect of the daemon, or the server is not usmd

SessionEnded and PageUnavailable are families to catch. `retryable` of a class is true if the same call may succeed
later without a change by the caller.
"""

from __future__ import annotations

from typing import ClassVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from usm_wire.conventions import ERROR_DOMAIN, REASON_PREFIX
from usm_wire.pb.usm.v1 import client_pb2, common_pb2


class UsmError(Exception):
    """Base of all errors of lib_usm. The message says what the reader can do."""

    retryable: ClassVar[bool] = False
    """True if the same call may succeed later without a change by the caller."""

    page: int | None = None
    """The page that failed, counted from the start of its region; None if the error is not about one page."""


class InvalidArgument(UsmError, ValueError):
    """A value outside what is allowed."""


class OutOfRange(InvalidArgument, IndexError):
    """An offset or a length outside its region."""


class WrongType(InvalidArgument, TypeError):
    """A value of a type that makes no sense: a float as an offset, a number or text as data."""


class InvalidHint(InvalidArgument):
    """A hint with an unknown key, an invalid value, a duplicate key, or too much text."""


class NotCopyable(UsmError, TypeError):
    """A client or a region cannot be copied or pickled: the copy would be a second owner."""


class NotFound(UsmError, LookupError):
    """No such region of this client. The error does not say whether another client has it."""


class UnknownToken(UsmError, LookupError):
    """No yielded fault has this token, or its completion was taken already."""


class WaitTimeout(UsmError, TimeoutError):
    """The yielded fault was not completed in time; its token is still valid."""

    retryable = True


class NotRunning(UsmError):
    """The call needs a running LocalManager, and there is none."""


class Deadlock(UsmError):
    """All remaining uThreads wait for each other; the message names them and what they wait for."""


class PageUnavailable(UsmError):
    """A page cannot be brought in. The session and all other pages are not affected."""


class OutOfMemory(PageUnavailable, MemoryError):
    """No frame could be freed, and the oom policy refused."""

    retryable = True


class Thrashing(OutOfMemory):
    """A page was evicted again and again between its fault and its use."""


class LimitExceeded(UsmError, MemoryError):
    """A limit of the daemon, or of this process, is reached. The message names it as `ulimit` or `sysctl` do."""


class DataLoss(PageUnavailable):
    """The bytes of a swapped page do not match their checksum; no bytes are returned in their place."""


class SwapIOError(PageUnavailable, OSError):
    """A swap device cannot be read or written, or did not answer in time; a new attempt may succeed."""

    retryable = True


class ClosedError(UsmError, ValueError):
    """The client or the region is closed; a ValueError, as for a closed file or mmap."""


class Unmapped(ClosedError):
    """The region was closed while a fault waited for one of its pages."""


class NoBuffer(UsmError, BufferError):
    """The region is not mapped into this process: its bytes are read and written by calls. The message says why."""


class InUse(UsmError, BufferError):
    """The region cannot be closed, because arrays or memoryviews of its memory are in use."""


class ForkedChild(UsmError):
    """The client was made before fork() and belongs to the parent process."""


class DaemonUnavailable(UsmError, ConnectionError):
    """No daemon answers at the address, or it refuses this user."""

    retryable = True


class SessionEnded(UsmError):
    """The session is gone, and so are its regions; a new client may connect."""


class Draining(SessionEnded):
    """The daemon is shutting down and takes no new work."""


class SessionKilled(SessionEnded):
    """The daemon ended the session; the message says why."""


class UnknownSession(SessionEnded):
    """The daemon does not know the session, or no longer."""


class ConnectionLost(SessionEnded, ConnectionError):
    """The connection to the daemon broke, which ended the session and its regions."""


class InternalError(UsmError):
    """A defect of the daemon (its log has the details), or an answer that usmd never gives."""


_BY_REASON: dict[str, type[UsmError]] = {
    "INVALID_ARGUMENT": InvalidArgument,
    "OUT_OF_RANGE": OutOfRange,
    "INVALID_HINT": InvalidHint,
    "UNKNOWN_SESSION": UnknownSession,
    "SESSION_KILLED": SessionKilled,
    "NOT_FOUND": NotFound,
    "OUT_OF_MEMORY": OutOfMemory,
    "LIMIT_EXCEEDED": LimitExceeded,
    "DATA_LOSS": DataLoss,
    "SWAP_IO": SwapIOError,
    "UNMAPPED": Unmapped,
    "DRAINING": Draining,
    "INTERNAL": InternalError,
}

# For failures that gRPC itself reports (no ErrorInfo): the connection, a deadline, a message over a limit.
_BY_CODE: dict[grpc.StatusCode, type[UsmError]] = {
    grpc.StatusCode.UNAVAILABLE: ConnectionLost,
    grpc.StatusCode.CANCELLED: ConnectionLost,
    grpc.StatusCode.DEADLINE_EXCEEDED: ConnectionLost,
    grpc.StatusCode.UNAUTHENTICATED: UnknownSession,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceeded,
    grpc.StatusCode.DATA_LOSS: DataLoss,
}


def error_of_call(call: grpc.RpcError | grpc.Call) -> UsmError:
    """The error for a failed or ended call: by the daemon's reason, else by the gRPC code."""
    if not isinstance(call, grpc.Call):
        return InternalError(f"the call failed without a status: {call}")
    try:
        status = rpc_status.from_call(call)
    except ValueError:
        # The rich status contradicts the plain one; use the plain one alone.
        status = None
    return error_of_status(call.code(), call.details() or "", status)


def error_of_status(code: grpc.StatusCode, text: str, status: status_pb2.Status | None) -> UsmError:
    """The error for the end of a call: by the daemon's reason in the rich status, else by the gRPC code."""
    reason = _reason_of(status)
    if reason in _BY_REASON:
        return _BY_REASON[reason](text)
    kind = _BY_CODE.get(code, InternalError)
    advice = "; the daemon or the connection is gone, and the session's regions with it: connect again"
    return kind(f"{text or 'no details'} (gRPC status {code.name}){advice if kind is ConnectionLost else ''}")


def error_of_failure(failure: client_pb2.Failure) -> UsmError:
    """The error for a failed fault; its `page` is the page that failed."""
    known = failure.reason in common_pb2.FailureReason.values()
    reason = common_pb2.FailureReason.Name(failure.reason).removeprefix(REASON_PREFIX) if known else ""
    error = _BY_REASON.get(reason, InternalError)(failure.message)
    error.page = failure.page
    return error


def error_of_reply(reply: client_pb2.MemoryReply) -> UsmError:
    """The error for a refusal on the memory socket."""
    known = reply.reason in common_pb2.FailureReason.values()
    reason = common_pb2.FailureReason.Name(reply.reason).removeprefix(REASON_PREFIX) if known else ""
    return _BY_REASON.get(reason, InternalError)(reply.message)


def again(error: UsmError) -> UsmError:
    """A copy of an error that a variable keeps, to be raised in its place.

    If several threads raised one instance, it would collect all their tracebacks. And if a frame in its traceback
    refers to it, that is a reference cycle, which keeps all that the frames refer to, regions above all, until the next
    garbage collection.
    """
    copy = type(error)(*error.args)
    copy.page = error.page
    return copy


def _reason_of(status: status_pb2.Status | None) -> str:
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            return str(info.reason)
    return ""

"""Every error that lib_usm raises on purpose, as one tree, and how the daemon's failures become them.

    UsmError
    ├── InvalidArgument (ValueError)   a value outside what is allowed
    │   ├── OutOfRange (IndexError)    an offset or length outside its region
    │   ├── WrongType (TypeError)      a value of a type that cannot be meant
    │   └── InvalidHint                unknown key, bad value, duplicate key, too long
    ├── NotCopyable (TypeError)        a client or a region, which is copied or pickled
    ├── NotFound (LookupError)         no such region for this client
    ├── UnknownToken (LookupError)     no yielded fault has this token
    ├── NotRunning                     nobody runs the uThread that is waited for
    ├── Deadlock                       all uThreads wait for each other
    ├── WaitTimeout (TimeoutError)     the fault is still being served; wait again with the same token
    ├── PageUnavailable                a page cannot be brought in; the session and the other pages are well
    │   ├── OutOfMemory (MemoryError)  no frame, and the oom policy refused
    │   │   └── Thrashing              a page was evicted again and again before it could be used
    │   ├── DataLoss                   the page's bytes in swap are damaged, and nothing was made up in their place
    │   └── SwapIOError (OSError)      a swap device could not be read or written, or hangs
    ├── LimitExceeded (MemoryError)    a limit of the daemon, or of this process
    ├── ClosedError (ValueError)       the client or the region was closed
    │   └── Unmapped                   the region was closed while a fault waited
    ├── NoBuffer (BufferError)         the region is not mapped into this process
    ├── InUse (BufferError)            arrays or views of the region's memory are in use
    ├── ForkedChild                    the client belongs to the parent process
    ├── DaemonUnavailable (ConnectionError)   no daemon answers at the address, or this user may not ask
    ├── SessionEnded                   there is no session any more, nor its regions: connect again
    │   ├── Draining                   the daemon ends, and takes no new work
    │   ├── SessionKilled              the daemon ended the session; the message says why
    │   ├── UnknownSession             the daemon does not know the session (any more)
    │   └── ConnectionLost (ConnectionError)  the session ended because the connection broke
    └── InternalError                  a defect of the daemon, or not a usmd at all

SessionEnded and PageUnavailable are families to catch. `retryable` says of a class whether the same call may succeed
later, though its caller changes nothing. Nothing here talks to the daemon.
"""

from __future__ import annotations

from typing import ClassVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from usm_wire.conventions import ERROR_DOMAIN, REASON_PREFIX
from usm_wire.pb.usm.v1 import client_pb2, common_pb2


class UsmError(Exception):
    """Base of all errors of lib_usm; the message is for the person who can act on it."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later, though its caller changes nothing."""

    page: int | None = None
    """The page that failed, counted from the start of its region, where one page is to blame."""


class InvalidArgument(UsmError, ValueError):
    """A value outside what is allowed."""


class OutOfRange(InvalidArgument, IndexError):
    """An offset or a length outside its region."""


class WrongType(InvalidArgument, TypeError):
    """A value of a type that cannot be meant: a float as an offset, a number or text as data."""


class InvalidHint(InvalidArgument):
    """A hint with an unknown key, a bad value, a duplicate key, or too much text."""


class NotCopyable(UsmError, TypeError):
    """A client or a region can be neither copied nor pickled: the copy would be a second owner of the same thing."""


class NotFound(UsmError, LookupError):
    """No such region for this client; whether it exists for another is not told."""


class UnknownToken(UsmError, LookupError):
    """No yielded fault has this token, or its completion was already taken."""


class WaitTimeout(UsmError, TimeoutError):
    """The yielded fault was not completed in time; its token stays good."""

    retryable = True


class NotRunning(UsmError):
    """A call that needs a running LocalManager, and there is none."""


class Deadlock(UsmError):
    """Each uThread that is left waits for another one; the message names them and what they wait for."""


class PageUnavailable(UsmError):
    """A page cannot be brought in. The session goes on, and so do all other pages."""


class OutOfMemory(PageUnavailable, MemoryError):
    """No frame could be freed, and the oom policy refused."""

    retryable = True


class Thrashing(OutOfMemory):
    """A page was evicted again and again between its fault and its use."""


class LimitExceeded(UsmError, MemoryError):
    """A limit of the daemon is reached, or one of this process, which the message names as `ulimit` or `sysctl` do."""


class DataLoss(PageUnavailable):
    """The bytes of a swapped page do not match their checksum; nothing is made up in their place."""


class SwapIOError(PageUnavailable, OSError):
    """A swap device could not be read or written, or has not answered in time; trying again may succeed."""

    retryable = True


class ClosedError(UsmError, ValueError):
    """The client or the region was closed; a ValueError, as for a file or an mmap that was."""


class Unmapped(ClosedError):
    """The region was closed while a fault waited for one of its pages."""


class NoBuffer(UsmError, BufferError):
    """The region is not mapped into this process: it is loaded and stored by calls. The message says why."""


class InUse(UsmError, BufferError):
    """Arrays or memoryviews of the region's memory are in use, so that it cannot be closed."""


class ForkedChild(UsmError):
    """The client was made before fork() and belongs to the parent process."""


class DaemonUnavailable(UsmError, ConnectionError):
    """No daemon answers at the address, or this user may not ask it."""

    retryable = True


class SessionEnded(UsmError):
    """There is no session any more, and with it went its regions; a new client may connect."""


class Draining(SessionEnded):
    """The daemon is draining and takes no new work."""


class SessionKilled(SessionEnded):
    """The daemon ended the session; the message says why."""


class UnknownSession(SessionEnded):
    """The daemon does not know the session, or no longer."""


class ConnectionLost(SessionEnded, ConnectionError):
    """The connection to the daemon broke, and with it the session and its regions ended."""


class InternalError(UsmError):
    """A defect of the daemon (its log has the details), or an answer that no usmd gives."""


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
    """Error that a failed or ended call stands for: by the daemon's reason, else by the gRPC code."""
    if not isinstance(call, grpc.Call):
        return InternalError(f"the call failed without a status: {call}")
    try:
        status = rpc_status.from_call(call)
    except ValueError:
        # The rich status contradicts the plain one; only the plain one is then believed.
        status = None
    return error_of_status(call.code(), call.details() or "", status)


def error_of_status(code: grpc.StatusCode, text: str, status: status_pb2.Status | None) -> UsmError:
    """Error that the end of a call stands for: by the daemon's reason in the rich status, else by the gRPC code."""
    reason = _reason_of(status)
    if reason in _BY_REASON:
        return _BY_REASON[reason](text)
    kind = _BY_CODE.get(code, InternalError)
    advice = "; the daemon or the connection is gone, and the session's regions with it: connect again"
    return kind(f"{text or 'no details'} (gRPC status {code.name}){advice if kind is ConnectionLost else ''}")


def error_of_failure(failure: client_pb2.Failure) -> UsmError:
    """Error that a failed fault stands for; its `page` is the page to blame."""
    known = failure.reason in common_pb2.FailureReason.values()
    reason = common_pb2.FailureReason.Name(failure.reason).removeprefix(REASON_PREFIX) if known else ""
    error = _BY_REASON.get(reason, InternalError)(failure.message)
    error.page = failure.page
    return error


def error_of_reply(reply: client_pb2.MemoryReply) -> UsmError:
    """Error that a refusal on the memory socket stands for."""
    known = reply.reason in common_pb2.FailureReason.values()
    reason = common_pb2.FailureReason.Name(reply.reason).removeprefix(REASON_PREFIX) if known else ""
    return _BY_REASON.get(reason, InternalError)(reply.message)


def again(error: UsmError) -> UsmError:
    """Copy to raise, of an error that something refers to.

    One instance raised by several threads would collect all their tracebacks. And a variable of a frame that it was
    raised through, directly or not, would be a circle of references: all that the callers' frames hold, regions above
    all, would stay until the next garbage collection.
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

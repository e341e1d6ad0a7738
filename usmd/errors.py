"""Every error that usmd raises on purpose, as one tree.

    UsmdError
    ├── InvalidArgument            a value outside what is allowed
    │   ├── OutOfRange             an offset or length outside its region
    │   ├── InvalidHint            unknown key, bad value, duplicate key, too long
    │   ├── InvalidSize            a size that cannot be read
    │   ├── ConfigError            the configuration
    │   └── UnknownPolicy          a policy name that does not exist
    ├── NotFound                   no such region, process or page for this caller
    ├── SessionEnded               there is no such session, or none any more
    │   ├── UnknownSession         the session token is missing, unknown or ended
    │   ├── SessionKilled          the daemon ended the session
    │   └── Draining               the daemon takes no new work
    ├── PageUnavailable            a page cannot be brought in; its session goes on
    │   ├── OutOfMemory            no frame, and the oom policy refused
    │   ├── DataLoss               the bytes in a slot are not those that were written
    │   └── SwapIOError            a swap device could not be read or written, or hangs
    ├── LimitExceeded              a limit of the daemon
    ├── Refused                    a swap device does not take a page, and nothing is wrong with either
    │   └── NoRoom                 … because it is full
    ├── SwapDeviceError            a swap device could not be opened
    ├── Unmapped                   the region went away while a fault waited
    ├── AlreadyRunning             another daemon serves this socket
    ├── TraceError                 a trace or recording of accesses that cannot be read or written
    └── EventLogError              a log of the core's events that cannot be read

`code` is a gRPC status by name and `reason` the name of a FailureReason of proto/usm/v1/common.proto, both as plain
text, so that this module and the core need no transport. SessionEnded and PageUnavailable are families to catch, and
are not raised themselves.
"""

from __future__ import annotations

from typing import ClassVar


class UsmdError(Exception):
    """Base of all errors; the message says what was wrong, what is allowed and what to do."""

    code: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later, though its sender changes nothing."""


class InvalidArgument(UsmdError):
    """A value outside what is allowed."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_ARGUMENT"


class OutOfRange(InvalidArgument):
    """An offset or a length outside its region."""

    code = "OUT_OF_RANGE"
    reason = "OUT_OF_RANGE"


class InvalidHint(InvalidArgument):
    """A hint with an unknown key, a bad value, a duplicate key, or too much text."""

    reason = "INVALID_HINT"


class InvalidSize(InvalidArgument):
    """Text that is no size."""


class ConfigError(InvalidArgument):
    """A configuration that cannot be used; names the key, the value and what is allowed."""


class UnknownPolicy(InvalidArgument):
    """A policy name that does not exist; the message lists those that do."""


class NotFound(UsmdError):
    """No such thing for this caller; whether it exists for another is not told."""

    code = "NOT_FOUND"
    reason = "NOT_FOUND"


class SessionEnded(UsmdError):
    """There is no session for this request: there never was, or it has ended."""

    code = "ABORTED"


class UnknownSession(SessionEnded):
    """The session token is missing, unknown, or its session has ended."""

    code = "UNAUTHENTICATED"
    reason = "UNKNOWN_SESSION"


class SessionKilled(SessionEnded):
    """The daemon ended the session; the message says why."""

    code = "ABORTED"
    reason = "SESSION_KILLED"


class PageUnavailable(UsmdError):
    """A page cannot be brought in. Its session goes on, and so do all other pages."""

    code = "UNAVAILABLE"


class OutOfMemory(PageUnavailable):
    """No frame could be freed, and the oom policy refused."""

    retryable = True

    code = "RESOURCE_EXHAUSTED"
    reason = "OUT_OF_MEMORY"


class LimitExceeded(UsmdError):
    """A limit of the daemon is reached."""

    code = "RESOURCE_EXHAUSTED"
    reason = "LIMIT_EXCEEDED"


class DataLoss(PageUnavailable):
    """The bytes read from a slot are not those that were written; nothing is made up in their place."""

    code = "DATA_LOSS"
    reason = "DATA_LOSS"


class SwapIOError(PageUnavailable):
    """A swap device could not be read or written, or has not answered in time."""

    retryable = True

    code = "UNAVAILABLE"
    reason = "SWAP_IO"


class Refused(UsmdError):
    """A swap device does not take this page, such as one that cannot be compressed; another device may."""

    code = "RESOURCE_EXHAUSTED"
    reason = "SWAP_IO"


class NoRoom(Refused):
    """A swap device has no room for this page until a slot of it is freed."""


class SwapDeviceError(UsmdError):
    """A swap device could not be opened or made."""

    code = "FAILED_PRECONDITION"
    reason = "SWAP_IO"


class Unmapped(UsmdError):
    """The region went away while a fault waited for one of its pages."""

    code = "ABORTED"
    reason = "UNMAPPED"


class Draining(SessionEnded):
    """The daemon is draining and takes no new work."""

    code = "UNAVAILABLE"
    reason = "DRAINING"


class AlreadyRunning(UsmdError):
    """Another daemon serves this socket."""

    code = "FAILED_PRECONDITION"


class TraceError(UsmdError):
    """A trace of accesses that cannot be read or written; names the file, the place in it and what is allowed."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_ARGUMENT"


class EventLogError(UsmdError):
    """A log of the core's events that cannot be read; names the file, the line and what is allowed."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_ARGUMENT"

"""Every error that usmd raises on purpose, as one tree.

    UsmdError
    ├── InvalidArgument            a value outside what is allowed
    │   ├── OutOfRange             an offset or length outside its region
    │   ├── InvalidHint            unknown key, invalid value, duplicate key, too long
    │   ├── InvalidSize            text that is not a size
    │   ├── ConfigError            the configuration
    │   └── UnknownPolicy          a policy name that does not exist
    ├── NotFound                   no such region, process or page for this caller
    ├── SessionEnded               there is no session for the request
    │   ├── UnknownSession         the session token is missing, unknown or ended
    │   ├── SessionKilled          the daemon ended the session
    │   └── Draining               the daemon takes no new work
    ├── PageUnavailable            a page cannot be brought in; its session is not affected
    │   ├── OutOfMemory            no frame, and the oom policy refused
    │   ├── DataLoss               the bytes in a slot are not those that were written
    │   └── SwapIOError            a swap device cannot be read or written, or does not answer in time
    ├── LimitExceeded              a limit of the daemon
    ├── Refused                    a swap device does not accept a page; neither is faulty
    │   └── NoRoom                 … because it is full
    ├── SwapDeviceError            a swap device cannot be opened
    ├── Unmapped                   the region was unmapped while a fault waited
    ├── AlreadyRunning             another daemon serves this socket
    ├── TraceError                 a trace or recording of accesses that cannot be read or written
    └── EventLogError              a log of the core's events that cannot be read

`code` is the name of a gRPC status, `reason` that of a FailureReason in proto/usm/v1/common.proto. Both are plain text,
so that this module and the core need no transport. SessionEnded and PageUnavailable are families to catch, and are not
raised themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class EndsRun(BaseException):
    """Raised within a policy call by the program that runs the core, to end the run. Not an error of the policy."""


class UsmdError(Exception):
    """Base of all errors; the message says what was wrong, what is allowed and what to do."""

    code: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False
    """True if the same request may succeed later without a change by its sender."""


class InvalidArgument(UsmdError):
    """A value outside what is allowed."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_ARGUMENT"


class OutOfRange(InvalidArgument):
    """An offset or a length outside its region."""

    code = "OUT_OF_RANGE"
    reason = "OUT_OF_RANGE"


class InvalidHint(InvalidArgument):
    """A hint with an unknown key, an invalid value, a duplicate key, or too much text."""

    reason = "INVALID_HINT"


class InvalidSize(InvalidArgument):
    """Text that is not a size."""


class ConfigError(InvalidArgument):
    """An unusable configuration; the message names the key, the value and what is allowed.

    `key`: the whole key, such as `memory.size` or `swap[0].kind`; empty if there is none. `others`: more errors of the
    same configuration.
    """

    def __init__(self, message: str, key: str = "", others: Sequence[ConfigError] = ()) -> None:
        super().__init__(message)
        self.key = key
        self.others = tuple(others)

    @property
    def all(self) -> tuple[ConfigError, ...]:
        """It and the others."""
        return (self, *self.others)


class UnknownPolicy(InvalidArgument):
    """A policy name that does not exist; the message lists those that do."""


class NotFound(UsmdError):
    """No such thing for this caller. The error does not say whether another caller has it."""

    code = "NOT_FOUND"
    reason = "NOT_FOUND"


class SessionEnded(UsmdError):
    """There is no session for this request: there never was, or it has ended."""

    code = "ABORTED"


class UnknownSession(SessionEnded):
    """The session token is missing or unknown, or its session has ended."""

    code = "UNAUTHENTICATED"
    reason = "UNKNOWN_SESSION"


class SessionKilled(SessionEnded):
    """The daemon ended the session; the message says why."""

    code = "ABORTED"
    reason = "SESSION_KILLED"


class PageUnavailable(UsmdError):
    """A page cannot be brought in. Its session and all other pages are not affected."""

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
    """The bytes read from a slot are not those that were written; no bytes are returned in their place."""

    code = "DATA_LOSS"
    reason = "DATA_LOSS"


class SwapIOError(PageUnavailable):
    """A swap device cannot be read or written, or did not answer in time."""

    retryable = True

    code = "UNAVAILABLE"
    reason = "SWAP_IO"


class Refused(UsmdError):
    """A swap device does not accept this page, for example because it does not compress; another device may."""

    code = "RESOURCE_EXHAUSTED"
    reason = "SWAP_IO"


class NoRoom(Refused):
    """A swap device has no room for this page until a slot of it is freed."""


class SwapDeviceError(UsmdError):
    """A swap device cannot be opened or made."""

    code = "FAILED_PRECONDITION"
    reason = "SWAP_IO"


class Unmapped(UsmdError):
    """The region was unmapped while a fault waited for one of its pages."""

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

"""Memory that usmd manages, for applications.

    import lib_usm

    with lib_usm.connect() as client:
        region = client.mmap(64 << 20, name="index")
        client.usm_hint(region, "PRIORITY=HIGH; EVICTION=DENY")
        region[0:5] = b"hello"
        assert region[0:5] == b"hello"

or, with a client that the library makes itself, `lib_usm.mmap(length)` and `lib_usm.usm_hint(region, text)`.

The daemon's address is the argument, else $USM_ADDRESS (`unix:PATH`), else the default socket. All calls are
synchronous and may be made from several threads. A read returns the bytes that were stored, or raises an error of
`lib_usm.errors`.
"""

from __future__ import annotations

from lib_usm.address import Address
from lib_usm.client import Client, Region
from lib_usm.default import default_client, mmap, usm_hint
from lib_usm.errors import (
    ClosedError,
    ConnectionLost,
    DaemonUnavailable,
    DataLoss,
    Deadlock,
    Draining,
    ForkedChild,
    InternalError,
    InUse,
    InvalidArgument,
    InvalidHint,
    LimitExceeded,
    NoBuffer,
    NotCopyable,
    NotFound,
    NotRunning,
    OutOfMemory,
    OutOfRange,
    PageUnavailable,
    SessionEnded,
    SessionKilled,
    SwapIOError,
    Thrashing,
    UnknownSession,
    UnknownToken,
    Unmapped,
    UsmError,
    WaitTimeout,
    WrongType,
)
from lib_usm.hints import Hint, Kept
from lib_usm.local_manager import LocalManager, LocalManagerStats
from lib_usm.outcomes import Allocated, FrameRun, Outcome, Yielded
from lib_usm.pressure import Pressure
from lib_usm.uthread import UThread, UThreadLocal

__all__ = [
    "Allocated",
    "Client",
    "ClosedError",
    "ConnectionLost",
    "DaemonUnavailable",
    "DataLoss",
    "Deadlock",
    "Draining",
    "ForkedChild",
    "FrameRun",
    "Hint",
    "InUse",
    "InternalError",
    "InvalidArgument",
    "InvalidHint",
    "Kept",
    "LimitExceeded",
    "LocalManager",
    "LocalManagerStats",
    "NoBuffer",
    "NotCopyable",
    "NotFound",
    "NotRunning",
    "OutOfMemory",
    "OutOfRange",
    "Outcome",
    "PageUnavailable",
    "Pressure",
    "Region",
    "SessionEnded",
    "SessionKilled",
    "SwapIOError",
    "Thrashing",
    "UThread",
    "UThreadLocal",
    "UnknownSession",
    "UnknownToken",
    "Unmapped",
    "UsmError",
    "WaitTimeout",
    "WrongType",
    "Yielded",
    "connect",
    "default_client",
    "mmap",
    "usm_hint",
]


def connect(
    address: Address | None = None, *, name: str | None = None, alloc: str | None = None, evict: str | None = None
) -> Client:
    """Begin a session with the daemon at `address` (`unix:PATH` or a path; None: $USM_ADDRESS, or the default socket).

    The daemon assigns policies by `name` (1 to 64 printable characters; None: the program's name). If no daemon
    listens, raises DaemonUnavailable within about 2 s. Raises InvalidArgument, LimitExceeded and Draining as well.

    `alloc` and `evict` choose this client's policies, such as `"s3_fifo"` or `"flexible_huge_pages(pages=64)"`; None:
    those of the daemon's configuration, which also says which policies a client may choose.
    """
    return Client(address, name=name, alloc=alloc, evict=evict)

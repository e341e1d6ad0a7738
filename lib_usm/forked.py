"""Begins a client in a forked child whose parent used gRPC. There gRPC may hang, so a time limit applies.

The parent's gRPC threads do not exist in the child, and a lock that one of them held is never released. In most cases a
child can connect all the same.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from lib_usm.errors import ForkedChild

_T = TypeVar("_T")
_SECONDS: Final = 10.0


class _Process:
    """Whether this process, or a parent, used gRPC before a fork."""

    used = False
    doubtful = False


_process: Final = _Process()


def guarded(begin: Callable[[], _T]) -> _T:
    """Return or raise what `begin`, the first calls of a client, does. Raises ForkedChild if it hangs."""
    _process.used = True
    if not _process.doubtful:
        return begin()
    outcomes: queue.SimpleQueue[tuple[list[_T], BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcomes.put(([begin()], None))
        except BaseException as error:  # noqa: BLE001 - raised on the caller's thread
            outcomes.put(([], error))

    threading.Thread(target=run, name="lib_usm-attach", daemon=True).start()
    try:
        results, error = outcomes.get(timeout=_SECONDS)
    except queue.Empty:
        raise ForkedChild(
            "gRPC does not work in this process, a fork of one that had used it: start children by spawn, or set "
            "GRPC_ENABLE_FORK_SUPPORT=1 before the program starts (each fork then takes a second)"
        ) from None
    if error is not None:
        try:
            raise error
        finally:
            del error
    return results[0]


def _in_child() -> None:
    _process.doubtful = _process.doubtful or _process.used


os.register_at_fork(after_in_child=_in_child)

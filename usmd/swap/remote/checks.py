"""What a server must be like to hold pages: it evicts nothing, has memory for them, and extents fit its allocator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from usmd.errors import SwapDeviceError
from usmd.sizes import format_size
from usmd.swap.remote.requests import Failure, Reply, Servers

TIGHT: Final = 0.02
"""Share of an extent's memory that may be waste."""
EXTENT_BYTES: Final = tuple(256 << 10 << doubling for doubling in range(5))
"""Sizes that a string is tried with, until one is tight: allocators have classes of these sizes."""
HEADER_BYTES: Final = 32
"""Room for what a server keeps in front of a string's bytes, and for the byte behind the last slot."""
PROBE_SECONDS: Final = 60
NO_EVICTION: Final = "noeviction"


class Fit(NamedTuple):
    """Slots of an extent, and the memory that it takes on the server, in bytes."""

    slots: int
    memory: int


def length_of(slots: int, page_size: int) -> int:
    """Bytes of the string of an extent.

    One byte is behind the last slot, and no write of a slot reaches it. So the length of the string that each write
    answers tells whether the extent was there: if it was not, the write has made a shorter string.
    """
    return slots * page_size + 1


def best_fit(servers: Servers, key: str, page_size: int) -> Fit:
    """The smallest extent that wastes little memory of the server, by trying; `key` is used for that, and removed.

    Raises SwapDeviceError if the server does not take a string.
    """
    fits: list[Fit] = []
    for size in EXTENT_BYTES:
        slots = (size - HEADER_BYTES) // page_size
        if slots < 1:
            continue
        fits.append(_measured(servers, key, slots, page_size))
        if _waste(fits[-1], page_size) <= TIGHT:
            break
    return min(fits, key=lambda fit: _waste(fit, page_size))


def _waste(fit: Fit, page_size: int) -> float:
    return 1 - fit.slots * page_size / fit.memory


def _measured(servers: Servers, key: str, slots: int, page_size: int) -> Fit:
    length = length_of(slots, page_size)
    made, _, memory, _ = servers.run(
        [
            ("SETRANGE", key, length - 1, b"\0"),
            ("EXPIRE", key, PROBE_SECONDS),
            ("MEMORY USAGE", key),
            ("UNLINK", key),
        ]
    )
    if made != length:
        raise SwapDeviceError(f"a string of {format_size(length)} cannot be made: {_why(made)}")
    # A server without the command is taken for one with the usual allocator.
    return Fit(slots, memory if isinstance(memory, int) else length + HEADER_BYTES)


def _why(reply: Reply) -> str:
    return reply.why if isinstance(reply, Failure) else f"the server answered {type(reply).__name__}"


def why_unsafe(replies: Sequence[Reply]) -> str:
    """Why the servers whose `INFO memory` this is must not get pages; empty: they may. A Failure says nothing."""
    for info in replies:
        if isinstance(info, Mapping) and info.get("maxmemory_policy") != NO_EVICTION:
            return (
                f"the server's maxmemory-policy is {info.get('maxmemory_policy', 'unknown')}, which may remove pages; "
                f"it must be {NO_EVICTION}"
            )
    return ""


def check_memory(replies: Sequence[Reply], wanted: int) -> None:
    """Check that `wanted` bytes, spread evenly over the servers, fit in the memory that `INFO memory` says is free.

    Raises SwapDeviceError; also if a server does not say.
    """
    for info in replies:
        if not isinstance(info, Mapping):
            raise SwapDeviceError(f"INFO memory: {_why(info)}")
        limit = int(info.get("maxmemory", 0)) or int(info.get("total_system_memory", 0))
        free = max(limit - int(info.get("used_memory", 0)), 0)
        share = -(-wanted // len(replies))
        if limit and free < share:
            raise SwapDeviceError(
                f"a server has {format_size(free)} of {format_size(limit)} free, and {format_size(share)} are needed "
                "there; raise its maxmemory, or make the device smaller"
            )

"""Where a process has memfds mapped, read from /proc."""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path


def mappings_of(pid: int) -> list[tuple[int, int]] | None:
    """First address and end of each mapping of a memfd in a process; None if the daemon may not read them.

    Empty if the process is gone. A process can have very many mappings, so the event loop must not call this. Parts are
    short because splitting one holds Python's lock.
    """
    found: list[tuple[int, int]] = []
    rest = b""
    try:
        with Path(f"/proc/{pid}/maps").open("rb", buffering=0) as maps:
            while part := maps.read(mmap.PAGESIZE):
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    if b"/memfd:" in line:
                        start, _, end = line.partition(b" ")[0].partition(b"-")
                        found.append((int(start, 16), int(end, 16)))
    except PermissionError:
        return None
    except OSError:
        return []
    return found


def parts_between(mappings: Sequence[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    """First address and length of each part of ascending mappings that lies between `start` and `end`."""
    for first, stop in islice(mappings, bisect_right(mappings, start, key=lambda each: each[1]), None):
        if first >= end:
            return
        yield max(first, start), min(stop, end) - max(first, start)

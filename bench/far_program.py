"""The programs of `bench.far_programs`: a sort by NumPy and a key-value store, each larger than its memory.

All sides run them; only the memory differs: a region of usmd, or anonymous memory of the kernel. They are the examples
`sort_array` and `kv_store`. The first argument is the settings as a JSON object; stdout gets the results as one.
"""

from __future__ import annotations

import mmap
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast

import msgspec
import numpy as np

import lib_usm
from examples.kv_store import SEED, Plan, Store, serve, value_of
from examples.sort_array import check, fill


class Settings(msgspec.Struct, kw_only=True):
    """What to do, and where."""

    work: Literal["sort", "store"]
    size: int
    """Bytes of the array or of the values."""
    requests: int = 0
    """To the store."""
    address: str = ""
    """usmd's clients' socket; empty: the kernel's own memory."""
    admin_address: str = ""
    cgroup_procs: str = ""
    """File of the memory cgroup to which the process is to move; empty: stay."""


class Result(msgspec.Struct, kw_only=True):
    """The measurements."""

    seconds: float
    """Of the sort, or of the requests."""
    wrong: int
    """Values that are not what was stored. An array that is not in order ends the program."""


def sort(memory: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Result:
    """Fill, sort and check an array. Ends the program if it is not in order, or has other numbers than before."""
    expected = fill(memory, SEED, lambda _: None)
    began = time.perf_counter()
    memory.sort()
    seconds = time.perf_counter() - began
    check(memory, expected, lambda _: None)
    return Result(seconds=seconds, wrong=0)


def serve_by_kernel(store: Store, plan: Plan) -> None:
    """The requests of `serve`, one after the other: Python holds its lock while the kernel serves a fault."""
    choice = random.Random(SEED)
    keys = plan.keys
    for key, writes in [(choice.choice(keys), choice.random() < 0.1) for _ in range(plan.requests)]:
        if writes:
            store.put(key, value_of(key, store.value_size))
        else:
            store.get(key)


def keep(memory: lib_usm.Region | mmap.mmap, client: lib_usm.Client | None, plan: Plan) -> Result:
    """Fill a store, serve requests, and check every value."""
    store = Store(cast("lib_usm.Region", memory), plan.value_size)
    for key in plan.keys:
        store.put(key, value_of(key, plan.value_size))
    began = time.perf_counter()
    if client is None:
        serve_by_kernel(store, plan)
    else:
        serve(client, store, plan, asynchronous=True)
    seconds = time.perf_counter() - began
    wrong = sum(store.get(key) != value_of(key, plan.value_size) for key in plan.keys)
    return Result(seconds=seconds, wrong=wrong)


@contextmanager
def memory_of(settings: Settings) -> Iterator[tuple[lib_usm.Region | mmap.mmap, lib_usm.Client | None]]:
    """Memory of usmd or of the kernel, and the client."""
    if not settings.address:
        anonymous = mmap.mmap(-1, settings.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        yield anonymous, None
        return  # it is not closed: an array may still refer to it, and the process ends
    with lib_usm.connect(settings.address, name=settings.work) as client:
        yield client.mmap(settings.size, name="data"), client


def run(settings: Settings) -> Result:
    """Do the work."""
    if settings.cgroup_procs:
        # Not earlier, so that the program's own memory is not counted there.
        Path(settings.cgroup_procs).write_text(str(os.getpid()))
    with memory_of(settings) as (memory, client):
        if settings.work == "store":
            return keep(memory, client, Plan(values=settings.size, requests=settings.requests))
        if isinstance(memory, mmap.mmap):
            return sort(np.frombuffer(memory, np.float64))
        return sort(memory.ndarray(np.float64, (settings.size // 8,)))


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(run(msgspec.json.decode(sys.argv[1], type=Settings))))

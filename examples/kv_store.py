"""`python -m examples.kv_store`: a key-value store whose values are larger than memory, with 64 requests at a time.

Each request is a uThread. While one waits for a value from swap (a file with direct I/O), the kernel thread serves the
others. The same requests run with and without asynchronous faults. Latencies are of single requests, and every value
that is read is checked.
"""

from __future__ import annotations

import random
import time
import zlib
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

import lib_usm
from examples.real_memory import bars, read_size, shares
from lib_usm import LocalManager
from tools.own_daemon import running
from usmd.sizes import format_size

SEED = 20
console = Console(highlight=False)


class Store:
    """Values of one length in a region, by key, each behind its checksum."""

    HEADER = 8

    def __init__(self, region: lib_usm.Region, value_size: int) -> None:
        self._region = region
        self._slot_size = value_size + self.HEADER
        self._slots: dict[str, int] = {}
        self.value_size = value_size

    def put(self, key: str, value: bytes) -> None:
        """Store a value. The caller must not store one key twice at the same time."""
        slot = self._slots.setdefault(key, len(self._slots))
        start = slot * self._slot_size
        self._region[start : start + self._slot_size] = zlib.crc32(value).to_bytes(self.HEADER, "big") + value

    def get(self, key: str) -> bytes:
        """The value of a key. Raises KeyError, and ValueError if it is not what was stored."""
        start = self._slots[key] * self._slot_size
        found = self._region[start : start + self._slot_size]
        value = found[self.HEADER :]
        if zlib.crc32(value) != int.from_bytes(found[: self.HEADER], "big"):
            raise ValueError(f"the value of {key!r} is damaged")
        return value


@dataclass(frozen=True)
class Plan:
    """The sizes and numbers of a run."""

    memory: int = 16 << 20
    values: int = 64 << 20
    value_size: int = 4088
    requests: int = 20_000
    concurrent: int = 64
    mechanism: str = "auto"

    @property
    def keys(self) -> list[str]:
        """All keys."""
        return [f"user:{number}" for number in range(self.values // (self.value_size + Store.HEADER))]


class Measured(NamedTuple):
    """Latencies of the requests in seconds, ascending, and the time of all."""

    latencies: list[float]
    seconds: float

    def percentile(self, share: float) -> float:
        """Latency in microseconds that this share of the requests did not exceed."""
        return self.latencies[min(int(len(self.latencies) * share), len(self.latencies) - 1)] * 1e6


def value_of(key: str, size: int) -> bytes:
    """A value for a key."""
    return random.Random(key).randbytes(size)


def serve(client: lib_usm.Client, store: Store, plan: Plan, *, asynchronous: bool) -> Measured:
    """Serve requests, `concurrent` at a time: nine in ten read a value, one writes one."""
    lm = LocalManager(client, asynchronous=asynchronous)
    choice = random.Random(SEED)
    keys = plan.keys
    waiting = [(choice.choice(keys), choice.random() < 0.1) for _ in range(plan.requests)]
    arrived = time.perf_counter()
    latencies: list[float] = []

    def worker(began: float) -> None:
        # A client that sends its next request after the answer to the previous one.
        while waiting:
            key, writes = waiting.pop()
            if writes:
                store.put(key, value_of(key, store.value_size))
            else:
                store.get(key)
            now = time.perf_counter()
            latencies.append(now - began)
            began = now
            lm.yield_now()

    workers = [lm.spawn(worker, arrived, name=f"request-{number}") for number in range(plan.concurrent)]
    lm.run()
    for each in workers:
        each.result()
    return Measured(sorted(latencies), time.perf_counter() - arrived)


def run(plan: Plan) -> tuple[Measured, Measured, str]:
    """Fill a store, and serve the same requests without and with asynchronous faults; returns the mechanism too."""
    flags = ("--memory", str(plan.memory), "--mechanism", plan.mechanism)
    with (
        running(*flags, swap_file=f"{2 * plan.values}:direct") as daemon,
        lib_usm.connect(daemon.address, name="kv_store") as client,
        client.mmap(plan.values, name="values") as region,
        bars(console) as progress,
    ):
        store = Store(region, plan.value_size)
        for key in progress.track(plan.keys, description="filling the store"):
            store.put(key, value_of(key, plan.value_size))
        results = []
        for title, asynchronous in (("synchronous faults", False), ("asynchronous faults", True)):
            bar = progress.add_task(f"requests, {title}", total=1)
            results.append(serve(client, store, plan, asynchronous=asynchronous))
            progress.advance(bar)
        for key in progress.track(plan.keys, description="checking every value"):
            if store.get(key) != value_of(key, plan.value_size):
                raise SystemExit(f"the value of {key} is not what was stored")
        return results[0], results[1], "simulated" if region.mapping is None else "userfaultfd"


def table(plan: Plan, kept: Measured, goes_on: Measured) -> Table:
    """Both runs side by side."""
    found = Table(title=f"{plan.requests:,} requests, {plan.concurrent} at a time, on one kernel thread")
    for heading in ("faults", "requests/s", "p50 us", "p99 us", "p99.9 us"):
        found.add_column(heading, justify="left" if heading == "faults" else "right")
    for name, run_ in (("synchronous", kept), ("asynchronous", goes_on)):
        rate = len(run_.latencies) / run_.seconds
        found.add_row(name, f"{rate:,.0f}", *(f"{run_.percentile(share):,.0f}" for share in (0.5, 0.99, 0.999)))
    return found


def main(
    memory: Annotated[str, typer.Option(help="Memory of usmd.")] = "16MiB",
    values: Annotated[str, typer.Option(help="Bytes of values.")] = "64MiB",
    requests: Annotated[int, typer.Option(min=1, help="Requests in all.")] = 20_000,
    concurrent: Annotated[int, typer.Option(min=1, max=4096, help="Requests at a time.")] = 64,
    mechanism: Annotated[str, typer.Option(help="auto, userfaultfd or simulated.")] = "auto",
) -> None:
    """Run the store, and print the latencies with and without asynchronous faults."""
    plan = Plan(
        memory=read_size(memory),
        values=read_size(values),
        requests=requests,
        concurrent=concurrent,
        mechanism=mechanism,
    )
    size = format_size(plan.value_size)
    console.print(f"values of {size}: {shares(plan.values, plan.memory)}, swap in a file with direct I/O")
    kept, goes_on, how = run(plan)
    console.print(table(plan, kept, goes_on))
    ratio = kept.percentile(0.99) / goes_on.percentile(0.99)
    console.print(
        f"mechanism {how}: p99 is {ratio:.2f} times as short with asynchronous faults; every value was checked"
    )


if __name__ == "__main__":
    typer.run(main)

"""Fault round trips over the stream, beside a bare gRPC stream of the same messages, in alternating rounds of one run.

The faults are minor, on untouched pages, through lib_usm: client, wire, core and zero-fill are included. Over simulated
memory they travel by gRPC, over real memory on a local stream. The bare stream is gRPC in both: its client builds the
same requests, and its server parses them and sends prepared outcomes.
"""

from __future__ import annotations

import queue
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

import grpc

import lib_usm
from bench import as_program
from bench.orders import in_no_order
from tools.own_daemon import running, started
from usm_wire.pb.usm.v1 import client_pb2, client_pb2_grpc
from usmd.mechanism import uffd

MEMORY: Final = "256MiB"
PAGES: Final = 49152
ROUNDS: Final = 8
TRIPS: Final = {1: 400, 64: 80}


class Echo:
    """A client of the bare stream."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._requests: queue.SimpleQueue[client_pb2.StreamFaultsRequest | None] = queue.SimpleQueue()
        self._responses = client_pb2_grpc.ClientServiceStub(self._channel).StreamFaults(self._outgoing())

    def _outgoing(self) -> Iterator[client_pb2.StreamFaultsRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def packed_trip(self, batch: int) -> None:
        """Send `batch` faults as one PageBatch, as lib_usm does, and check the outcomes."""
        request = client_pb2.StreamFaultsRequest()
        request.page_batches.add(first_fault_id=1, region_id=1, pages=range(batch))
        self._requests.put(request)
        if sum(len(pages.frames) for pages in next(self._responses).allocated_pages) != batch:
            raise RuntimeError("the bare stream answered with something else")

    def trip(self, batch: int) -> None:
        """Send `batch` faults, each as a message of its own, and check every outcome."""
        request = client_pb2.StreamFaultsRequest()
        for number in range(batch):
            fault = request.faults.add()
            fault.fault_id = number + 1
            fault.region_id = 1
            fault.first_page = number
            fault.page_count = 1
        self._requests.put(request)
        response = next(self._responses)
        if sum(outcome.HasField("allocated") for outcome in response.outcomes) != batch:
            raise RuntimeError("the bare stream answered with something else")

    def close(self) -> None:
        """End the stream."""
        self._requests.put(None)
        self._channel.close()


def timed(trip: Callable[[int], None], batch: int, trips: int) -> float:
    """Median microseconds of a trip of `batch` faults."""
    times = []
    for _ in range(trips):
        start = time.perf_counter()
        trip(batch)
        times.append((time.perf_counter() - start) * 1e6)
    return statistics.median(times)


def main() -> None:
    """Print microseconds per round trip for each mechanism and batch size, and their ratio."""
    print(f"fault round trips over the stream (minor faults, --memory {MEMORY}, default policies)")
    print(f"  median of {ROUNDS} alternating rounds; a bare gRPC stream of the same messages beside it")
    why_not = uffd.usable(uffd.probe())
    for mechanism in ("simulated", "userfaultfd"):
        if mechanism == "userfaultfd" and why_not:
            print(f"  {mechanism}: skipped: {why_not}")
        else:
            print(f"  {mechanism}")
            measure(mechanism)


def measure(mechanism: str) -> None:
    """Print a line for each batch size."""
    with running("--memory", MEMORY, "--mechanism", mechanism) as daemon:
        path = str(daemon.folder / "echo.sock")
        with (
            started([sys.executable, "-m", "bench.echo_server", path]),
            lib_usm.connect(daemon.address, name="bench") as client,
        ):
            echo = Echo(f"unix:{path}")
            for batch, trips in TRIPS.items():
                report(client, echo, batch, trips)
            echo.close()


def report(client: lib_usm.Client, echo: Echo, batch: int, trips: int) -> None:
    """Print one line: usmd and the bare stream at one batch size."""
    ours, bare, packed = [], [], []
    for _ in range(ROUNDS):
        region = client.mmap(PAGES * client.page_size)
        # In no order, or most pages would come without a fault.
        fresh = iter(in_no_order(PAGES).tolist())

        def trip(count: int, region: lib_usm.Region = region, fresh: Iterator[int] = fresh) -> None:
            answers = client.fault_many([(region, next(fresh), 1) for _ in range(count)])
            if not all(isinstance(answer, lib_usm.Allocated) for answer in answers):
                raise RuntimeError(f"a fault failed: {answers}")

        bare.append(timed(echo.trip, batch, trips))
        packed.append(timed(echo.packed_trip, batch, trips))
        ours.append(timed(trip, batch, trips))
        region.close()
    took = statistics.median(ours)
    print(f"  batch {batch:3}: usmd {took:7.1f} us ({batch / took * 1e6:9,.0f} faults/s)   bare", end="")
    for name, found in (("a Fault each", bare), ("a PageBatch", packed)):
        ratio = statistics.median(x / y for x, y in zip(ours, found, strict=True))
        print(f"   {name} {statistics.median(found):6.1f} us, ratio {ratio:.2f}", end="")
    print("   (aim 1.50)")


if __name__ == "__main__":
    as_program(main, __doc__)

"""A bare gRPC stream without memory: parses each fault batch, and answers with that many prepared outcomes.

It measures the round trip when usmd does nothing: the yardstick of `bench.stream`.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import grpc.aio
import uvloop

from usm_wire.pb.usm.v1 import client_pb2


def answer(count: int) -> client_pb2.StreamFaultsResponse:
    """A response with `count` outcomes of one page each."""
    response = client_pb2.StreamFaultsResponse()
    for number in range(count):
        outcome = response.outcomes.add(fault_id=number + 1)
        outcome.allocated.runs.add(first_page=number, first_frame=number, page_count=1)
    return response


def packed_answer(count: int) -> client_pb2.StreamFaultsResponse:
    """A response to a batch of `count` pages."""
    response = client_pb2.StreamFaultsResponse()
    response.allocated_pages.add(first_fault_id=1, frames=range(count))
    return response


async def serve(path: str) -> None:
    """Serve on a Unix socket until killed."""
    answers: dict[int, client_pb2.StreamFaultsResponse] = {}
    packed: dict[int, client_pb2.StreamFaultsResponse] = {}

    async def stream_faults(_requests: object, context: grpc.aio.ServicerContext) -> None:  # type: ignore[type-arg]
        while (request := await context.read()) is not grpc.aio.EOF:
            if request.page_batches:
                kind, make, count = packed, packed_answer, len(request.page_batches[0].pages)
            else:
                kind, make, count = answers, answer, len(request.faults)
            if count not in kind:
                kind[count] = make(count)
            await context.write(kind[count])

    handler = grpc.stream_stream_rpc_method_handler(
        stream_faults,
        client_pb2.StreamFaultsRequest.FromString,
        client_pb2.StreamFaultsResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("usm.v1.ClientService", {"StreamFaults": handler}),)
    )
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    print("ready", file=sys.stderr, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1]))

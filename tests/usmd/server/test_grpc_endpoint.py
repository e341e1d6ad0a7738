"""How a gRPC endpoint ends; what it serves is looked at by test_facts.py, test_rpc.py and test_grpc_server.py."""

import asyncio
import socket

import pytest

from tests.support import raw_http2
from usm_wire.pb.usm.v1 import admin_pb2
from usmd.server.admission import Admission, Turns
from usmd.server.grpc_endpoint import GrpcEndpoint

GRACE = 600.0
WATCH = "/usm.v1.AdminService/WatchEvents"


class Operators:
    """WatchEvents goes on until `go`."""

    def __init__(self):
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name):
        return self.watch

    async def watch(self, request, context):
        del request
        await context.write(admin_pb2.Event(kind="first"))
        self.begun.set()
        await self.go.wait()


def frames(peer):
    """(kind, flags) of each frame that comes, up to GOAWAY."""
    data = b""
    while True:
        while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3]):
            yield data[3], data[4]
            if data[3] == raw_http2.GOAWAY:
                return
            data = data[9 + int.from_bytes(data[:3]) :]
        part = peer.recv(65536)
        assert part, "closed without a GOAWAY"
        data += part


@pytest.fixture
def in_the_end(tmp_path):
    """What a client gets from the server whose end begins while its call runs, by `after_begin`."""

    def run(after_begin):
        async def main():
            operators = Operators()
            admission = Admission(lambda token: Turns(1, 1.0, 1.0), lambda ticket: None)
            service = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
            endpoint = GrpcEndpoint(service, operators, admission, asyncio.get_running_loop().time)
            await endpoint.serve(tmp_path / "s", 0o600)
            hurry = asyncio.Event()
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(60)
                peer.connect(str(tmp_path / "s"))
                begin = raw_http2.PREFACE + raw_http2.frame(raw_http2.SETTINGS, 0, 0)
                peer.sendall(begin + raw_http2.call(1, WATCH, b""))
                await operators.begun.wait()
                stopping = asyncio.create_task(endpoint.stop(GRACE, hurry))
                await asyncio.sleep(0)
                after_begin(operators, hurry)
                found = await asyncio.to_thread(lambda: list(frames(peer)))
            await stopping
            return found

        return asyncio.run(main())

    return run


def test_a_running_call_has_its_status_before_the_client_hears_that_the_server_stops(in_the_end):
    found = in_the_end(lambda operators, hurry: operators.go.set())
    assert (raw_http2.HEADERS, raw_http2.END_HEADERS | raw_http2.END_STREAM) in found
    assert found[-1][0] == raw_http2.GOAWAY


def test_in_a_hurry_it_stops_while_calls_run(in_the_end):
    found = in_the_end(lambda operators, hurry: hurry.set())
    assert found[-1][0] == raw_http2.GOAWAY

"""One of the daemon's two gRPC endpoints: a service on a Unix socket, with its health and reflection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor

from usmd.server.admission import Admission
from usmd.server.client_service import REQUEST_LIMITS
from usmd.server.facts import Facts
from usmd.server.grpc_server import SERVER_OPTIONS, bind, start
from usmd.server.rpc import Read, service_handler
from usmd.server.running_calls import RunningCalls


class GrpcEndpoint:
    """Serves a service from `serve` until `stop`. `clock`: seconds. `reads`: as for `service_handler`."""

    def __init__(
        self,
        descriptor: ServiceDescriptor,
        servicer: object,
        admission: Admission,
        clock: Callable[[], float],
        reads: Mapping[str, Read] | None = None,
    ) -> None:
        self._clock = clock
        self._facts = Facts(descriptor, admission)
        self._calls = RunningCalls()
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        service = service_handler(descriptor, servicer, REQUEST_LIMITS, reads, self._calls)
        self._server.add_generic_rpc_handlers((service, *self._facts.handlers))

    async def serve(self, path: Path, mode: int) -> None:
        """Serve on a socket that has this file mode from the start. Raises ConfigError."""
        await self._facts.serving()
        bind(self._server, path, mode)
        await start(self._server)

    async def stopping(self) -> None:
        """Report that the service is about to end."""
        await self._facts.stopping()

    async def stop(self, grace: float, hurry: asyncio.Event) -> None:
        """Stop when the calls have ended, the grace (seconds) is over, or `hurry` is set.

        Calls of the service that run now are answered before clients hear that the server stops, see `RunningCalls`.
        """
        stopping = asyncio.ensure_future(self._stop(grace))
        hurries = asyncio.ensure_future(hurry.wait())
        await asyncio.wait((stopping, hurries), return_when=asyncio.FIRST_COMPLETED)
        hurries.cancel()
        if not stopping.done():
            await self._server.stop(0)
        await stopping

    async def _stop(self, grace: float) -> None:
        ends = self._clock() + grace
        with suppress(TimeoutError):
            await asyncio.wait_for(self._calls.answered(), grace)
        await self._server.stop(max(ends - self._clock(), 0.0))

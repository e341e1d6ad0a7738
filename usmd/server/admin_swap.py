"""The calls about swap devices: a part of the admin service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from usm_wire.pb.usm.v1 import admin_pb2
from usmd.errors import ConfigError, Draining
from usmd.server.admin_messages import AdminMessages
from usmd.server.admission import Context
from usmd.server.engine import Engine
from usmd.server.swap_devices import Retiring, SwapDevices
from usmd.swap.open import parse_swap_spec

TELLS_SECONDS: Final = 0.2
"""Time between two answers about a retirement, at most."""


class SwapCalls:
    """Lists, adds and retires swap devices."""

    def __init__(
        self, engine: Engine, messages: AdminMessages, devices: SwapDevices, draining: Callable[[], bool]
    ) -> None:
        self._engine = engine
        self._messages = messages
        self._devices = devices
        self._draining = draining

    async def ListSwapDevices(  # noqa: N802
        self, request: admin_pb2.ListSwapDevicesRequest, context: Context
    ) -> admin_pb2.ListSwapDevicesResponse:
        """Swap devices by number."""
        del request, context
        return admin_pb2.ListSwapDevicesResponse(
            swap_devices=[self._messages.swap_device(queue) for queue in self._engine.queues]
        )

    async def AddSwapDevice(  # noqa: N802
        self, request: admin_pb2.AddSwapDeviceRequest, context: Context
    ) -> admin_pb2.AddSwapDeviceResponse:
        """Open a swap device."""
        del context
        self._check_goes_on()
        spec = parse_swap_spec(request.device)
        if request.name:
            if not request.name.isprintable():
                raise ConfigError(f"the name {request.name!r} is not allowed; allowed is printable text")
            spec = msgspec.structs.replace(spec, name=request.name)
        (queue,) = await self._devices.add([spec])
        return admin_pb2.AddSwapDeviceResponse(swap_device=self._messages.swap_device(queue))

    async def RetireSwapDevice(  # noqa: N802
        self, request: admin_pb2.RetireSwapDeviceRequest, context: Context
    ) -> None:
        """Retire a device, and stream how far that is."""
        self._check_goes_on()
        retiring = await self._devices.retire(request.device)
        while not retiring.ended.done():
            await context.write(self._progress(retiring))
            await asyncio.wait([retiring.ended], timeout=TELLS_SECONDS)
            if not retiring.ended.done():
                self._check_goes_on()
        message = retiring.ended.result()
        last = self._progress(retiring)
        last.end = admin_pb2.SwapRetirement.END_CANCELLED
        if message is not None:
            last.pages_left = 0
            last.message = message
            last.end = admin_pb2.SwapRetirement.END_NOT_REMOVED if message else admin_pb2.SwapRetirement.END_CLOSED
        await context.write(last)

    async def CancelSwapRetirement(  # noqa: N802
        self, request: admin_pb2.CancelSwapRetirementRequest, context: Context
    ) -> admin_pb2.CancelSwapRetirementResponse:
        """Cancel a retirement."""
        del context
        queue = self._devices.cancel(request.device)
        return admin_pb2.CancelSwapRetirementResponse(swap_device=self._messages.swap_device(queue))

    def _progress(self, retiring: Retiring) -> admin_pb2.SwapRetirement:
        slots = self._engine.core.state.swap.devices[retiring.number]
        return admin_pb2.SwapRetirement(
            number=retiring.number, name=retiring.name, pages=retiring.pages, pages_left=slots.slots - slots.free
        )

    def _check_goes_on(self) -> None:
        """Raise Draining when the daemon's devices close anyway."""
        if self._draining():
            raise Draining("usmd is draining, which closes all swap devices")

"""gRPC health and reflection of a socket, for its own service alone.

A caller must not learn of the daemon's other service. So each socket has its own statuses, and a pool of descriptors
with only what it serves.
"""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2

from usmd.server.admission import Admission, Context
from usmd.server.rpc import service_handler

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
_REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


class Facts:
    """Health and reflection of one socket, which serves the service of `descriptor`."""

    def __init__(self, descriptor: ServiceDescriptor, admission: Admission) -> None:
        self._name = descriptor.full_name
        self._health = HealthServicer()
        served = (descriptor, _HEALTH, _REFLECTION)
        reflecting = reflection.aio.ReflectionServicer(
            [each.full_name for each in served], pool=_pool_of(each.file for each in served)
        )
        self.handlers: tuple[grpc.GenericRpcHandler, ...] = (
            service_handler(_HEALTH, _Health(self._health), reads={"": admission.read_stranger}),
            service_handler(_REFLECTION, _Reflection(reflecting, admission)),
        )

    async def serving(self) -> None:
        """Report that the service is there."""
        await self._health.set(self._name, health_pb2.HealthCheckResponse.SERVING)

    async def stopping(self) -> None:
        """Report that the service is about to end."""
        await self._health.enter_graceful_shutdown()


class _Health:
    """The methods by their names."""

    def __init__(self, servicer: HealthServicer) -> None:
        self.Check = servicer.Check
        self.Watch = servicer.Watch

    async def List(self, request: object, context: Context) -> None:  # noqa: N802
        """Not offered."""
        del request
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "usmd lists no services; ask for one by Check")


class _Reflection:
    """The method by its name."""

    def __init__(self, servicer: reflection.aio.ReflectionServicer, admission: Admission) -> None:
        self._servicer = servicer
        self._admission = admission

    async def ServerReflectionInfo(self, context: Context) -> None:  # noqa: N802
        """Answer one question after another."""
        async for answer in self._servicer.ServerReflectionInfo(self._admission.read_strangers(context), context):
            await context.write(answer)


def _pool_of(files: Iterable[FileDescriptor]) -> DescriptorPool:
    """A pool of these files and the files that they need."""
    pool = DescriptorPool()
    known: set[str] = set()

    def add(file: FileDescriptor) -> None:
        if file.name not in known:
            known.add(file.name)
            for needed in file.dependencies:
                add(needed)
            pool.AddSerializedFile(file.serialized_pb)

    for file in files:
        add(file)
    return pool

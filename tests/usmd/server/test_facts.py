"""Health and reflection tell of the service of their own socket, and of nothing else that the daemon has."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support.daemon import running_daemon
from tests.support.raw_client import open_channel

SECONDS = 30.0
SERVICES = {"client": "usm.v1.ClientService", "admin": "usm.v1.AdminService"}


@pytest.fixture(scope="module")
def sockets(tmp_path_factory):
    with running_daemon(tmp_path_factory.mktemp("daemon"), "--memory", "1MiB") as daemon:
        channels = {"client": open_channel(daemon.address), "admin": open_channel(daemon.admin_address)}
        yield channels
        for channel in channels.values():
            channel.close()


def asked(channel, **question):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(**question)
    return next(iter(stub.ServerReflectionInfo(iter([request]), timeout=SECONDS)))


def status(channel, service):
    try:
        request = health_pb2.HealthCheckRequest(service=service)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=SECONDS).status
    except grpc.RpcError as error:
        return error.code()


@pytest.mark.parametrize(("own", "other"), [("client", "admin"), ("admin", "client")])
def test_a_socket_tells_of_its_own_service_alone(sockets, own, other):
    channel = sockets[own]
    assert status(channel, SERVICES[own]) == health_pb2.HealthCheckResponse.SERVING
    assert status(channel, SERVICES[other]) == grpc.StatusCode.NOT_FOUND
    listed = {each.name for each in asked(channel, list_services="").list_services_response.service}
    assert listed == {SERVICES[own], "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert asked(channel, file_containing_symbol=SERVICES[own]).HasField("file_descriptor_response")
    for question in ({"file_containing_symbol": SERVICES[other]}, {"file_by_filename": f"usm/v1/{other}.proto"}):
        answer = asked(channel, **question)
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0], answer


def test_health_is_watched_and_not_listed(sockets):
    stub = health_pb2_grpc.HealthStub(sockets["client"])
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    with pytest.raises(grpc.RpcError) as raised:
        stub.List(health_pb2.HealthListRequest(), timeout=SECONDS)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED

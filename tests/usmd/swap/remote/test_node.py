"""One server: what exceptions of the library mean, and buffers for answers that the library has read."""

import pytest
import redis

from usmd.swap.remote.node import Node, failure_of, replies_of
from usmd.swap.remote.requests import PLACED, Failure


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (redis.OutOfMemoryError("OOM"), Failure("OutOfMemoryError: OOM", full=True)),
        (redis.ResponseError("WRONGTYPE"), Failure("ResponseError: WRONGTYPE")),
        (redis.AuthenticationError("no"), Failure("AuthenticationError: no")),
        (redis.ConnectionError("reset"), Failure("ConnectionError: reset", unknown=True)),
        (redis.TimeoutError(), Failure("TimeoutError", unknown=True)),
        (redis.BusyLoadingError("loading"), Failure("BusyLoadingError: loading", unknown=True)),
    ],
)
def test_what_an_exception_means_for_a_write(error, failure):
    assert failure_of(error) == failure


def test_an_answer_as_long_as_its_buffers_is_written_to_them():
    into = [[memoryview(bytearray(2)), memoryview(bytearray(1))], [memoryview(bytearray(2))]]
    assert replies_of([b"abc", b"d"], into) == [PLACED, b"d"]
    assert [bytes(each) for each in into[0]] == [b"ab", b"c"]


def test_a_server_that_does_not_answer_is_left_alone_for_a_moment(server):
    client = redis.Redis(unix_socket_path="/nonexistent/socket", protocol=2)
    now = 0.0
    node = Node(client, lambda: now)
    assert node.run([("GET", "some")])[0].unknown
    node.client = server.client
    assert node.run([("GET", "some")]) == [None]
    node.client = client
    for _ in range(2):
        assert node.run([("GET", "some")])[0].unknown
    node.client = server.client
    assert "asked again in a moment" in node.run([("GET", "some")])[0].why
    now = 1.0
    assert node.run([("GET", "some")]) == [None]
    assert node.breaker.why == ""

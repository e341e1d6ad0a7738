"""Connections to Redis or Valkey by the client library `redis`: one server, one behind Sentinel, or a cluster.

The library connects, authenticates, verifies certificates, finds the primary of a Sentinel, and follows a cluster's
MOVED and ASK. Requests go in one pipeline to each server, so that a server that is away fails its own requests only.
This module is imported when a device is opened, because the library is optional.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError
from redis.retry import Retry
from redis.sentinel import Sentinel

from usmd.errors import ConfigError, SwapDeviceError
from usmd.swap.remote.address import Address
from usmd.swap.remote.node import FAILED, Call, Node, failure_of, replies_of
from usmd.swap.remote.requests import Argument, Breaker, Failure, Places, Reply, Request, key_of

CONNECTIONS: Final = 16
"""Most connections to a server; a device has fewer threads."""
SCANNED: Final = 1000
_REDIRECTED: Final = (MovedError, AskError, TryAgainError, ClusterDownError)


class Access(NamedTuple):
    """How servers are talked to: passwords, files for TLS (empty: none), and seconds to wait for an answer."""

    password: str
    ca_file: str
    certificate_file: str
    key_file: str
    timeout: float
    sentinel_user: str = ""
    sentinel_password: str = ""


def connect(address: Address, access: Access, clock: Callable[[], float] = time.monotonic) -> OneServer | Cluster:
    """Connect to what an address names. Raises ConfigError for files of TLS, SwapDeviceError if there is no answer."""
    options = _options(address, access)
    try:
        if address.form == "cluster":
            nodes = [ClusterNode(host, port) for host, port in address.hosts]
            return Cluster(RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options), clock)
        server = OneServer(_client(address, access, options), clock)
    except FAILED as error:
        raise SwapDeviceError(f"{address.url}: {_cause(error)}") from error
    (answer,) = server.ask_all("PING")
    if isinstance(answer, Failure):
        server.close()
        raise SwapDeviceError(f"{address.url}: {answer.why}")
    return server


def _cause(error: BaseException) -> str:
    """The error and what caused it: the library says of a cluster only that none of its nodes can be used."""
    cause = error.__cause__
    return f"{failure_of(error).why}" + (f" ({failure_of(cause).why})" if cause is not None else "")


def _client(address: Address, access: Access, options: dict[str, Any]) -> redis.Redis:
    if address.form == "sentinel":
        sentinel = Sentinel(address.hosts, sentinel_kwargs=_for_sentinel(access, options), **options)
        client: redis.Redis = sentinel.master_for(address.service, db=address.database)
        return client
    if address.socket:
        return redis.Redis(unix_socket_path=address.socket, db=address.database, **options)
    ((host, port),) = address.hosts
    return redis.Redis(host=host, port=port, db=address.database, **options)


def _for_sentinel(access: Access, options: dict[str, Any]) -> dict[str, Any]:
    """The options for the Sentinels themselves, which have a user and a password of their own."""
    found = {key: value for key, value in options.items() if key != "max_connections"}
    return found | {"username": access.sentinel_user or None, "password": access.sentinel_password or None}


def _options(address: Address, access: Access) -> dict[str, Any]:
    options: dict[str, Any] = {
        "username": address.user or None,
        "password": access.password or None,
        "socket_timeout": access.timeout,
        "socket_connect_timeout": access.timeout,
        "max_connections": CONNECTIONS,
        # A write that failed may still happen, so the device decides what is tried again.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
        # For operators of the servers. The answer also takes what TLS sends first, which the library would take for a
        # defect of the connection.
        "client_name": "usmd",
    }
    if address.tls:
        options |= {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": access.ca_file or None,
            "ssl_certfile": access.certificate_file or None,
            "ssl_keyfile": access.key_file or None,
        }
        _check_files(access)
    return options


def _check_files(access: Access) -> None:
    """Raise ConfigError for a file of TLS that cannot be used: the library would report it as a server's failure."""
    context = ssl.create_default_context()
    for key, path in (("ca_file", access.ca_file), ("certificate_file", access.certificate_file)):
        if not path:
            continue
        try:
            if key == "ca_file":
                context.load_verify_locations(path)
            else:
                context.load_cert_chain(path, access.key_file or None)
        except OSError as error:  # ssl.SSLError too
            raise ConfigError(f"{key} {path}: {error.strerror or error}; give a file in PEM format", key) from error


def _scanned(node: Node, pattern: str) -> Iterator[list[bytes] | Failure]:
    cursor: object = 0
    while True:
        (answer,) = replies_of(node.run([("SCAN", str(cursor), "MATCH", pattern, "COUNT", SCANNED)]))
        if not isinstance(answer, tuple):
            yield answer if isinstance(answer, Failure) else Failure(f"SCAN answered {type(answer).__name__}")
            return
        cursor, keys = answer
        yield list(keys)
        if cursor == 0:
            return


def _scan_all(nodes: Sequence[Node], pattern: str) -> tuple[list[bytes], list[Failure]]:
    keys: list[bytes] = []
    failures: list[Failure] = []
    for part in (each for node in nodes for each in _scanned(node, pattern)):
        if isinstance(part, Failure):
            failures.append(part)
        else:
            keys += part
    return keys, failures


class OneServer:
    """A single server, or the primary that Sentinel names."""

    def __init__(self, client: redis.Redis, clock: Callable[[], float]) -> None:
        self._node = Node(client, clock)

    def run(self, requests: Sequence[Request], into: Places = ()) -> list[Reply]:
        """As `Servers.run`."""
        return replies_of(self._node.run(requests, into), into)

    def ask_all(self, *command: Argument) -> list[Reply]:
        """As `Servers.ask_all`."""
        return replies_of(self._node.run([command]))

    def scan(self, pattern: str) -> tuple[list[bytes], list[Failure]]:
        """As `Servers.scan`."""
        return _scan_all([self._node], pattern)

    def away(self) -> list[str]:
        """As `Servers.away`."""
        return [self._node.breaker.why] if self._node.breaker.why else []

    def close(self) -> None:
        """As `Servers.close`."""
        self._node.client.close()
        self._node.client.connection_pool.disconnect()


class Cluster:
    """The primaries of a cluster."""

    def __init__(self, client: RedisCluster, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._nodes: dict[str, Node] = {}

    def run(self, requests: Sequence[Request], into: Places = ()) -> list[Reply]:
        """As `Servers.run`. All servers are asked before the first answer is read."""
        replies: list[Reply] = [None] * len(requests)
        by_node: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            with self._failing(replies, [index]):
                by_node.setdefault(self._place(key_of(request)), []).append(index)
        answers: dict[int, Any] = {}
        if self._ask(by_node, requests, into, replies, answers):
            self._look_again()
        for index, answer in answers.items():
            places = into[index : index + 1]
            with self._failing(replies, [index]):
                if isinstance(answer, _REDIRECTED):  # the library finds the server, and remembers it
                    answer = self._client.execute_command(*requests[index])
                (replies[index],) = replies_of([answer], places)
        return replies

    def _ask(
        self,
        by_node: dict[str, list[int]],
        requests: Sequence[Request],
        into: Places,
        replies: list[Reply],
        answers: dict[int, Any],
    ) -> bool:
        """Put the answers to requests in `answers`, by index; returns whether a server has failed."""
        failed = late = False
        with ExitStack() as calls:
            sent: list[tuple[Node, int, list[int], Call]] = []
            for name, indexes in by_node.items():
                with self._failing(replies, indexes):
                    node = self._node(name)
                    before = node.breaker.failures
                    places = [into[index] for index in indexes] if into else ()
                    call = calls.enter_context(node.begin([requests[index] for index in indexes], places))
                    sent.append((node, before, indexes, call))
            for node, before, indexes, call in sent:
                answers.update(zip(indexes, call.answers(patient=not late), strict=True))
                late = late or call.late  # the others have had as long
                failed = failed or node.breaker.failures > before
        return failed

    def _place(self, key: str) -> str:
        """The name of the primary that has a key, as far as is known."""
        return str(self._client.get_node_from_key(key).name)

    @contextmanager
    def _failing(self, replies: list[Reply], indexes: Sequence[int]) -> Iterator[None]:
        """Turn an exception of the library into Failures of these requests."""
        try:
            yield
        except FAILED as error:
            for index in indexes:
                replies[index] = failure_of(error)

    def _look_again(self) -> None:
        """Ask the servers that answer which has what: a replica may have taken over."""
        try:
            self._client.nodes_manager.initialize()
        except FAILED:
            return  # none answers: the next request fails with the reason

    def _node(self, name: str) -> Node:
        with self._lock:
            node = self._nodes.get(name)
            found = self._client.get_node(node_name=name)
            if found is None:
                raise redis.ConnectionError(f"the cluster has no node {name} any more")
            client = self._client.get_redis_connection(found)
            if node is None or node.client is not client:
                breaker = node.breaker if node else Breaker(self._clock)
                node = self._nodes[name] = Node(client, self._clock)
                node.breaker = breaker
            return node

    def _primaries(self) -> list[str]:
        return [str(each.name) for each in self._client.get_primaries()]

    def ask_all(self, *command: Argument) -> list[Reply]:
        """As `Servers.ask_all`."""
        replies: list[Reply] = []
        for name in self._primaries():
            found: list[Reply] = [None]
            with self._failing(found, [0]):
                found = replies_of(self._node(name).run([command]))
            replies += found
        return replies

    def scan(self, pattern: str) -> tuple[list[bytes], list[Failure]]:
        """As `Servers.scan`."""
        try:
            return _scan_all([self._node(name) for name in self._primaries()], pattern)
        except FAILED as error:
            return [], [failure_of(error)]

    def away(self) -> list[str]:
        """As `Servers.away`."""
        present = set(self._primaries())
        with self._lock:
            failing = [(name, node.breaker.why) for name, node in self._nodes.items() if name in present]
        return [f"{name}: {why}" for name, why in failing if why]

    def close(self) -> None:
        """As `Servers.close`."""
        self._client.close()

"""Random use of all sockets of a daemon: valid messages, nearly valid ones, and noise, determined by a seed.

Each call must return an answer, or an error with a cause. Else it raises an AssertionError that names the call.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import Message

from tests.support import noise
from tests.support.daemon import RunningDaemon
from tests.support.grammar import Grammar, Value, path
from tests.support.raw_client import SECONDS, TOKEN_KEY, RawClient, open_channel
from tests.usmd.mechanism.mapped import map_memory, unmap
from usm_wire.pb.usm.v1 import admin_pb2, client_pb2
from usm_wire.userfaultfd import open_userfaultfd

PAGE: Final = 4096
DEFECTS: Final = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED)
MAX_KEPT: Final = 12
"""Most things of one kind that are open at a time."""
_CLIENT: Final = client_pb2.DESCRIPTOR.services_by_name["ClientService"].methods
_ADMIN: Final = [each for each in admin_pb2.DESCRIPTOR.services_by_name["AdminService"].methods if each.name != "Drain"]
_SCRATCH_PAGES: Final = 16
_SPECIFICATIONS: Final = (
    "lru", "s3_fifo", "arc", "hint_aware(fallback=arc)", "flexible_huge_pages(pages=8)", "refuse", "kill_largest",
    "trim", "swap_back", "first_fit", "async_aware", "none", "nope", "lru(", "lru(x=1)", "/etc/passwd.py:X", "a" * 5000,
)  # fmt: skip


def scraped(daemon: RunningDaemon) -> list[str | tuple[str, int]]:
    """The places of metrics: a path, and host and port where there is one."""
    return [
        place.removeprefix("unix:") if place.startswith("unix:") else (urlsplit(place).hostname, urlsplit(place).port)
        for place in daemon.wait_for("ready")["metrics"].split(", ")
    ]


class Fuzz:
    """Random clients, operators and strangers of one daemon. `close` ends all."""

    def __init__(self, daemon: RunningDaemon, seed: str) -> None:
        self._daemon = daemon
        self._source = random.Random(seed)
        self._grammar = Grammar(self._source, self._known)
        self.statuses: Counter[str] = Counter()
        """Number of calls by status."""
        self._sessions: list[RawClient] = []
        self._tokens: list[Value] = [""]
        self._begun: list[str] = []
        """The tokens of all sessions that ever began."""
        self._regions: dict[str | None, list[Value]] = {}
        """Session token → regions."""
        self._current: str | None = None
        """The token of this call."""
        self._processes: list[Value] = [0]
        self._sockets: list[socket.socket] = []
        self._descriptors: list[int] = []
        self._calls: list[Any] = []
        self._clients = open_channel(daemon.address)
        self._operators = open_channel(daemon.admin_address)
        self._scraped = scraped(daemon)
        self._scratch = map_memory(_SCRATCH_PAGES * PAGE)
        self._actions: list[tuple[int, Callable[[], None]]] = [
            (9, self._attach), (2, self._detach), (30, self._client_call), (6, self._client_noise), (8, self._map),
            (12, self._stream), (8, self._admin_call), (2, self._admin_noise), (8, self._stranger), (3, self._identity),
            (12, self._memory), (12, self._metrics), (3, self._close_something),
        ]  # fmt: skip

    def _known(self, field: str) -> list[Value]:
        many: dict[str, list[Value]] = {
            "region_id": self._some_regions(), "unmapped_region_ids": self._some_regions(),
            "process_id": self._processes, "process_ids": self._processes, "session_token": self._tokens,
            "page_count": [1, 2, 16],
            "first_page": [0, 1, 15], "pages": [0, 1, 15], "offset": [0, PAGE, 5], "length": [PAGE, 16 * PAGE, 100],
            "address": [self._scratch, self._scratch + PAGE, self._scratch + 1],
            "alloc": [*_SPECIFICATIONS], "evict": [*_SPECIFICATIONS], "oom": [*_SPECIFICATIONS],
            "cond": [*_SPECIFICATIONS], "policies": [*_SPECIFICATIONS], "page_token": ["", "1", "-1", "x"],
        }  # fmt: skip
        return many.get(field, [])

    def _some_regions(self) -> list[Value]:
        """Mostly regions of the calling session, else of any session."""
        own = self._regions.get(self._current, [])
        if own and self._source.random() < 0.9:
            return own
        return [each for regions in self._regions.values() for each in regions] or [1]

    def step(self) -> None:
        """Do one random action."""
        weights, actions = zip(*self._actions, strict=True)
        (action,) = self._source.choices(actions, weights)
        action()

    def _keep(self, things: list[Any], thing: Any, close: Callable[[Any], object]) -> None:
        things.append(thing)
        if len(things) > MAX_KEPT:
            close(things.pop(self._source.randrange(MAX_KEPT)))

    def _judge(self, call: Callable[[], Any], what: str) -> Any:
        try:
            found = call()
        except grpc.RpcError as error:
            self.statuses[error.code().name] += 1
            if error.code() in DEFECTS:
                raise AssertionError(f"{what}: {error.code().name} {error.details()}") from error
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                self._forget(self._current)
            return None
        self.statuses["OK"] += 1
        return found

    def _forget(self, token: str | None) -> None:
        """A session has ended. Its token is still used now and then."""
        for session in [each for each in self._sessions if each.token == token]:
            self._sessions.remove(session)
            session.close()

    # Clients

    def _attach(self) -> None:
        session = self._judge(
            lambda: RawClient(self._daemon.address, self._source.choice(("app", "", "é" * 30))), "Attach"
        )
        if session is not None:
            self._begin(session.token)
            self._processes = [*self._processes, session.attached.process_id][-MAX_KEPT:]
            if self._source.random() < 0.9:  # a session without a stream ends by itself
                session.stream()
            self._keep(self._sessions, session, RawClient.close)

    def _begin(self, token: str) -> None:
        self._begun.append(token)
        self._tokens = [*self._tokens, token][-MAX_KEPT:]

    def _token(self) -> str | None:
        if self._sessions and self._source.random() < 0.9:
            self._current = self._source.choice(self._sessions).token
        else:
            self._current = self._source.choice([*self._tokens, None])
        return self._current

    def _map(self) -> None:
        request = client_pb2.MapRegionRequest(length=self._source.choice((1, PAGE, 16 * PAGE, 64 * PAGE)))
        found = self._call(self._clients, "/usm.v1.ClientService/MapRegion", request.SerializeToString(), self._token())
        if found is not None:
            self._regions.setdefault(self._current, []).append(client_pb2.Region.FromString(found).region_id)

    def _call(self, channel: grpc.Channel, name: str, data: bytes, token: str | None) -> bytes | None:
        metadata = () if token is None else ((TOKEN_KEY, token),)
        work = channel.unary_unary(name)
        found: bytes | None = self._judge(
            lambda: work(data, metadata=metadata, timeout=SECONDS), f"{name} {data[:300]!r}"
        )
        return found

    def _client_call(self) -> None:
        method = self._source.choice([each for each in _CLIENT if not each.client_streaming])
        token = self._token()
        message = self._grammar.message(method.input_type)
        found = self._call(self._clients, path(method), message.SerializeToString(), token)
        if found is not None and method.name == "Attach":
            self._begin(client_pb2.AttachResponse.FromString(found).session_token)

    def _client_noise(self) -> None:
        method = self._source.choice(_CLIENT)
        if not method.client_streaming:
            self._call(
                self._clients, path(method), self._spoilt(self._grammar.message(method.input_type)), self._token()
            )

    def _spoilt(self, message: Message) -> bytes:
        data = bytearray(message.SerializeToString()) or bytearray(b"\n\1x")
        for _ in range(self._source.choice((1, 2, 8))):
            match self._source.randrange(3):
                case 0:
                    data[self._source.randrange(len(data))] = self._source.randrange(256)
                case 1:
                    del data[self._source.randrange(len(data)) + 1 :]
                case 2:
                    data[self._source.randrange(len(data)) :] = self._source.randbytes(
                        self._source.choice((1, 9, 3000))
                    )
        return bytes(data)

    def _stream(self) -> None:
        if not self._sessions:
            return
        session = self._source.choice(self._sessions)
        self._current = session.token
        stream = session.stream()
        message = self._grammar.message(client_pb2.StreamFaultsRequest.DESCRIPTOR)
        stream.send_bytes(self._spoilt(message) if self._source.random() < 0.05 else message.SerializeToString())

    def _detach(self) -> None:
        if self._sessions:
            self._sessions.pop(self._source.randrange(len(self._sessions))).close()

    # Operators

    def _admin_call(self) -> None:
        method = self._source.choice(_ADMIN)
        data = self._grammar.message(method.input_type).SerializeToString()
        if method.server_streaming:
            call = self._operators.unary_stream(path(method))(data, timeout=SECONDS)
            self._keep(self._calls, call, lambda each: each.cancel())
        else:
            self._call(self._operators, path(method), data, None)

    def _admin_noise(self) -> None:
        method = self._source.choice([each for each in _ADMIN if not each.server_streaming])
        self._call(self._operators, path(method), self._spoilt(self._grammar.message(method.input_type)), None)

    # Strangers

    def _connect(self, name: str | tuple[str, int], kind: int) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX if isinstance(name, str) else socket.AF_INET, kind)
        connection.settimeout(SECONDS)
        try:
            connection.connect(name)
        except OSError:
            connection.close()
            return None
        self._keep(self._sockets, connection, socket.socket.close)
        return connection

    def _say(self, connection: socket.socket | None, data: bytes, descriptors: list[int]) -> None:
        if connection is not None:
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # the daemon may have closed it
                socket.send_fds(connection, [data], descriptors)

    def _stranger(self) -> None:
        """Bytes and frames on a gRPC socket."""
        address, methods = self._source.choice(((self._daemon.address, _CLIENT), (self._daemon.admin_address, _ADMIN)))
        data = self._source.randbytes(self._source.choice((1, 100, 5000)))
        if self._source.random() < 0.8:
            data = noise.http2(self._source, path(self._source.choice(methods)))
        self._say(self._connect(address.removeprefix("unix:"), socket.SOCK_STREAM), data, [])

    def _metrics(self) -> None:
        data = noise.http1(self._source) if self._source.random() < 0.8 else noise.http2(self._source, "/metrics")
        connection = self._connect(self._source.choice(self._scraped), socket.SOCK_STREAM)
        self._say(connection, data, [])
        if connection is not None and self._source.random() < 0.3:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)

    def _identity(self) -> None:
        name = self._daemon.address.removeprefix("unix:") + ".identity"
        self._say(self._connect(name, socket.SOCK_STREAM), self._source.randbytes(self._source.choice((1, 9000))), [])

    def _memory(self) -> None:
        name = self._daemon.address.removeprefix("unix:") + ".memory"
        known = [each for each in self._sockets if each.type == socket.SOCK_SEQPACKET]
        connection = self._source.choice(known) if known and self._source.random() < 0.6 else None
        connection = connection or self._connect(name, socket.SOCK_SEQPACKET)
        message = self._grammar.message(client_pb2.MemoryRequest.DESCRIPTOR)
        data = self._spoilt(message) if self._source.random() < 0.3 else message.SerializeToString()
        self._say(connection, data, [self._descriptor() for _ in range(self._source.choice((0, 0, 1, 1, 1, 3, 9)))])

    def _descriptor(self) -> int:
        match self._source.randrange(4):
            case 0:
                descriptor = os.memfd_create("fuzz")
            case 1:
                descriptor = os.open(os.devnull, os.O_RDWR)
            case _:
                descriptor, _ = open_userfaultfd()
        self._keep(self._descriptors, descriptor, os.close)
        return descriptor

    # The end

    def _close_something(self) -> None:
        if self._sockets:
            self._sockets.pop(self._source.randrange(len(self._sockets))).close()

    def close(self) -> None:
        """Close everything that is open, and end sessions that are without a stream, which would end only later."""
        detach = self._clients.unary_unary("/usm.v1.ClientService/Detach")
        for call in [detach.future(b"", metadata=((TOKEN_KEY, token),), timeout=SECONDS) for token in self._begun]:
            call.exception()
        for call in self._calls:
            call.cancel()
        for thing in (*self._sockets, *self._sessions, self._clients, self._operators):
            thing.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        unmap(self._scratch, _SCRATCH_PAGES * PAGE)

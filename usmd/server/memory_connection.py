"""One client's connection to the memory socket: its packets, its faults, and its end.

A packet is a MemoryRequest of the proto, its answer a MemoryReply; descriptors travel beside them. The kernel vouches
for the peer. The session was begun by gRPC and is named by its token, or it is begun here. It ends with the connection,
or when the process dies, which a pidfd reports. Everything runs on the loop, in callbacks that do not wait.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Final

from usm_wire.conventions import MAX_PACKET_BYTES
from usm_wire.pb.usm.v1 import client_pb2
from usmd import log
from usmd.errors import InvalidArgument, LimitExceeded, NotFound, SessionKilled, UnknownSession, UsmdError
from usmd.mechanism import uffd
from usmd.mechanism.base import Busy
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.real_region import RealRegion
from usmd.mechanism.userfaultfd import UserfaultfdMemory
from usmd.policy_rules import Choice
from usmd.server.allowance import Allowance
from usmd.server.engine import Engine
from usmd.server.fault_reader import FaultReader
from usmd.server.fault_wakeup import Sleep
from usmd.server.few_a_turn import FewATurn
from usmd.server.few_ready import FewReady
from usmd.server.guaranteed_faults import GuaranteedFaults
from usmd.server.local_stream import LocalStreams
from usmd.server.memory_packets import MAX_DESCRIPTORS, peer_pidfd, reply_of, request_of, send_kill
from usmd.server.session_calls import EMPTIED_SECONDS, SessionCalls
from usmd.server.sessions import ENDS_A_TURN, Session, Sessions
from usmd.server.touch_sampling import TouchSampling

Opening = client_pb2.MemoryAttach | client_pb2.MemoryBegin
HINT_SECONDS: Final = 60.0
"""Longest wait for a hint to be applied to its pages in memory."""
READ_A_TURN: Final = 4
"""Packets and deaths of clients that are read in one turn of the loop, because very many may come at the same time."""
AGAIN_SECONDS: Final = 0.005
"""Time between two tries to answer a request that must wait."""


@dataclass
class Surroundings:
    """What all connections share. `dispose` closes a descriptor of a peer without waiting for that.

    `features` are enabled on each userfaultfd. A connection without a session is closed after `timeout` seconds.
    """

    engine: Engine
    memory: UserfaultfdMemory
    sessions: Sessions
    calls: SessionCalls
    wakeup: Sleep
    features: uffd.Feature
    timeout: float
    allowance: Allowance
    sampling: TouchSampling
    streams: LocalStreams
    guaranteed: GuaranteedFaults
    dispose: Callable[[int], None]
    ends: FewATurn = field(default_factory=lambda: FewATurn(ENDS_A_TURN))
    ready: FewReady = field(default_factory=lambda: FewReady(READ_A_TURN))
    connections: set[Connection] = field(default_factory=set)
    """Open connections."""


class Connection:
    """An accepted connection, open until `close`."""

    def __init__(self, around: Surroundings, peer: socket.socket, pid: int, uid: int) -> None:
        self._around = around
        self._peer = peer
        self._pid = pid
        self._uid = uid
        self._pidfd: int | None = None
        self.session: Session | None = None
        """The session whose memory this is."""
        self._client: ClientMemory | None = None
        self._faults: FaultReader | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(around.timeout, self.close)
        """Closes a connection without a session; later, tries again to answer a request that must wait."""
        around.ready.add(peer.fileno(), self._readable)
        around.connections.add(self)

    # Packets

    def _readable(self) -> None:
        try:
            data, descriptors, flags, _ = socket.recv_fds(
                self._peer, MAX_PACKET_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self._ended("its memory connection broke")
            return
        self._serve(data, descriptors, flags)

    def _serve(self, data: bytes, descriptors: list[int], flags: int) -> None:
        try:
            if data or descriptors:
                self._serve_packet(data, descriptors, flags)
            else:
                self._gone(self._peer.fileno(), "its memory connection was closed")
        except Exception:  # noqa: BLE001 - logged with its traceback, and the session ends
            log.event("defect", exc_info=True, method="usmd memory socket")
            self._ended("usmd could not do what its memory connection asked; a defect of usmd")
        finally:
            for descriptor in descriptors:
                self._around.dispose(descriptor)

    def _serve_packet(self, data: bytes, descriptors: list[int], flags: int) -> None:
        """Answer a packet; descriptors that are kept are removed from the list."""
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise InvalidArgument(
                    f"a packet with more than {MAX_PACKET_BYTES} bytes or {MAX_DESCRIPTORS} descriptors; send less"
                )
            self._handle(request_of(data), descriptors)
        except Busy:
            self._later(lambda: False, lambda: self._serve(data, [], 0), AGAIN_SECONDS)
        except UsmdError as error:
            self._answer(reply_of(error))
            if self._client is None:
                self._around.sessions.refusals.add(self._uid, self._pid, str(error))
                self.close()  # a stranger has one try

    def _handle(self, request: client_pb2.MemoryRequest, descriptors: list[int]) -> None:
        """Do what a packet asks, and answer it; `descriptors` as for `_serve_packet`."""
        kind = request.WhichOneof("request")
        if kind == "attach":
            self._attach(request.attach, descriptors)
        elif kind == "begin":
            self._begin(request.begin, descriptors)
        elif descriptors:
            raise InvalidArgument(f"{len(descriptors)} descriptors came with a request that takes none")
        elif kind == "region":
            self._answer(client_pb2.MemoryReply(), self._region(request.region.region_id).share())
        elif kind == "mapped":
            self._mapped(request.mapped.region_id, request.mapped.address)
        elif kind == "map":
            region = self._around.calls.map(self._live_session(), request.map)
            self._answer(client_pb2.MemoryReply(region=region), self._region(region.region_id).share())
        elif kind == "unmap":
            self._unmap(request.unmap.region_id)
        elif kind == "hint":
            response = self._around.calls.hint(self._live_session(), request.hint)
            self._later(response.done, lambda: self._hinted(response), HINT_SECONDS)
        elif kind == "discard":
            done = self._around.calls.discard(self._live_session(), request.discard)
            self._after(done, lambda: self._answer(client_pb2.MemoryReply()))
        elif kind == "stream":
            with self._around.streams.open(self._live_session()) as end:
                self._answer(client_pb2.MemoryReply(), [end.fileno()])

    def _hinted(self, response: asyncio.Future[client_pb2.HintRegionResponse]) -> None:
        if response.done():
            self._answer(client_pb2.MemoryReply(hint=response.result()))
        else:
            late = f"the hint is in force, but not on all pages after {HINT_SECONDS:g} s"
            self._answer(reply_of(LimitExceeded(late)))

    def _later(self, ready: Callable[[], bool], then: Callable[[], None], seconds: float) -> None:
        """Call `then` when `ready`, or `seconds` later. No packet is read before, so that replies keep their order."""
        if self not in self._around.connections:
            return  # the request has ended it
        self._around.ready.remove(self._peer.fileno())
        self._look(ready, then, self._around.engine.now() + seconds)

    def _after(self, done: asyncio.Future[int], then: Callable[[], None]) -> None:
        """Call `then` as soon as `done` is, else as `_later`."""
        if done.done():
            then()
            return
        self._around.ready.remove(self._peer.fileno())

        def go_on(_: asyncio.Future[int]) -> None:
            if self in self._around.connections:
                self._around.ready.add(self._peer.fileno(), self._readable)
                then()

        done.add_done_callback(go_on)

    def _look(self, ready: Callable[[], bool], then: Callable[[], None], latest: float) -> None:
        if not ready() and self._around.engine.now() < latest:
            self._timer = self._loop.call_later(AGAIN_SECONDS, self._look, ready, then, latest)
            return
        self._around.ready.add(self._peer.fileno(), self._readable)
        then()

    def _answer(self, reply: client_pb2.MemoryReply, descriptors: list[int] | None = None) -> None:
        # A reply is never empty, or it would look like the end of the connection.
        data = reply.SerializeToString() or client_pb2.MemoryReply(message="ok").SerializeToString()
        try:
            socket.send_fds(self._peer, [data], descriptors or [])
        except OSError:  # the client does not read, or is gone
            self._ended("its memory connection broke")

    # Requests

    def _attach(self, attach: client_pb2.MemoryAttach, descriptors: list[int]) -> None:
        self._check_userfaultfd("attach", descriptors)
        session = self._around.sessions.find(attach.session_token)
        # A token that another process shows was stolen.
        foreign = session.identity is not None and session.identity.pid != self._pid
        if foreign or any(each.session is session for each in self._around.connections):
            raise UnknownSession("no session of this process without a memory connection has this token; attach first")
        _, theirs = self._take(attach, descriptors, lambda: session)
        self._hand_over(client_pb2.MemoryReply(), theirs)

    def _begin(self, begin: client_pb2.MemoryBegin, descriptors: list[int]) -> None:
        self._check_userfaultfd("begin", descriptors)
        sessions = self._around.sessions
        session, theirs = self._take(
            begin,
            descriptors,
            lambda: sessions.begin(
                begin.name,
                self._pid,
                self._uid,
                Choice(begin.alloc, begin.evict, begin.memory_max),
                self._session_over,
            ),
        )
        begun = client_pb2.MemoryBegun(
            process_id=session.process_id,
            page_size=self._around.engine.core.state.settings.page_size,
            capacity_bytes=self._around.engine.capacity,
        )
        self._hand_over(client_pb2.MemoryReply(begun=begun), theirs)

    def _hand_over(self, reply: client_pb2.MemoryReply, theirs: socket.socket | None) -> None:
        """Answer with a socket, if there is one, which is closed here."""
        with theirs or nullcontext():
            self._answer(reply, [] if theirs is None else [theirs.fileno()])

    def _check_userfaultfd(self, kind: str, descriptors: list[int]) -> None:
        if self._client is not None:
            raise InvalidArgument("this connection has a userfaultfd already; there is one a session")
        if len(descriptors) != 1:
            raise InvalidArgument(f"{len(descriptors)} descriptors came with {kind}; exactly one is allowed")
        if not uffd.is_userfaultfd(descriptors[0]):
            raise InvalidArgument(f"the descriptor that came with {kind} is not a userfaultfd")

    def _take(
        self, wanted: Opening, descriptors: list[int], session_of: Callable[[], Session]
    ) -> tuple[Session, socket.socket | None]:
        """Serve the faults of a userfaultfd for the session of `session_of`, called last; raises UsmdError.

        Returns the session, and a socket for the client, or None; see `TouchSampling.begin`.
        """
        try:
            pidfd = peer_pidfd(self._peer, self._pid)
        except OSError as error:
            raise LimitExceeded(f"process {self._pid} cannot be watched: {error.strerror}") from error
        around = self._around
        page_size = around.engine.core.state.settings.page_size
        try:
            features = around.features if wanted.system_calls_fault else around.features & ~uffd.HEARS_TOUCHES
            client = ClientMemory(descriptors[0], features, page_size, self._pid, around.engine.now)
            session = session_of()
        except OSError as error:
            os.close(pidfd)
            raise InvalidArgument(
                f"the kernel refuses the handshake on this userfaultfd ({error.strerror}); hand over a fresh one, on "
                "which UFFDIO_API was not called"
            ) from error
        except UsmdError:
            os.close(pidfd)  # the userfaultfd is still among the descriptors
            raise
        descriptors.clear()  # the client memory owns it now
        self._timer.cancel()
        self._pidfd, self._client, self.session = pidfd, client, session
        around.allowance.settle(self._uid)
        around.ready.add(pidfd, lambda: self._gone(pidfd, "its client is gone"))
        self._faults = FaultReader(
            around.engine, around.sampling, around.wakeup, around.guaranteed, client, session, self._pid, self._ended
        )
        theirs = around.sampling.begin(client, session.process_id, pidfd, takes_out=wanted.takes_pages_out)
        return session, theirs

    def _region(self, region_id: int) -> RealRegion:
        session = self._live_session()
        self._around.engine.core.state.region(session.process_id, region_id)
        region = self._around.memory.region(region_id)
        if region is None:
            raise NotFound(f"no region {region_id} in this session")
        return region

    def _live_session(self) -> Session:
        if self.session is None:
            raise UnknownSession(
                "this connection has no session; the first request is attach or begin, with a userfaultfd"
            )
        return self._around.sessions.find(self.session.token)

    def _mapped(self, region_id: int, address: int) -> None:
        region = self._region(region_id)
        client = self._client
        if region.client is not None or client is None:
            raise InvalidArgument(f"region {region_id} is mapped already; a region can be mapped once")
        if address <= 0 or address % uffd.HARDWARE_PAGE:
            raise InvalidArgument(f"address {address:#x}; allowed is a multiple of {uffd.HARDWARE_PAGE} above 0")
        try:
            self._around.memory.connect(region, client, address)
        except (OSError, struct.error) as error:
            raise InvalidArgument(
                f"region {region_id} cannot be served at {address:#x}: {error}; map all of its memfd there, shared"
            ) from error
        self._answer(client_pb2.MemoryReply())

    def _unmap(self, region_id: int) -> None:
        calls = self._around.calls
        calls.unmap(self._live_session(), region_id)
        self._later(
            lambda: calls.is_emptied(region_id), lambda: self._answer(client_pb2.MemoryReply()), EMPTIED_SECONDS
        )

    def check(self) -> None:
        """End the session if its regions are in too many pieces, or if its userfaultfd reports no more faults."""
        if self._faults is not None:
            self._faults.check()

    # End

    def give_up(self) -> None:
        """End the session after a defect in looking after its memory."""
        self._ended("usmd could not look after its memory; a defect of usmd")

    def kill_process_of(self, client: ClientMemory) -> None:
        """Kill the process if `client` is its memory, in which the loop stands. Called on another thread.

        The loop does the rest when the pidfd reports the death.
        """
        session, pidfd = self.session, self._pidfd
        if self._client is client and session is not None and pidfd is not None:
            killed = send_kill(pidfd)
            reason = "usmd hung in a system call on its memory; it must not hold a lock of its address space for long"
            log.event("client_ended", process_id=session.process_id, pid=self._pid, reason=reason, killed=killed)

    def kill(self, reason: str) -> None:
        """Kill the process, because other clients wait for it; the session ends even if usmd may not kill it."""
        session, pidfd = self.session, self._pidfd
        if session is None or pidfd is None:
            return
        killed = send_kill(pidfd)
        log.event("client_ended", process_id=session.process_id, pid=self._pid, reason=reason, killed=killed)
        self._around.sessions.end(session, reason, SessionKilled(reason))
        self.close(poison=True)

    def _session_over(self) -> None:
        """Report the end of a session that was begun here: its client has no other connection."""
        error = None if self.session is None else self.session.end_error
        if error is not None and self in self._around.connections:
            self._answer(reply_of(error))
        self.close(poison=True)

    def _gone(self, descriptor: int, reason: str) -> None:
        """End as `_ended` does, in a later turn of the loop if many end in this one. The descriptor has said so."""
        self._around.ready.remove(descriptor)
        self._around.ends.call(lambda: self._ended(reason))

    def _ended(self, reason: str) -> None:
        """End the session and the connection, because the client is gone or has broken a rule."""
        if self.session is not None:
            self._around.sessions.end(self.session, reason)
        self.close(poison=True)

    def close(self, *, poison: bool = False) -> None:
        """Close everything; a second call does nothing. `poison`: touches of missing pages then raise SIGBUS."""
        around = self._around
        if self not in around.connections:
            return
        around.connections.discard(self)
        around.allowance.leave(self._uid, waiting=self.session is None)
        self._timer.cancel()
        around.ready.remove(self._peer.fileno())
        around.dispose(self._peer.detach())
        if self._pidfd is not None:
            around.ready.remove(self._pidfd)
            os.close(self._pidfd)
        if self._client is not None:
            if self._faults is not None:
                self._faults.close()
            around.sampling.end(self._client)
            around.memory.farewell(self._client, poison=poison)
            self._client = None

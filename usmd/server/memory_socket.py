"""The memory socket: a client hands over its userfaultfd, and gets the memory of its regions; and its faults are read.

A packet is a MemoryRequest of the proto, its answer a MemoryReply; descriptors travel beside them. The kernel vouches
for the peer, the session's token ties it to its gRPC session, and a pidfd ends the session when the process dies. A
connection that says nothing, or anything wrong, is closed, with every descriptor that came by it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import signal
import socket
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from lib_usm.pb.usm.v1 import client_pb2
from usmd import log
from usmd.core import events
from usmd.errors import InvalidArgument, LimitExceeded, NotFound, SessionKilled, UnknownSession, UsmdError
from usmd.mechanism import uffd
from usmd.mechanism.base import Busy
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.userfaultfd import RealRegion, UserfaultfdMemory
from usmd.server.allowance import Allowance
from usmd.server.engine import Engine
from usmd.server.fault_wakeup import Sleep
from usmd.server.identity import bound, peer_of
from usmd.server.sessions import Session, Sessions
from usmd.server.stream_messages import failure_reason

MAX_CONNECTIONS: Final = 4096
MAX_PACKET: Final = 4096
MAX_DESCRIPTORS: Final = 8
"""Descriptors taken from a packet, so that too many are seen, and closed."""
BACKLOG: Final = 128
MAX_PIECES: Final = 4096
"""Pieces that the regions of a client may be in."""
REST_SECONDS: Final = 1.0
"""For how long no connection is taken after one could not be."""
TICKS_PER_AUDIT: Final = 10
MAX_TAKEN: Final = 256
"""Pages of the hardware's size that a process may have in memory without having been given them."""
AGAIN_SECONDS: Final = 0.005
"""After which a request is served again that could not be served yet."""
MAX_ROUNDS: Final = 16
"""Reads of one client's faults at a stretch; then others have their turn."""
_SO_PEERPIDFD: Final = 77
"""Linux 6.5: no other process can have got the number meanwhile. Python 3.11 has no name for it."""


def _peer_pidfd(peer: socket.socket, pid: int) -> int:
    """A pidfd of the process at the other end; raises OSError."""
    try:
        size = struct.calcsize("i")
        return int(struct.unpack("i", peer.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, size))[0])
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
    return os.pidfd_open(pid)


def send_kill(pidfd: int) -> bool:
    """Send SIGKILL; whether that was allowed. A process that has ended counts as killed."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


class MemorySocket:
    """Listens, and keeps the connections. `features` are what is agreed on with each userfaultfd."""

    def __init__(
        self,
        engine: Engine,
        memory: UserfaultfdMemory,
        sessions: Sessions,
        wakeup: Sleep,
        features: uffd.Feature,
        *,
        timeout: float,
        of_user: int = MAX_CONNECTIONS,
        in_all: int = MAX_CONNECTIONS,
    ) -> None:
        self.engine = engine
        self.memory = memory
        self.sessions = sessions
        self.wakeup = wakeup
        self.features = features
        self.timeout = timeout
        self.connections: set[Connection] = set()
        memory.on_held = self._held
        self.allowance = Allowance("memory", of_user, min(in_all, MAX_CONNECTIONS))
        self._ticks = 0
        self._unwanted: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._close_unwanted, name="usmd-closer", daemon=True).start()
        self._listener: socket.socket | None = None
        self._listen_again: asyncio.TimerHandle | None = None

    def serve(self, path: Path, mode: int) -> None:
        """Listen on `path`, with this file mode from the first moment on."""
        listener = bound(path, mode, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        listener.listen(BACKLOG)
        self._listener = listener
        self._listen(listener)

    def _listen(self, listener: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            peer, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Out of descriptors, most likely, and the peer goes on waiting: look again later, or this is all we do.
            log.event("memory_socket_refused", error=error.strerror)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            self._listen_again = loop.call_later(REST_SECONDS, self._listen, listener)
            return
        pid, uid, _ = peer_of(peer)
        if (why := self.allowance.enter(uid, pid)) is not None:
            peer.setblocking(False)
            reply = client_pb2.MemoryReply(reason=failure_reason(LimitExceeded(why)), message=why)
            with suppress(OSError):
                peer.send(reply.SerializeToString())
            peer.close()
            return
        self.connections.add(Connection(self, peer, pid, uid))

    def dispose(self, descriptor: int) -> None:
        """Close what came from a stranger, or has such in its queue, where it can take as long as it likes.

        A socket with SO_LINGER, for instance, makes its last close wait for as long as its maker wants.
        """
        self._unwanted.put(descriptor)

    def _close_unwanted(self) -> None:
        while True:
            with suppress(OSError):
                os.close(self._unwanted.get())

    def tick(self) -> None:
        """Time has passed."""
        self.wakeup.tick()
        self.memory.tick()
        self._ticks += 1
        if self._ticks % TICKS_PER_AUDIT == 0:
            for connection in list(self.connections):
                try:
                    connection.check()
                    self._audit(connection)
                except Exception:  # noqa: BLE001 - logged with its traceback; one client is no reason to stop
                    log.event("defect", exc_info=True, method="usmd memory socket")
                    connection.give_up()

    def _held(self, region_id: int, why: str) -> None:
        """A client has made the loop wait for its memory."""
        processes = self.engine.core.state.processes
        for connection in list(self.connections):
            session = connection.session
            process = None if session is None else processes.get(session.process_id)
            if process is not None and region_id in process.regions:
                connection.kill(why)

    def kill_process_of(self, client: ClientMemory) -> None:
        """End the process of a client in whose memory the loop stands. Called on another thread.

        The rest of its end is the loop's, which its pidfd tells.
        """
        for connection in list(self.connections):
            connection.kill_process_of(client)

    def _audit(self, connection: Connection) -> None:
        """End the session of a client that writes into its memfds where it was given no page.

        It has the right to map them, and so can; but memory is the daemon's to give, and others would pay for it.
        """
        session = connection.session
        process = None if session is None else self.engine.core.state.processes.get(session.process_id)
        if session is None or process is None:
            return
        each = self.engine.core.state.settings.page_size // uffd.HARDWARE_PAGE
        taken = 0
        for region in process.regions.values():
            real = self.memory.region(region.region_id)
            if real is not None:
                taken += max(real.pages_in_memory() - region.resident * each, 0)
        if taken > MAX_TAKEN:
            reason = (
                f"{taken} pages of {uffd.HARDWARE_PAGE} bytes are in its memfds that usmd did not put there; a memfd "
                "is to be mapped, and not to be written to"
            )
            self.sessions.end(session, reason, SessionKilled(reason))

    def close(self) -> None:
        """Stop listening, make what is missing in the clients an error, and close all connections."""
        if self._listen_again is not None:
            self._listen_again.cancel()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        for connection in list(self.connections):
            connection.close(poison=True)


class Connection:
    """One client's connection. Everything runs on the loop, in callbacks, and nothing waits."""

    def __init__(self, owner: MemorySocket, peer: socket.socket, pid: int, uid: int) -> None:
        self._owner = owner
        self._peer = peer
        peer.setblocking(False)
        self._pid = pid
        self._uid = uid
        self._pidfd: int | None = None
        self._session: Session | None = None
        self._client: ClientMemory | None = None
        self._reading = False
        self._loop = asyncio.get_running_loop()
        self._expiry = self._loop.call_later(owner.timeout, self.close)
        self._loop.add_reader(peer, self._readable)

    # Packets

    def _readable(self) -> None:
        try:
            data, descriptors, flags, _ = socket.recv_fds(
                self._peer, MAX_PACKET, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
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
                self._ended("its memory connection was closed")
        except Exception:  # noqa: BLE001 - logged with its traceback, and the client is told by the end of its session
            log.event("defect", exc_info=True, method="usmd memory socket")
            self._ended("usmd could not do what its memory connection asked; a defect of usmd")
        finally:
            for descriptor in descriptors:
                self._owner.dispose(descriptor)

    def _serve_packet(self, data: bytes, descriptors: list[int], flags: int) -> None:
        """Answer a packet; what is kept of the descriptors leaves the list."""
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise InvalidArgument(
                    f"a packet with more than {MAX_PACKET} bytes or {MAX_DESCRIPTORS} descriptors; send less"
                )
            answer = self._handle(data, descriptors)
        except Busy:
            self._loop.remove_reader(self._peer)  # replies come in the order of their requests
            self._expiry = self._loop.call_later(AGAIN_SECONDS, self._again, data)
        except UsmdError as error:
            self._answer([], error)
            if self._client is None:
                self.close()  # a stranger has one try
        else:
            self._answer(answer)

    def _again(self, data: bytes) -> None:
        """Serve a request once more that could not be served yet; the client waits for its reply."""
        self._loop.add_reader(self._peer, self._readable)
        self._serve(data, [], 0)

    def _handle(self, data: bytes, descriptors: list[int]) -> list[int]:
        """Do what a packet asks; returns the descriptors that go with the answer. What is kept leaves the list."""
        try:
            request = client_pb2.MemoryRequest.FromString(data)
        except DecodeError:
            raise InvalidArgument("the packet is no MemoryRequest") from None
        kind = request.WhichOneof("request")
        if kind == "attach":
            self._attach(request.attach.session_token, descriptors)
            return []
        if descriptors:
            raise InvalidArgument(f"{len(descriptors)} descriptors came with a request that takes none")
        if kind == "region":
            return self._region(request.region.region_id).share()
        if kind == "mapped":
            self._mapped(request.mapped.region_id, request.mapped.address)
            return []
        raise InvalidArgument("the packet asks for nothing; send attach, region or mapped")

    def _answer(self, descriptors: list[int], error: UsmdError | None = None) -> None:
        reply = client_pb2.MemoryReply()
        if error is not None:
            reply.reason = failure_reason(error)
            reply.message = str(error)[:1000]
        # A reply is never empty, or it would look like the end of the connection.
        data = reply.SerializeToString() or client_pb2.MemoryReply(message="ok").SerializeToString()
        try:
            socket.send_fds(self._peer, [data], descriptors)
        except OSError:  # full, because the client does not read, or gone
            self._ended("its memory connection broke")

    def _attach(self, token: str, descriptors: list[int]) -> None:
        if self._client is not None:
            raise InvalidArgument("this connection has a userfaultfd already; there is one a session")
        if len(descriptors) != 1:
            raise InvalidArgument(f"{len(descriptors)} descriptors came with attach; exactly one is allowed")
        descriptor = descriptors[0]
        if not uffd.is_userfaultfd(descriptor):
            raise InvalidArgument("the descriptor that came with attach is no userfaultfd")
        session = self._owner.sessions.find(token)
        # A token that another process shows was stolen: it stands for nobody.
        foreign = session.identity is not None and session.identity.pid != self._pid
        if foreign or any(each.session is session for each in self._owner.connections):
            raise UnknownSession("no session that has no memory yet has this token in this process; attach first")
        try:
            pidfd = _peer_pidfd(self._peer, self._pid)
        except OSError as error:
            raise LimitExceeded(f"process {self._pid} cannot be watched: {error.strerror}") from error
        try:
            page_size = self._owner.engine.core.state.settings.page_size
            client = ClientMemory(descriptor, self._owner.features, page_size, self._pid)
        except OSError as error:
            os.close(pidfd)
            raise InvalidArgument(
                f"the kernel refuses the handshake on this userfaultfd ({error.strerror}); hand over a fresh one, on "
                "which UFFDIO_API was not called"
            ) from error
        descriptors.clear()  # it is the client memory's now
        self._expiry.cancel()
        self._pidfd, self._client, self._session = pidfd, client, session
        self._owner.allowance.settle(self._uid)
        client.on_early = self._serve_soon
        self._loop.add_reader(pidfd, self._ended, "its client is gone")
        self._loop.add_reader(client.descriptor, self._faults)

    @property
    def session(self) -> Session | None:
        """The session whose memory this is."""
        return self._session

    def _region(self, region_id: int) -> RealRegion:
        session = self._live_session()
        self._owner.engine.core.state.region(session.process_id, region_id)
        region = self._owner.memory.region(region_id)
        if region is None:
            raise NotFound(f"no region {region_id} in this session")
        return region

    def _live_session(self) -> Session:
        if self._session is None:
            raise UnknownSession("this connection has no session; the first request is attach, with a userfaultfd")
        return self._owner.sessions.find(self._session.token)

    def _mapped(self, region_id: int, address: int) -> None:
        region = self._region(region_id)
        client = self._client
        if region.client is not None or client is None:
            raise InvalidArgument(f"region {region_id} is mapped already; it can be once")
        if address <= 0 or address % uffd.HARDWARE_PAGE:
            raise InvalidArgument(f"address {address:#x}; allowed is a multiple of {uffd.HARDWARE_PAGE} above 0")
        try:
            self._owner.memory.connect(region, client, address)
        except (OSError, struct.error) as error:
            raise InvalidArgument(
                f"region {region_id} cannot be served at {address:#x}: {error}; map all of its memfd there, shared"
            ) from error

    # Faults

    def _faults(self) -> None:
        client, session = self._client, self._session
        if client is None or session is None:
            return
        owner = self._owner
        linger_until = 0.0
        rounds = 0
        while rounds < MAX_ROUNDS and self._client is client:  # its end may be what follows from its faults
            # Read again before going back to the loop: who was woken may have faulted again already.
            try:
                faults = client.read()
            except OSError as error:
                if not uffd.broken(client.descriptor):
                    log.event("faults_not_read", process_id=session.process_id, error=str(error))
                self._ended("its userfaultfd reports no more faults")
                return
            if faults:
                rounds += 1
                owner.engine.submit(events.PageFaults(session.process_id, faults))
                linger_until = owner.wakeup.faulted(self._pid, client.last_thread)
            elif time.monotonic() >= linger_until:
                break
        if not rounds and uffd.broken(client.descriptor):
            self._ended("its userfaultfd reports no more faults")

    def check(self) -> None:
        """End a session whose userfaultfd reports no more faults: the loop does not tell of that a second time."""
        if self._client is None:
            return
        if uffd.broken(self._client.descriptor):
            self._ended("its userfaultfd reports no more faults")
        elif self._client.piece_count > MAX_PIECES:
            self._ended(
                f"its regions are in more than {MAX_PIECES} pieces, by mremap or left mapped after they were given back"
            )

    def _serve_soon(self) -> None:
        """Faults were read on the way; they are served when what is under way is done."""
        if not self._reading:
            self._reading = True
            self._loop.call_soon(self._serve_early)

    def _serve_early(self) -> None:
        self._reading = False
        self._faults()

    # End

    def give_up(self) -> None:
        """End the session, because usmd cannot look after its memory."""
        self._ended("usmd could not look after its memory; a defect of usmd")

    def kill_process_of(self, client: ClientMemory) -> None:
        """As that of MemorySocket."""
        session, pidfd = self._session, self._pidfd
        if self._client is client and session is not None and pidfd is not None:
            killed = send_kill(pidfd)
            reason = "usmd stood in a system call on its memory; it may hold no lock of its address space for long"
            log.event("client_ended", process_id=session.process_id, pid=self._pid, reason=reason, killed=killed)

    def kill(self, reason: str) -> None:
        """End the client, because others wait for it; its session alone where usmd may send it no signal."""
        session, pidfd = self._session, self._pidfd
        if session is None or pidfd is None:
            return
        killed = send_kill(pidfd)
        log.event("client_ended", process_id=session.process_id, pid=self._pid, reason=reason, killed=killed)
        self._owner.sessions.end(session, reason, SessionKilled(reason))
        self.close(poison=True)

    def _ended(self, reason: str) -> None:
        """The client is gone, or does not want to go on: its session ends, and so does the connection."""
        if self._session is not None:
            self._owner.sessions.end(self._session, reason)
        self.close(poison=True)

    def close(self, *, poison: bool = False) -> None:
        """Close everything; a second call does nothing. `poison`: whatever is missing in the client is an error."""
        if self not in self._owner.connections:
            return
        self._owner.connections.discard(self)
        self._owner.allowance.leave(self._uid, waiting=self._session is None)
        self._expiry.cancel()
        self._loop.remove_reader(self._peer)
        self._owner.dispose(self._peer.detach())
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        if self._client is not None:
            self._loop.remove_reader(self._client.descriptor)
            self._owner.memory.disconnect(self._client)
            self._owner.memory.farewell(self._client, poison=poison)
            self._client = None

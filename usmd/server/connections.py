"""Connections to the clients' socket: how many a user may have, and what those without a session may cost.

gRPC accepts them itself, and reports neither them nor their peers. But they are descriptors of this process, so they
are found among those. The kernel vouches for the peer of each. A connection that is shut down here ends for gRPC too.
A connection is a session's if the process at its other end has one; all others are strangers'.

Every tenth of a second, and every fiftieth while strangers are connected, the daemon's memory is checked. Descriptors
are examined instead if their number has changed, and every tenth time in any case.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import socket
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from usmd import log
from usmd.errors import LimitExceeded
from usmd.server.allowance import Complaints
from usmd.server.excess import A_SESSION, Excess, Peer, Sessions, too_many
from usmd.server.identity import peer_of

STRANGER_BYTES: Final = 64 << 20
"""How much the daemon's memory may grow while strangers are connected; beyond that they are disconnected."""
PANIC_BYTES: Final = 128 << 20
"""Growth beyond which strangers that have just connected are disconnected too."""
GIVE_BACK_SECONDS: Final = (0.05, 0.25, 1.0, 5.0)
"""Times after a disconnection at which memory that gRPC has freed is given back to the system."""
YOUNG_SECONDS: Final = 0.5
"""Age below which a connection is not disconnected for memory: a client attaches within that."""
SLICE: Final = 128
"""Sockets examined before the loop has its turn."""
REST: Final = 20
"""Rest after a look, as a multiple of the time that it took."""
_DESCRIPTORS: Final = Path("/proc/self/fd")
TICK_SECONDS: Final = 0.1
LOOKS_A_TICK: Final = 5
"""Looks while strangers are connected."""
_EVERY: Final = 10
"""Ticks between looks at descriptors of which the number seems unchanged: before Linux 6.2 it is not reported."""


class Connections:
    """Limits the connections to the socket at `path`. `sessions` returns the sessions of the moment."""

    def __init__(
        self,
        path: Path,
        sessions: Callable[[], Sessions],
        *,
        of_user: int,
        in_all: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._path = str(path)
        self._sessions = sessions
        self._of_user = of_user
        self._in_all = in_all
        # A descriptor is duplicated to here before it is examined: gRPC may close it and reuse its number meanwhile.
        self._glass = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._blank = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._memory = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._page = os.sysconf("SC_PAGE_SIZE")
        self.peers: dict[int, Peer] = {}
        """Open connections by the number of their inode."""
        self._others: set[int] = set()
        """Inodes of sockets that are not such connections."""
        self._count = -1
        self._ticks = 0
        self._not_before = 0.0
        self._base = 0
        self._complaints = Complaints(_tell, clock)
        self._strangers: list[Peer] = []
        """Connections whose process had no session when they were last looked at."""
        self._of_users: Counter[int] = Counter()
        """Connections of each user when they were last looked at."""
        self._excess = Excess()
        self._looking: asyncio.Task[None] | None = None
        self._next_look: asyncio.Task[None] | None = None
        """Waits until a look may begin, and looks; calls wait for it."""
        self._closed = False

    def tick(self) -> None:
        """Look if something may have changed, unless closed. Called every tenth of a second."""
        self._look_if_changed()
        if self._strangers and not self._closed:  # they can send a hundred megabytes before the next tick
            loop = asyncio.get_running_loop()
            for number in range(1, LOOKS_A_TICK):
                loop.call_later(number * TICK_SECONDS / LOOKS_A_TICK, self._look_if_changed)

    def _look_if_changed(self) -> None:
        self._ticks += 1
        now = self._clock()
        if self._closed or now < self._not_before or (self._looking is not None and not self._looking.done()):
            return
        if self._looking is not None:
            self._looking.result()
        changed = _DESCRIPTORS.stat().st_size != self._count
        if changed or self._ticks % _EVERY == 0 or now >= self._excess.next_end:
            self._looking = asyncio.get_running_loop().create_task(self._look())
        else:
            self._watch_memory(now)

    async def admit(self, pid: int | None, uid: int | None) -> None:
        """Admit a call of a process; raises LimitExceeded if a connection of the process is too many.

        If there may be such a connection that no look has found, waits for a look.
        """
        if pid is None or uid is None:
            return  # no ticket vouches for its process
        if self._may_be_too_many(uid):
            if self._next_look is None:
                self._next_look = asyncio.get_running_loop().create_task(self._look_next())
            await asyncio.shield(self._next_look)
        if (why := self._excess.take_refusal(pid)) is not None:
            raise LimitExceeded(f"this process has too many connections to usmd: {why}")

    def _may_be_too_many(self, uid: int) -> bool:
        """Whether a user, or all users, would have too many connections if all new descriptors were connections."""
        known = self._of_users[uid]
        count = _DESCRIPTORS.stat().st_size
        new = max(count - self._count, 0) if count else known
        allowed = self._of_user + A_SESSION * self._sessions().of_user[uid]
        return not self._closed and (known + new > allowed or len(self.peers) + new > self._in_all)

    async def _look_next(self) -> None:
        """Look once more, after the last look and its rest."""
        while (self._looking is not None and not self._looking.done()) or self._clock() < self._not_before:
            if self._looking is not None:
                await asyncio.wait([self._looking])
            await asyncio.sleep(max(self._not_before - self._clock(), 0.0))
        self._next_look = None  # calls from here on may be of connections that this look does not see
        self._looking = asyncio.get_running_loop().create_task(self._look())
        await asyncio.shield(self._looking)

    async def close(self) -> None:
        """Stop looking."""
        self._closed = True
        tasks = [task for task in (self._next_look, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._glass.close()
        os.close(self._blank)
        os.close(self._memory)

    async def _look(self) -> None:
        self._count = _DESCRIPTORS.stat().st_size
        try:
            sockets, seconds = await asyncio.to_thread(_sockets)
        except RuntimeError:  # no thread can be started
            sockets, seconds = _sockets()
        spent = time.thread_time()
        peers: dict[int, Peer] = {}
        others: set[int] = set()
        for number, descriptor in enumerate(sockets):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            self._examine(descriptor, peers, others)
        self.peers, self._others = peers, others
        self._of_users = Counter(peer.uid for peer in peers.values())
        sessions, now = self._sessions(), self._clock()
        found = too_many(list(peers.values()), sessions, self._of_user, self._in_all)
        for number, (peer, why) in enumerate(self._excess.overdue(found, now)):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            self._close(peer, why)
        self._strangers = [peer for peer in self.peers.values() if peer.pid not in sessions.pids]
        self._watch_memory(now)
        self._not_before = now + REST * (seconds + time.thread_time() - spent)

    def _examine(self, descriptor: int, peers: dict[int, Peer], others: set[int]) -> None:
        try:
            found = os.fstat(descriptor)
        except OSError:
            return  # closed meanwhile
        inode = found.st_ino
        if not stat.S_ISSOCK(found.st_mode) or descriptor == self._glass.fileno():
            return
        known = self.peers.get(inode)
        if known is not None and known.descriptor == descriptor:
            peers[inode] = known
        elif inode in self._others:
            others.add(inode)
        elif (peer := self._peer(descriptor, inode)) is not None:
            peers[inode] = peer
        else:
            others.add(inode)

    def _peer(self, descriptor: int, inode: int) -> Peer | None:
        """The process at the other end, or None if the descriptor is not a connection to the socket."""
        glass = self._glass
        try:
            os.dup2(descriptor, glass.fileno(), inheritable=False)
        except OSError:
            return None  # closed meanwhile
        try:
            if os.fstat(glass.fileno()).st_ino != inode or glass.getsockname() != self._path:
                return None
            if glass.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return None
            pid, uid, _ = peer_of(glass)
        except OSError:
            return None  # not a Unix socket
        finally:
            os.dup2(self._blank, glass.fileno(), inheritable=False)
        return Peer(descriptor, inode, pid, uid, self._clock())

    def _close(self, peer: Peer, why: str) -> None:
        """Shut a connection down, and log that."""
        self.peers.pop(peer.inode, None)
        glass = self._glass
        try:
            os.dup2(peer.descriptor, glass.fileno(), inheritable=False)
            if os.fstat(glass.fileno()).st_ino == peer.inode:
                glass.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed meanwhile
        finally:
            os.dup2(self._blank, glass.fileno(), inheritable=False)
        self._complaints.add(peer.uid, peer.pid, why)

    def _watch_memory(self, now: float) -> None:
        """Disconnect strangers if memory has grown too much since they connected, sessions' memory not counted."""
        sessions = self._sessions()
        self._strangers = [peer for peer in self._strangers if peer.pid not in sessions.pids]
        grown = self._used() - sessions.accounted - self._base
        if not self._strangers or not self._base or grown < 0:
            self._base += grown
        elif grown > STRANGER_BYTES:
            age = 0.0 if grown > PANIC_BYTES else YOUNG_SECONDS
            doomed = [peer for peer in self._strangers if now - peer.since >= age]
            for peer in doomed:
                self._close(peer, f"usmd's memory grew by {grown >> 20} MiB while strangers were connected")
            if doomed:
                self._strangers = [peer for peer in self._strangers if peer not in doomed]
                self._base += grown
                for seconds in GIVE_BACK_SECONDS:
                    asyncio.get_running_loop().call_later(seconds, _give_back)

    def _used(self) -> int:
        """Resident bytes of this process, without memory that it shares with clients."""
        _, resident, shared = os.pread(self._memory, 128, 0).split()[:3]
        return (int(resident) - int(shared)) * self._page


def _tell(uid: int | None, pid: int | None, why: str, count: int) -> None:
    log.event("connections_closed", uid=uid, pid=pid, connections=count, message=why)


def _sockets() -> tuple[list[int], float]:
    """The descriptors that are sockets, and the CPU seconds that this took.

    For a thread of its own: regions have two descriptors each, so that there may be very many, which the kernel lists
    in one go.
    """
    begun = time.thread_time()
    found: list[int] = []
    for descriptor in _descriptors():
        try:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                found.append(descriptor)
        except OSError:
            continue  # closed meanwhile
    return found, time.thread_time() - begun


def _descriptors() -> Iterable[int]:
    """The open descriptors, and perhaps some that are closed."""
    try:
        return map(int, os.listdir(_DESCRIPTORS))  # noqa: PTH208 - a path for each takes longer than what follows
    except OSError:  # no descriptor is left to read that with: then all possible ones are open
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _give_back() -> None:
    """Make the C library return freed memory to the system, in a thread."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        asyncio.get_running_loop().run_in_executor(None, trim, 0)

"""Connections beyond a limit: which those are, and how their processes get the reason before they are closed.

A closed connection carries no reason, but a refused call does. So a connection that is too many is closed after a
while, and meanwhile the next call of its process that begins a session or a stream is refused. A client closes the
connection of a refused call itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from math import inf
from typing import Final, NamedTuple

A_SESSION: Final = 4
"""Connections that a session gives its user."""
GRACE_SECONDS: Final = 0.5
"""How long a connection that is too many stays, so that a call of its process can be refused."""
MOST_IN_GRACE: Final = 32
"""Connections that stay for that at a time; the rest are closed at once."""


class Peer(NamedTuple):
    """The process at the other end of a connection."""

    descriptor: int
    inode: int
    pid: int
    uid: int
    since: float


class Sessions(NamedTuple):
    """Processes that have sessions, the sessions of each user, and the bytes that all sessions account for."""

    pids: frozenset[int]
    of_user: Counter[int]
    accounted: int


def too_many(peers: Iterable[Peer], sessions: Sessions, of_user: int, in_all: int) -> Iterator[tuple[Peer, str]]:
    """The connections that are too many, and why.

    A user may have `of_user` and A_SESSION for each of its sessions; all users together `in_all`. Strangers' go first,
    and of those the youngest of the process that has most, so that another process of the user can still attach.
    """
    users: defaultdict[int, list[tuple[bool, int, float, Peer]]] = defaultdict(list)
    ranks: Counter[int] = Counter()
    for peer in sorted(peers, key=lambda peer: peer.since):
        users[peer.uid].append((peer.pid not in sessions.pids, ranks[peer.pid], peer.since, peer))
        ranks[peer.pid] += 1
    for uid, own in users.items():
        own.sort()
        allowed = of_user + A_SESSION * sessions.of_user[uid]
        for *_, peer in own[allowed:]:
            yield peer, f"user {uid} may have {allowed} (server.max_user_connections, and {A_SESSION} a session)"
        del own[allowed:]
    excess = sum(map(len, users.values())) - in_all
    while excess > 0:  # of the user that has most
        own = max(users.values(), key=len)
        yield own.pop()[-1], f"all users may have {in_all}, a share of the limit of open files"
        excess -= 1


class Excess:
    """The connections that are too many, as of the last look."""

    def __init__(self) -> None:
        self._found: dict[int, float] = {}
        """Inode of each that still stays → time at which it was found to be too many."""
        self._refusals: defaultdict[int, list[str]] = defaultdict(list)
        """Process → reasons to refuse its calls, one for each of its connections that are too many."""

    @property
    def next_end(self) -> float:
        """Time at which the next is to be closed; infinity if there is none."""
        return min(self._found.values(), default=inf) + GRACE_SECONDS

    def overdue(self, too_many: Iterable[tuple[Peer, str]], now: float) -> list[tuple[Peer, str]]:
        """The connections of `too_many` to be closed now."""
        closed: list[tuple[Peer, str]] = []
        found: dict[int, float] = {}
        staying: list[Peer] = []
        for peer, why in too_many:
            since = self._found.get(peer.inode, now)
            if now - since >= GRACE_SECONDS or len(found) >= MOST_IN_GRACE:
                closed.append((peer, why))
                continue
            found[peer.inode] = since
            staying.append(peer)
            if peer.inode not in self._found:
                self._refusals[peer.pid].append(why)
        self._found = found
        for pid in list(self._refusals):
            count = sum(peer.pid == pid for peer in staying)
            del self._refusals[pid][count:]  # for those that were closed meanwhile, by either side
            if not count:
                del self._refusals[pid]
        return closed

    def take_refusal(self, pid: int) -> str | None:
        """Take a reason to refuse a call of a process, or None."""
        reasons = self._refusals.get(pid)
        return reasons.pop() if reasons else None

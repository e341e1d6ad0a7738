"""Which usmd owns a keyspace: a key with the owner's random id, which expires unless it is renewed.

The names of extents have the owner's id too. So what a daemon that lost its keyspace still writes, after a pause for
example, no other daemon reads, and no other's pages are overwritten.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from usmd.errors import SwapDeviceError
from usmd.swap.remote.requests import Failure, Servers

LOOK_SECONDS: Final = 0.25
"""Time between two looks at a key that another daemon may still renew."""
_PROC: Final = Path("/proc")
_TAKE: Final = """
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) return {'kept', '', 0} end
if owner and owner ~= ARGV[3] then return {'taken', owner, redis.call('PTTL', KEYS[1])} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {'new', owner or '', 0}
"""
_GIVE_UP: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Owner(msgspec.Struct, frozen=True):
    """A daemon that owns a keyspace, as the key tells it. `started`: of the process, in ticks of the kernel."""

    id: str
    host: str
    pid: int
    boot: str
    namespace: str
    started: int

    @property
    def in_words(self) -> str:
        """For an error message."""
        return f"usmd with process number {self.pid} on {self.host}"


class Taken(NamedTuple):
    """What became of an attempt to take or keep the key."""

    ours: bool
    was_there: bool
    """The key was ours already."""
    other: bytes
    """The owner, if it is another one; else the one before."""
    expires: float
    """Seconds until the other one's key expires."""


def this_process(key_id: str, proc: Path = _PROC) -> Owner:
    """The owner that a process is which calls it."""
    return Owner(
        key_id,
        socket.gethostname(),
        os.getpid(),
        (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        os.readlink(proc / "self/ns/pid"),  # noqa: PTH115 - it is no path
        _started(proc, os.getpid()) or 0,
    )


def _started(proc: Path, pid: int) -> int | None:
    """When a process started, in ticks since the machine did; None if it has ended, or there is none."""
    try:
        fields = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_dead(owner: bytes, here: Owner, proc: Path = _PROC) -> bool:
    """Whether an owner was a process of this machine that has ended. False if that cannot be known."""
    try:
        found = msgspec.json.decode(owner, type=Owner)
    except msgspec.MsgspecError:
        return False
    if (found.boot, found.namespace) != (here.boot, here.namespace):
        return False
    return _started(proc, found.pid) != found.started


def id_of(owner: bytes) -> str:
    """The id of an owner; empty for a key that no usmd wrote."""
    try:
        return msgspec.json.decode(owner, type=Owner).id
    except msgspec.MsgspecError:
        return ""


def _in_words(owner: bytes) -> str:
    try:
        return msgspec.json.decode(owner, type=Owner).in_words
    except msgspec.MsgspecError:
        return "another program"


class Lease:
    """The ownership of a keyspace for `seconds` after each renewal. Its methods may be called in any thread."""

    def __init__(
        self, servers: Servers, keyspace: str, owner: Owner, seconds: float, clock: Callable[[], float]
    ) -> None:
        self.owner = owner
        self.other = ""
        """In words, the daemon that owns the keyspace instead; empty: none does."""
        self._servers = servers
        self._keyspace = keyspace
        self._key = f"usmd:{keyspace}:owner"
        self._value = msgspec.json.encode(owner)
        self._seconds = seconds
        self._clock = clock
        self._until = clock()
        self._failure = ""

    def take(self, pause: Callable[[float], object] = time.sleep) -> str:
        """Take a keyspace that no living daemon owns; returns the id of the dead daemon that did, or nothing.

        A key that is not renewed is waited for, at most as long as it takes to expire. Raises SwapDeviceError.
        """
        dead, most = b"", self._seconds + LOOK_SECONDS
        while True:
            found = self._ask(dead)
            if isinstance(found, Failure):
                raise SwapDeviceError(f"the keyspace {self._keyspace} cannot be taken: {found.why}")
            if found.ours:
                return id_of(dead) if dead and found.other == dead else ""
            if found.other != dead and is_dead(found.other, self.owner):
                dead = found.other
                continue
            if not 0 <= found.expires <= most:
                break  # it was renewed, or never expires, or long after a lease of ours would
            step = min(LOOK_SECONDS, found.expires + 0.001)
            most = found.expires - step / 2
            pause(step)
        raise SwapDeviceError(
            f"the keyspace {self._keyspace} is owned by {_in_words(found.other)}; give each daemon and each device a "
            "keyspace of its own"
        )

    def renew(self) -> Taken | Failure:
        """Keep the keyspace, or take it again if it has no owner."""
        found = self._ask(b"")
        if isinstance(found, Failure):
            self._failure = found.why
        return found

    def why_not(self) -> str:
        """Why nothing may be written now; empty: it may. Renews a lease that has run out."""
        if not self.other and self._clock() >= self._until:
            self.renew()
        if self.other:
            return f"the keyspace {self._keyspace} was taken over by {self.other}"
        if self._clock() >= self._until:
            return f"the keyspace {self._keyspace} may have another owner by now: {self._failure}"
        return ""

    def give_up(self) -> None:
        """Leave the keyspace to others, if it is ours; without an answer the key expires."""
        self._servers.run([("EVAL", _GIVE_UP, 1, self._key, self._value)])

    def _ask(self, dead: bytes) -> Taken | Failure:
        began = self._clock()
        milliseconds = max(round(self._seconds * 1000), 1)
        (answer,) = self._servers.run([("EVAL", _TAKE, 1, self._key, self._value, milliseconds, dead)])
        if isinstance(answer, Failure):
            return answer
        if not (isinstance(answer, list) and len(answer) == 3):
            return Failure(f"the owner's key answered {type(answer).__name__}")
        how, other, expires = answer
        taken = Taken(how != b"taken", how == b"kept", other, expires / 1000)
        if taken.ours:
            self._until = began + self._seconds
            self.other = ""
        else:
            self.other = _in_words(other)
        return taken

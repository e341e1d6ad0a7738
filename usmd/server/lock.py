"""One daemon per socket: a lock file next to the socket, held as long as the daemon lives.

gRPC binds a Unix socket that another server still uses without an error, and the first server then serves nobody. So
the lock is taken before the bind; only its holder removes what a crash left behind, and what it made itself. Binding
and the socket's mode are the daemon's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
from pathlib import Path
from types import TracebackType

from usmd.errors import AlreadyRunning, ConfigError
from usmd.runtime_paths import IDENTITY_SUFFIX, MEMORY_SUFFIX
from usmd.server.identity import peer_of

LOCK_SUFFIX = ".lock"


class SocketLock:
    """The right to bind the socket at `path`, and the identity and memory sockets next to it; a context manager.

    `acquire` takes it or raises at once. It also removes socket files that nobody serves.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock_path = Path(f"{path}{LOCK_SUFFIX}")
        self._sockets = (path, Path(f"{path}{IDENTITY_SUFFIX}"), Path(f"{path}{MEMORY_SUFFIX}"))
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, or raise and leave everything as it was.

        Raises AlreadyRunning when another process holds it or serves the socket without it, and ConfigError when there
        is no place for a lock file, or something other than a socket is in the socket's place.
        """
        try:
            descriptor = self._lock()
            self._descriptor = descriptor
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                for place in self._sockets:
                    self._remove_stale(place)
            except BaseException:
                self._unlock()
                raise
        except OSError as error:
            raise ConfigError(
                f"socket {self.path} cannot be locked: {error.strerror} ({self.lock_path}); "
                "make its folder writable for this user, or choose another path"
            ) from error

    def release(self) -> None:
        """Remove the sockets and the lock file, then let go; without the lock it does nothing."""
        if self._descriptor is None:
            return
        try:
            for place in self._sockets:
                place.unlink(missing_ok=True)
        finally:
            self._unlock()

    def __enter__(self) -> SocketLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _lock(self) -> int:
        """Open and lock the lock file; the descriptor that comes back is that of the file now at its path."""
        while True:
            descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A holder removes its file before it lets go. Whoever opened the file just before that now has a lock
                # on a file that is gone, while the next one may make and lock a new file: then try again.
                if _same_file(descriptor, self.lock_path):
                    return descriptor
                os.close(descriptor)
            except BlockingIOError:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise AlreadyRunning(self._taken(f"the usmd with pid {holder}" if holder else "another usmd")) from None
            except BaseException:
                os.close(descriptor)
                raise

    def _unlock(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            # Before the lock goes, or it could be the file of the next holder that is removed.
            if _same_file(descriptor, self.lock_path):
                self.lock_path.unlink()
        finally:
            os.close(descriptor)

    def _remove_stale(self, place: Path) -> None:
        """Remove the socket file at `place` if nobody listens on it."""
        try:
            mode = place.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise ConfigError(
                f"socket {place} cannot be made: something that is no socket is there; choose another path"
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
            probe.setblocking(False)
            code = probe.connect_ex(str(place))
            if code == 0:
                raise AlreadyRunning(self._taken(f"the program with pid {peer_of(probe)[0]}, which holds no lock"))
        if code in (errno.EAGAIN, errno.EPROTOTYPE):  # somebody listens: its backlog is full, or it wants packets
            raise AlreadyRunning(self._taken("a program that holds no lock"))
        if code != errno.ECONNREFUSED:
            raise OSError(code, os.strerror(code))
        with contextlib.suppress(FileNotFoundError):
            place.unlink()

    def _taken(self, holder: str) -> str:
        return f"socket {self.path} is served by {holder}; stop it, or choose other paths with --socket, --admin-socket"


def _same_file(descriptor: int, path: Path) -> bool:
    """Whether `descriptor` is open on the file that is at `path` now."""
    try:
        at_path = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), at_path)


def _holder(descriptor: int) -> int | None:
    """Process number in the lock file; None when its holder has not written it yet."""
    text = os.pread(descriptor, 32, 0)
    return int(text) if re.fullmatch(rb"\d{1,10}\n", text) else None

"""One daemon per socket: a lock file next to the socket, held as long as the daemon lives.

gRPC binds a Unix socket that another server still uses without an error, and clients no longer reach the first server.
So the lock is taken before the bind. Only its holder removes what a crash left behind, and what it made itself.

The folder is opened once, and everything is done in that folder, even if it is moved: another folder may be at its path
later. What was made is known by its inode.
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

from usm_wire.places import IDENTITY_SUFFIX, MEMORY_SUFFIX
from usmd.errors import AlreadyRunning, ConfigError
from usmd.runtime_paths import CALLS_SUFFIX, METRICS_SUFFIX, PAGE_SUFFIX
from usmd.server.identity import peer_of

LOCK_SUFFIX = ".lock"
_SUFFIXES = ("", IDENTITY_SUFFIX, MEMORY_SUFFIX, METRICS_SUFFIX, PAGE_SUFFIX, CALLS_SUFFIX)


class SocketLock:
    """The right to bind the socket at `path`, and those next to it; a context manager.

    `acquire` takes it or raises at once. It also removes socket files that no server uses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock_path = Path(f"{path}{LOCK_SUFFIX}")
        self._sockets = tuple(f"{path.name}{suffix}" for suffix in _SUFFIXES)
        self._made: dict[str, os.stat_result] = {}
        self._folder = -1
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, or raise and leave everything as it was.

        Raises AlreadyRunning if another process holds it or serves the socket without it, and ConfigError if a lock
        file cannot be made, or if something other than a socket is in the socket's place.
        """
        try:
            self._folder = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._descriptor = descriptor = self._lock()
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                for name in self._sockets:
                    self._remove_stale(name)
            except BaseException:
                self._unlock()
                raise
        except OSError as error:
            raise ConfigError(
                f"socket {self.path} cannot be locked: {error.strerror} ({self.lock_path}); "
                "make its folder writable for this user, or choose another path"
            ) from error

    def place(self, suffix: str = "") -> Path:
        """Where to bind the socket with this suffix: in the folder that was locked, whatever is at its path by now."""
        return Path(f"/proc/self/fd/{self._folder}/{self.path.name}{suffix}")

    def made(self) -> None:
        """Remember the sockets that were bound, for `release`; raises ConfigError if clients would not find them."""
        for name in self._sockets:
            if (found := self._look(name)) is not None:
                self._made[name] = found
        try:
            same = os.path.samestat(os.stat(self.path.parent), os.fstat(self._folder))  # noqa: PTH116 - beside fstat
        except FileNotFoundError:
            same = False
        if not same:
            raise ConfigError(
                f"socket {self.path} cannot be reached: its folder was replaced while usmd started; start it again"
            )

    def release(self) -> None:
        """Remove the sockets that were made and the lock file, then unlock; does nothing without the lock."""
        if self._descriptor is None:
            return
        try:
            for name, made in self._made.items():
                found = self._look(name)
                if found is not None and os.path.samestat(found, made):
                    os.unlink(name, dir_fd=self._folder)
        finally:
            self._made.clear()
            self._unlock()

    def __enter__(self) -> SocketLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _lock(self) -> int:
        """Open and lock the lock file; returns the descriptor of the file that has its name now."""
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.lock_path.name, flags, 0o600, dir_fd=self._folder)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A holder removes its file before it unlocks. A process that opened the file just before that now has
                # a lock on a file that is gone, while another may make and lock a new file: then try again.
                if self._is_lock(descriptor):
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
        folder, self._folder = self._folder, -1
        try:
            # Before the unlock, or the file of the next holder could be removed.
            if descriptor is not None and self._is_lock(descriptor, folder):
                os.unlink(self.lock_path.name, dir_fd=folder)
        finally:
            if descriptor is not None:
                os.close(descriptor)
            os.close(folder)

    def _look(self, name: str, folder: int | None = None) -> os.stat_result | None:
        """The status of the file with this name in the folder, or None."""
        try:
            return os.stat(name, dir_fd=self._folder if folder is None else folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _is_lock(self, descriptor: int, folder: int | None = None) -> bool:
        """Whether `descriptor` is open on the file that has the lock file's name now."""
        found = self._look(self.lock_path.name, folder)
        return found is not None and os.path.samestat(os.fstat(descriptor), found)

    def _remove_stale(self, name: str) -> None:
        """Remove the socket file of this name if no process listens on it."""
        found = self._look(name)
        if found is None:
            return
        place = self.path.with_name(name)
        if not stat.S_ISSOCK(found.st_mode):
            raise ConfigError(
                f"socket {place} cannot be made: something other than a socket is there; choose another path"
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
            probe.setblocking(False)
            code = probe.connect_ex(f"/proc/self/fd/{self._folder}/{name}")
            if code == 0:
                raise AlreadyRunning(self._taken(f"the program with pid {peer_of(probe)[0]}, which holds no lock"))
        if code in (errno.EAGAIN, errno.EPROTOTYPE):  # a process listens: its backlog is full, or it wants packets
            raise AlreadyRunning(self._taken("a program that holds no lock"))
        if code != errno.ECONNREFUSED:
            raise OSError(code, os.strerror(code))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)

    def _taken(self, holder: str) -> str:
        return f"socket {self.path} is served by {holder}; stop it, or choose other paths with --socket, --admin-socket"


def _holder(descriptor: int) -> int | None:
    """Process number in the lock file; None if its holder has not written it yet."""
    text = os.pread(descriptor, 32, 0)
    return int(text) if re.fullmatch(rb"\d{1,10}\n", text) else None

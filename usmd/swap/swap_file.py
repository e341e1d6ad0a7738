"""The file of a file swap device: made, locked, preallocated, removed. No other file is ever touched.

A header marks usmd's own files. A swap file outlives its daemon only if the daemon was killed. Such a stale file is
replaced, not reused: a process that opened the old file sees nothing of the new one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from pathlib import Path

from usmd.errors import SwapDeviceError, SwapIOError
from usmd.sizes import format_size

MAGIC = b"USMD-SWAP-FILE\0\n"
VERSION = 1
HEADER = struct.Struct("<16sIIQQ")
"""Magic, version, page size in bytes, slots, pid of the daemon; the rest of the first page is zero."""

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def create_swap_file(path: Path, page_size: int, slots: int) -> int:
    """Make the file with room for a header page and all slots; return its locked descriptor.

    Raises SwapDeviceError if the folder is missing, the path is another program's file, a link, not a regular file or
    in use by another daemon, or there is no room. The path is then unchanged, except that a stale swap file is removed.
    """
    size = (slots + 1) * page_size
    _remove_stale(path)
    try:
        descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
    except FileNotFoundError as error:
        raise SwapDeviceError(f"swap file {path}: the folder {path.parent} does not exist; make it first") from error
    except FileExistsError as error:
        raise SwapDeviceError(f"swap file {path}: another process made it just now; give another path") from error
    except OSError as error:
        raise _cannot(path, "made", error) from error
    try:
        # Locked before the header is written, because a header without a lock marks a stale file.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _require_room(path, descriptor, size)
        os.pwrite(descriptor, HEADER.pack(MAGIC, VERSION, page_size, slots, os.getpid()), 0)
        os.posix_fallocate(descriptor, 0, size)
    except BaseException as error:
        remove_swap_file(path, descriptor)
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            raise _no_room(path, size, str(error.strerror)) from error
        if isinstance(error, OSError):
            raise _cannot(path, f"made with {format_size(size)}", error) from error
        raise
    return descriptor


def remove_swap_file(path: Path, descriptor: int) -> None:
    """Remove the file, also if its folder was moved, unless the path names another file; close the descriptor.

    Raises SwapIOError if it cannot be removed; the descriptor is closed all the same.
    """
    try:
        moved = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - the kernel knows the present path
        place = next((each for each in (path, moved) if _names(each, descriptor)), None)
        if place is not None:
            place.unlink()
    except OSError as error:
        raise SwapIOError(f"swap file {path}: cannot be removed ({error.strerror}); remove it by hand") from error
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    """Remove a swap file that a killed daemon left. Raises SwapDeviceError if the path is anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot(path, "opened", error) from error
    # Checked before it is opened, because merely opening a device can have effects.
    if stat.S_ISLNK(mode):
        raise SwapDeviceError(f"swap file {path}: is a symbolic link, which is not followed; give the file's own path")
    if not stat.S_ISREG(mode):
        raise SwapDeviceError(f"swap file {path}: exists and is not a regular file; give the path of a file to make")
    try:
        descriptor = os.open(path, _FLAGS | os.O_NONBLOCK)
    except OSError as error:
        raise _cannot(path, "opened", error) from error
    try:
        _refuse_unless_stale(path, descriptor)
        path.unlink()
    except OSError as error:
        raise _cannot(path, "replaced", error) from error
    finally:
        os.close(descriptor)


def _refuse_unless_stale(path: Path, descriptor: int) -> None:
    header = os.pread(descriptor, HEADER.size, 0) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise SwapDeviceError(
            f"swap file {path}: exists and is not a usmd swap file, so it is left alone; "
            "give another path, or remove it if it is not needed"
        )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SwapDeviceError(
            f"swap file {path}: in use by the running usmd with process number {HEADER.unpack(header)[-1]}; "
            "give each daemon and each device a file of its own"
        ) from error
    if not _names(path, descriptor):
        raise SwapDeviceError(f"swap file {path}: another process replaced it just now; start again")


def _names(path: Path, descriptor: int) -> bool:
    """True if `path` names the open file itself: not a link to it, not a newer file of that name."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _require_room(path: Path, descriptor: int, size: int) -> None:
    # Checked beforehand, because a preallocation that fails may have filled the disk of other programs.
    space = os.fstatvfs(descriptor)
    free = space.f_bavail * space.f_frsize
    if space.f_blocks and free < size:
        raise _no_room(path, size, f"{format_size(free)} are free")


def _no_room(path: Path, size: int, why: str) -> SwapDeviceError:
    return SwapDeviceError(
        f"swap file {path}: needs {format_size(size)}, but {why}; free some space, or give a smaller size or "
        "another path"
    )


def _cannot(path: Path, what: str, error: OSError) -> SwapDeviceError:
    return SwapDeviceError(
        f"swap file {path}: cannot be {what} ({error.strerror}); give a path that the daemon may write"
    )

"""Checks whether a daemon can be reached at an address; its errors say in one sentence why not and what to do."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import socket
import stat
from pathlib import Path
from typing import Final

from lib_usm.address import SocketAddress
from lib_usm.errors import DaemonUnavailable, LimitExceeded
from lib_usm.limits import limit_reached

_START: Final = "start it with `usmd serve`, or give the address of a running one (argument `address`, or $USM_ADDRESS)"
_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_reachable(address: SocketAddress) -> None:
    """Raise DaemonUnavailable if no daemon can answer at `address` or this user may not ask it.

    Raises LimitExceeded.
    """
    path = address.path
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise DaemonUnavailable(f"no daemon answers at {address}: {_missing(path)}; {_START}") from None
    except NotADirectoryError:
        raise DaemonUnavailable(f"no daemon answers at {address}: {_file_above(path)}; {_START}") from None
    except PermissionError:
        raise _denied(address, _closed_folder(path), "x", "enter") from None
    except OSError as error:
        raise DaemonUnavailable(f"no daemon answers at {address}: {error.strerror}; {_START}") from None
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            raise DaemonUnavailable(
                f"no daemon answers at {address}: it is {kind}, not a socket; give the socket that `usmd serve` names"
            )
    _connect(address)


def _connect(address: SocketAddress) -> None:
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise unreachable(error, str(address)) from None
    with connection:
        connection.setblocking(False)
        try:
            connection.connect(str(address.path))
        except ConnectionRefusedError:
            raise DaemonUnavailable(
                f"no daemon answers at {address}: the socket is there, but what listened on it has ended; {_START}"
            ) from None
        except PermissionError:
            raise _denied(address, address.path, "w", "use") from None
        except BlockingIOError:
            return  # the daemon listens; its queue of connections is full
        except OSError as error:
            if error.errno == errno.EPROTOTYPE:
                raise DaemonUnavailable(
                    f"no daemon answers at {address}: it is a socket of another kind, not usmd's; give the one that "
                    "`usmd serve` names"
                ) from None
            raise DaemonUnavailable(f"no daemon answers at {address}: {error.strerror}; {_START}") from None


def _missing(path: Path) -> str:
    for folder in reversed(path.parents):
        with contextlib.suppress(OSError):
            if not folder.exists():
                return f"there is no folder {folder}"
    return "there is no such socket"


def _file_above(path: Path) -> str:
    for folder in reversed(path.parents):
        if not folder.is_dir():
            return f"{folder} is not a folder"
    return "a part of the path is not a folder"


def _closed_folder(path: Path) -> Path:
    """The topmost folder above `path` that this user may not enter."""
    for folder in reversed(path.parents):
        if not os.access(folder, os.X_OK, effective_ids=True):
            return folder
    return path.parent


def _denied(address: SocketAddress, what: Path, right: str, verb: str) -> DaemonUnavailable:
    user = _user(os.geteuid())
    try:
        found = what.stat()
    except OSError:
        return DaemonUnavailable(f"user {user} may not reach {address}: permission denied at {what}")
    owner, group = _user(found.st_uid), _group(found.st_gid)
    bits = {"x": stat.S_IXGRP, "w": stat.S_IWGRP}[right]
    if found.st_mode & bits and found.st_gid != 0:
        advice = f"have an administrator add {user} to group {group} (`usermod -aG {group} {user}`), and log in again"
    else:
        advice = f"only {owner} may: start a daemon of your own with `usmd serve`, or have {owner}'s opened to a group"
    return DaemonUnavailable(
        f"user {user} may not {verb} {what}, which belongs to user {owner} and group {group} and has mode "
        f"{stat.S_IMODE(found.st_mode):04o}, so that {address} cannot be reached; {advice}"
    )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def unreachable(error: OSError, what: str) -> DaemonUnavailable | LimitExceeded:
    """The error to raise for a failed use of a daemon's socket; `what` names the socket."""
    limit = limit_reached(error, f"{what} cannot be used")
    return limit or DaemonUnavailable(f"{what} cannot be used: {error.strerror or error or 'no answer'}")

"""Makes runtime folders with safe rights, and reads addresses. usm_wire.places chooses the folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from usm_wire.places import IDENTITY_SUFFIX, MAX_SOCKET_PATH_BYTES
from usmd.errors import ConfigError

ADMIN_SOCKET_NAME = "admin.sock"
METRICS_SUFFIX = ".metrics"
"""Suffix of the metrics socket's path, after that of the operators' socket."""
PAGE_SUFFIX = ".page"
"""Suffix of the path of the live page's socket, likewise."""
CALLS_SUFFIX = ".calls"
"""Suffix of the path of the socket on which gRPC gets the calls of operators, after that of their own socket."""
_WHAT_TO_DO = "choose other places with --socket, --admin-socket and --state-dir"


def prepare_folder(folder: Path) -> None:
    """Create `folder` with mode 0700, or check that the existing one is safe for sockets. Raises ConfigError."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"runtime folder {folder} cannot be made: {error.strerror}; {_WHAT_TO_DO}") from error
    check_folder(folder, _WHAT_TO_DO)


def check_folder(folder: Path, what_to_do: str) -> None:
    """Check that no other user can have put sockets into `folder`; an absent folder passes.

    Any user can make a folder under /tmp; its owner could replace a socket and read every page. Raises ConfigError if
    `folder` is not a folder (but a symbolic link, for example), or another user owns it or may write to it.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"runtime folder {folder} cannot be looked at: {error.strerror}; {what_to_do}") from error
    if not stat.S_ISDIR(found.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "a file"
        raise ConfigError(f"runtime folder {folder} is {what}, not a folder; remove it, or {what_to_do}")
    if found.st_uid != os.geteuid():
        raise ConfigError(
            f"runtime folder {folder} belongs to user {found.st_uid}, allowed is its use by that user alone, "
            f"and this process is user {os.geteuid()}; {what_to_do}"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"runtime folder {folder} has mode {stat.S_IMODE(found.st_mode):04o}, so that other users may write to it; "
            f"run `chmod 0700 {folder}`, or {what_to_do}"
        )


def parse_address(text: str, *, identity: bool = True) -> Path:
    """Read the socket path in `text`: `unix:PATH`, `unix://PATH`, or a bare path; always absolute.

    With `identity`, the longer path of the identity socket beside it must fit too. Raises ConfigError, which names the
    text, what is allowed, and for a long path its length in bytes.
    """
    path = text.removeprefix("unix://") if text.startswith("unix://") else text.removeprefix("unix:")
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ConfigError(
            f"address {text!r} is not allowed; allowed is unix:PATH with an absolute path, "
            "for example unix:/run/usmd/usmd.sock"
        )
    length = len(os.fsencode(path))
    limit = MAX_SOCKET_PATH_BYTES - (len(IDENTITY_SUFFIX) if identity else 0)
    if length > limit:
        reason = f" (PATH{IDENTITY_SUFFIX} is bound as well)" if identity else ""
        raise ConfigError(
            f"address {text!r} has a path of {length} bytes; a Unix socket allows at most {limit}{reason}; "
            "choose a shorter path"
        )
    return Path(path)

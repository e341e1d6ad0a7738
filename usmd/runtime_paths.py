"""Where the daemon's sockets are: the default runtime folder, and addresses as people write them.

Covers the choice of the folder, its creation with safe rights, and the reading of `unix:PATH`. Binding and locking a
socket are usmd/server's; lib_usm makes the same choice of folder by itself, because it knows nothing of usmd.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from usmd.errors import ConfigError

MAX_SOCKET_PATH_BYTES = 107
"""Bytes of a Unix socket path that fit into the kernel's sun_path, which also holds a final zero."""

IDENTITY_SUFFIX = ".identity"
"""The identity socket that vouches for a client's pid and uid is bound at the client socket's path plus this."""

MEMORY_SUFFIX = ".memory"
"""The memory socket, over which clients and the daemon exchange memory, is at the client socket's path plus this."""

SOCKET_NAME = "usmd.sock"
ADMIN_SOCKET_NAME = "admin.sock"
_WHAT_TO_DO = "choose other places with --socket, --admin-socket and --state-dir"


def runtime_folder(environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """Return the user's runtime folder; nothing is created.

    `$XDG_RUNTIME_DIR/usmd` if the variable holds an absolute path and that folder is the user's own, else `/run/usmd`
    for root and `/tmp/usmd-UID` for all others. `uid` None is the effective user of this process. sudo and su may keep
    the variable of another user, who could use no folder made there, or could replace it.
    """
    user = os.geteuid() if uid is None else uid
    base = Path(environ.get("XDG_RUNTIME_DIR", ""))
    if base.is_absolute() and _is_own(base, user):
        return base / "usmd"
    return Path("/run/usmd") if user == 0 else Path(f"/tmp/usmd-{user}")  # noqa: S108 - prepare_folder checks the owner


def _is_own(folder: Path, user: int) -> bool:
    """Whether a folder belongs to the user and to writers of no other name; one that is absent is not another's."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def prepare_folder(folder: Path) -> None:
    """Create `folder` with mode 0700, or check that the existing one is safe to put sockets in; raises ConfigError."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"runtime folder {folder} cannot be made: {error.strerror}; {_WHAT_TO_DO}") from error
    check_folder(folder, _WHAT_TO_DO)


def check_folder(folder: Path, what_to_do: str) -> None:
    """Check that no other user can have put sockets into `folder`; one that is absent passes.

    A folder under /tmp can be made by the first to come; its owner could replace a socket and read every page. Raises
    ConfigError if it is no folder (a symbolic link is none), belongs to another user, or others may write to it.
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
            f"runtime folder {folder} has mode {stat.S_IMODE(found.st_mode):04o}, so that others may write to it; "
            f"run `chmod 0700 {folder}`, or {what_to_do}"
        )


def parse_address(text: str, *, identity: bool = True) -> Path:
    """Read the socket path in `text`: `unix:PATH`, `unix://PATH`, or a bare path; always absolute.

    With `identity` there must also be room for the identity socket that is bound next to it. Raises ConfigError, which
    names the text, what is allowed, and for a long path its length in bytes.
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

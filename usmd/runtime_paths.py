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


def runtime_folder(environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """Return the user's runtime folder; nothing is created.

    `$XDG_RUNTIME_DIR/usmd` when the variable holds an absolute path (the XDG specification says to ignore others), else
    `/run/usmd` for root and `/tmp/usmd-UID` for everybody else. `uid` None is the effective user of this process.
    """
    user = os.geteuid() if uid is None else uid
    base = Path(environ.get("XDG_RUNTIME_DIR", ""))
    if base.is_absolute():
        return base / "usmd"
    return Path("/run/usmd") if user == 0 else Path(f"/tmp/usmd-{user}")  # noqa: S108 - prepare_folder checks the owner


def prepare_folder(folder: Path) -> None:
    """Create `folder` with mode 0700, or check that the existing one is safe to put sockets in.

    A folder under /tmp can be made by anybody who is quicker; whoever owns it could replace a socket and read every
    page. Raises ConfigError when it is no folder (a symbolic link is none), belongs to another user, or others may
    write to it.
    """
    what_to_do = "choose other places with --socket, --admin-socket and --state-dir"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ConfigError(f"runtime folder {folder} cannot be made: {error.strerror}; {what_to_do}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"runtime folder {folder} is a symbolic link, not a folder; remove it, or {what_to_do}")
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

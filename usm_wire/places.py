"""Where the daemon's sockets are: the runtime folder, and their names in it. Makes and opens nothing.

The daemon and its clients choose the folder by the same rule, so that a client without an address finds its daemon.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

MAX_SOCKET_PATH_BYTES: Final = 107
"""Bytes of a Unix socket path that fit into the kernel's sun_path, which also holds a final zero."""
SYSTEM_FOLDER: Final = Path("/run/usmd")
"""The runtime folder of root, whose daemon is the whole system's."""
SOCKET_NAME: Final = "usmd.sock"
"""The clients' socket."""
IDENTITY_SUFFIX: Final = ".identity"
"""The identity socket that vouches for a client's pid and uid is bound at the client socket's path plus this."""
MEMORY_SUFFIX: Final = ".memory"
"""The memory socket, over which clients and the daemon exchange memory, is at the client socket's path plus this."""


def runtime_folder(environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """Return the user's runtime folder; nothing is created.

    `$XDG_RUNTIME_DIR/usmd` if the variable holds an absolute path and that folder is the user's own, else SYSTEM_FOLDER
    for root and `/tmp/usmd-UID` for all others. `uid` None is the effective user of this process. sudo and su may keep
    the variable of another user, who could use no folder made there, or could replace it.
    """
    user = os.geteuid() if uid is None else uid
    base = Path(environ.get("XDG_RUNTIME_DIR", ""))
    if base.is_absolute() and is_own(base, user):
        return base / "usmd"
    return SYSTEM_FOLDER if user == 0 else Path(f"/tmp/usmd-{user}")  # noqa: S108 - each side checks the owner


def is_own(folder: Path, user: int, *, link: bool = True) -> bool:
    """Whether a folder (`link`: or what a link to one names) belongs to the user, and no other user may write to it.

    An absent folder is not another user's.
    """
    try:
        found = folder.stat() if link else folder.lstat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

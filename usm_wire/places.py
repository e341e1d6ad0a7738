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
"""Longest path of a Unix socket: the kernel's sun_path has 108 bytes, its final zero included."""
SYSTEM_FOLDER: Final = Path("/run/usmd")
"""The runtime folder of root, whose daemon is system-wide."""
SOCKET_NAME: Final = "usmd.sock"
"""The clients' socket."""
IDENTITY_SUFFIX: Final = ".identity"
"""Suffix of the identity socket's path, after that of the clients' socket. It proves a client's pid and uid."""
MEMORY_SUFFIX: Final = ".memory"
"""Suffix of the memory socket's path, after that of the clients' socket. It exchanges descriptors of memory."""


def runtime_folder(environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """The user's runtime folder, which may not exist yet.

    `$XDG_RUNTIME_DIR/usmd` if the variable is an absolute path and only the user may write there, else SYSTEM_FOLDER
    for root and `/tmp/usmd-UID` for all other users. `uid` None: the effective user of this process. The check is for
    sudo and su, which may keep the variable of another user.
    """
    user = os.geteuid() if uid is None else uid
    base = Path(environ.get("XDG_RUNTIME_DIR", ""))
    if base.is_absolute() and is_own(base, user):
        return base / "usmd"
    return SYSTEM_FOLDER if user == 0 else Path(f"/tmp/usmd-{user}")  # noqa: S108 - each side checks the owner


def is_own(folder: Path, user: int, *, link: bool = True) -> bool:
    """True if only the user may write to the folder, or there is no folder. `link`: follow a symbolic link."""
    try:
        found = folder.stat() if link else folder.lstat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

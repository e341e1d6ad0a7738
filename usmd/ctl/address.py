"""Where the daemon's admin socket is: as given, by the environment, or the default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from usm_wire.places import runtime_folder
from usmd.runtime_paths import ADMIN_SOCKET_NAME, check_folder, parse_address

ADDRESS_VARIABLE: Final = "USM_ADMIN_ADDRESS"


def admin_socket(address: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The socket to use: `address`, else $USM_ADMIN_ADDRESS, else the default of this user's daemon.

    Raises ConfigError for an address that is not `unix:PATH`, and if another user owns the default folder.
    """
    text = address or environ.get(ADDRESS_VARIABLE, "")
    if text:
        return parse_address(text, identity=False)
    folder = runtime_folder(environ)
    check_folder(folder, f"name the socket of a daemon that you trust with --address or ${ADDRESS_VARIABLE}")
    return folder / ADMIN_SOCKET_NAME

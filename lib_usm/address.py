"""The daemon's address: as an application gives it, and the default."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from lib_usm.arguments import kind_of
from lib_usm.errors import InvalidArgument, WrongType
from usm_wire.places import (
    IDENTITY_SUFFIX,
    MAX_SOCKET_PATH_BYTES,
    MEMORY_SUFFIX,
    SOCKET_NAME,
    SYSTEM_FOLDER,
    is_own,
    runtime_folder,
)  # fmt: skip

Address: TypeAlias = str | os.PathLike[str]
_SCHEME = "unix:"
_SCHEMES = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_SYSTEM_SOCKET = SYSTEM_FOLDER / SOCKET_NAME
_MAX_PATH_BYTES = MAX_SOCKET_PATH_BYTES - len(IDENTITY_SUFFIX)  # its longer name must fit too


class SocketAddress:
    """A Unix socket of the daemon, `unix:PATH` or PATH alone. Raises InvalidArgument if it is neither, or too long."""

    def __init__(self, text: str) -> None:
        path = text.removeprefix(_SCHEME)
        other_scheme = path == text and _SCHEMES.match(text)
        if not path or "\0" in path or other_scheme:
            raise InvalidArgument(
                f"address {text!r} cannot be used; allowed is unix:PATH, or a path alone, e.g. unix:{_SYSTEM_SOCKET}"
            )
        # unix:///PATH is the same socket in URI spelling.
        self.path = Path("/" + path.lstrip("/")) if path.startswith("//") else Path(path).absolute()
        size = len(os.fsencode(self.path))
        if size > _MAX_PATH_BYTES:
            raise InvalidArgument(
                f"socket path {str(self.path)!r} has {size} bytes; at most {_MAX_PATH_BYTES} are allowed: "
                "let the daemon listen on a shorter path"
            )

    @property
    def identity_path(self) -> Path:
        """The socket at which the daemon reads this process's pid and uid."""
        return self.path.with_name(self.path.name + IDENTITY_SUFFIX)

    @property
    def memory_path(self) -> Path:
        """The socket over which memory is exchanged."""
        return self.path.with_name(self.path.name + MEMORY_SUFFIX)

    @property
    def grpc_target(self) -> str:
        """The address as gRPC reads it: a URI, in which special characters of the path are escaped."""
        return _SCHEME + quote(os.fsencode(self.path))

    def __str__(self) -> str:
        return f"{_SCHEME}{self.path}"


def resolve_address(address: Address | None) -> SocketAddress:
    """`address`, else $USM_ADDRESS, else the daemon's default socket. Raises InvalidArgument and WrongType."""
    given = os.fspath(address) if isinstance(address, os.PathLike) else address
    if not isinstance(given, str | None):
        raise WrongType(f"address {address!r} is {kind_of(address)}; a str such as unix:PATH, or a Path, is needed")
    if given and given is not address and not given.startswith(_SCHEME):
        given = _SCHEME + given  # a path object is a path, even if its name looks like a scheme
    return SocketAddress(given or os.environ.get("USM_ADDRESS") or f"{_SCHEME}{default_socket()}")


def default_socket(system_socket: Path = _SYSTEM_SOCKET) -> Path:
    """The socket that `usmd serve` uses by default for this user, else the system-wide one.

    Raises InvalidArgument if there is no system-wide daemon, and another user owns or can write to the folder of this
    user's daemon: that user could read all data.
    """
    uid = os.geteuid()
    folder = runtime_folder()
    own = system_socket if folder == SYSTEM_FOLDER else folder / SOCKET_NAME
    safe = is_own(own.parent, uid, link=False) or own == system_socket
    if uid != 0 and system_socket.exists() and not (safe and own.exists()):
        return system_socket
    if not safe:
        raise InvalidArgument(
            f"folder {own.parent} is a link, belongs to another user, or can be written to by other users, so that the "
            "daemon there may be another user's; name the socket of a daemon that you trust, in connect() or "
            "$USM_ADDRESS"
        )
    return own

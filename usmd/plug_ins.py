"""Policies in files, `path/to/file.py:Class`: checks who may write the file, and loads it as a module.

Its code runs as the daemon's user, so it is not loaded if another user could have written it. usmd/policies/registry.py
finds the class, and imports this module only for such a policy.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

import xxhash

from usmd.errors import InvalidArgument

MAX_SIZE: Final = 1 << 20
"""Largest file that is loaded, in bytes."""


def load(path: str) -> ModuleType:
    """The module of the file at `path`; `~` is a home folder, a relative path is relative to the working directory.

    The file is executed once for each state of it, under a unique module name: a changed file is another module, and
    users of the old one keep it. Nothing is added to `sys.path`, and no file is written. Raises InvalidArgument if the
    file cannot be read or may not be loaded, and whatever its code raises.
    """
    try:
        given = Path(path).expanduser()
    except RuntimeError as error:  # no such user
        raise InvalidArgument(f"{path}: {error}") from error
    place = given.absolute()
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # must not block on a pipe
    except OSError as error:
        raise InvalidArgument(f"{place} cannot be read: {error.strerror}") from error
    try:
        # The open file is checked, so that what is read is what was checked, whatever the path names by then.
        status = os.fstat(descriptor)
        check(place, status, os.geteuid(), relative=not given.is_absolute())
        state = f"{place}\0{status.st_dev}\0{status.st_ino}\0{status.st_mtime_ns}\0{status.st_size}"
        name = f"_usmd_policy_file_{xxhash.xxh3_64_hexdigest(state.encode())}"
        if name in sys.modules:
            return sys.modules[name]
        with open(descriptor, "rb", closefd=False) as file:
            source = file.read(MAX_SIZE)
    finally:
        os.close(descriptor)
    return _execute(name, place, source)


def check(place: Path, status: os.stat_result, user: int, *, relative: bool) -> None:
    """Raise InvalidArgument unless a daemon of `user` may execute the file at `place`.

    It must be root's or the user's own, and writable by no other user. Its group may write to it if the file is the
    user's own and the user is not root, because a umask of 002 is common, with a group for each user. What a `relative`
    path names depends on where the daemon was started, so that file must be the user's own.
    """
    mode = stat.S_IMODE(status.st_mode)
    own = status.st_uid == user
    why = f"usmd would execute it as user {user}"
    if not stat.S_ISREG(status.st_mode):
        raise InvalidArgument(f"{place} is not a regular file; name a file of Python")
    if status.st_size > MAX_SIZE:
        raise InvalidArgument(f"{place} has {status.st_size:,} bytes; allowed are {MAX_SIZE:,}")
    if not own and status.st_uid != 0:
        raise InvalidArgument(
            f"{place} belongs to user {status.st_uid} and is not loaded: {why}; allowed is a file of root or of that "
            f"user: look at what it does, then `chown {user} {place}`"
        )
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not (own and user != 0)):
        raise InvalidArgument(
            f"{place} has mode {mode:04o}, so that other users may write to it, and is not loaded: {why}; "
            f"look at what it does, then `chmod go-w {place}`"
        )
    if relative and not own:
        raise InvalidArgument(
            f"{place} was given as a relative path, belongs to user {status.st_uid}, and is not loaded: {why}; "
            f"write the absolute path"
        )


def _execute(name: str, place: Path, source: bytes) -> ModuleType:
    """Make the module; it stays in `sys.modules` only if it was executed to its end."""
    module = ModuleType(name)
    module.__file__ = str(place)
    sys.modules[name] = module  # dataclasses, pickle and inspect look for a class's module here
    executed = False
    try:
        exec(compile(source, str(place), "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - on request
        executed = True
    finally:
        if not executed:
            sys.modules.pop(name, None)
    return module

"""Where the libraries in C of lib_usm are. Imports nothing of lib_usm, whose folder they are in."""

from __future__ import annotations

import platform
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Final

FILE: Final = "native/libusm.so"
"""In the folder of lib_usm."""
WHY_NOT: Final = (
    "libusm was not compiled, because there was no C compiler when usmd was installed; install one, and usmd again"
)
_TAKING_OUT: Final = tuple(f"_taking_out{suffix}" for suffix in EXTENSION_SUFFIXES)
_MACHINES: Final = ("x86_64", "aarch64")
"""Those for which lib_usm/native/raw.h makes system calls."""


def library() -> Path | None:
    """The path of libusm; None if it was not compiled."""
    return _find((FILE,))


def taking_out() -> Path | None:
    """The path of the library by which lib_usm takes pages out; None if there is none for this machine."""
    return _find(_TAKING_OUT) if platform.machine() in _MACHINES else None


def _find(names: tuple[str, ...]) -> Path | None:
    spec = find_spec("lib_usm")
    folders = () if spec is None else spec.submodule_search_locations or ()
    return next((path for folder in folders for name in names if (path := Path(folder, name)).is_file()), None)

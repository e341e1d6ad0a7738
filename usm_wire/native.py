"""Where libusm is, the library in C. Imports nothing of lib_usm, whose folder it is in."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

FILE: Final = "native/libusm.so"
"""In the folder of lib_usm."""
WHY_NOT: Final = (
    "libusm was not compiled, because there was no C compiler when usmd was installed; install one, and usmd again"
)


def library() -> Path | None:
    """The path of libusm; None if it was not compiled."""
    spec = find_spec("lib_usm")
    folders = () if spec is None else spec.submodule_search_locations or ()
    return next((path for folder in folders if (path := Path(folder, FILE)).is_file()), None)

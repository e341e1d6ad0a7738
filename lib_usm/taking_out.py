"""Takes pages of this process out of its page table where the daemon asks for that, to hear of their next touch.

A thread in C does it (taking_out.c). If that was not compiled at installation, this process does not offer it. A thread
of Python would need Python's lock, which a thread that waits for a page holds, and would take it from the program some
hundred times a second.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from usm_wire.native import taking_out

_path: Final = taking_out()
_library: Final = None if _path is None else ctypes.CDLL(str(_path))

available: Final = _library is not None
"""True if this process can take its own pages out."""


def begin(descriptor: int) -> None:
    """Take out what the daemon asks for on a socket, until it closes that. The socket is the thread's from now on.

    If there can be no thread, the socket is closed, by which the daemon knows.
    """
    if _library is None or _library.usm_begin_taking_out(descriptor):
        os.close(descriptor)

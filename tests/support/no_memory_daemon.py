"""A change to a daemon: its address space is used up for staging memory as long as the file $USMD_TEST_FULL exists."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from usmd.mechanism import userfaultfd

_FULL = Path(os.environ["USMD_TEST_FULL"])
_make = userfaultfd._Block.__init__


def _make_or_not(self: userfaultfd._Block, size: int) -> None:
    if _FULL.exists():
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    _make(self, size)


def run_out() -> None:
    """Change the staging memory of this process."""
    userfaultfd._Block.__init__ = _make_or_not  # type: ignore[method-assign]

"""A change to a daemon: while the file $USMD_TEST_FULL exists, it cannot allocate staging memory."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from usmd.mechanism.staging import Block

_FULL = Path(os.environ["USMD_TEST_FULL"])
_make = Block.__init__


def _make_or_not(self: Block, size: int) -> None:
    if _FULL.exists():
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    _make(self, size)


def run_out() -> None:
    """Change the staging memory of this process."""
    Block.__init__ = _make_or_not  # type: ignore[method-assign]

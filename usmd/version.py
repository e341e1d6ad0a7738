"""The version of usmd, read from the installed package's metadata."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final


def _installed() -> str:
    try:
        return version("usmd")
    except PackageNotFoundError:
        return "0+source"


VERSION: Final = _installed()
"""For example 0.1.0; 0+source from a source tree that is not installed."""

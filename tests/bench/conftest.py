"""For the benchmarks: their daemons are forked, and their C programs compiled."""

import os
import shutil

import pytest

from bench import native
from tests.support.own_daemons import forked_daemons
from usmd.mechanism import uffd

__all__ = ["forked_daemons"]


@pytest.fixture(scope="module")
def programs():
    """What is compiled; skips where real faults or a compiler are not to be had, which in CI is a failure."""
    why_not = uffd.usable(uffd.probe()) or ("" if shutil.which("gcc") or shutil.which("cc") else "no C compiler")
    if why_not:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why_not)
    with native.compiled() as folder:
        yield folder

"""For tests that need real page faults: skip where the kernel gives none, but never in CI."""

from __future__ import annotations

import os

import pytest

from usmd.mechanism.uffd import probe, usable


def require_real_memory() -> None:
    """Skip the test with the reason where userfaultfd cannot be used; fail it where $CI is set."""
    why_not = usable(probe())
    if why_not and os.environ.get("CI"):
        pytest.fail(f"CI must test real memory: {why_not}; `usmctl doctor` says how to get it")
    if why_not:
        pytest.skip(why_not)

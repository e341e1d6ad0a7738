"""For tests that need real page faults: skips them if this process gets none, but fails them in CI."""

from __future__ import annotations

import os

import pytest

from usmd.mechanism.uffd import probe, usable


def require_real_memory() -> None:
    """If userfaultfd cannot be used, skip the test with the reason, or fail it if $CI is set."""
    why_not = usable(probe())
    if why_not and os.environ.get("CI"):
        pytest.fail(f"CI must test real memory: {why_not}; `usmctl doctor` says how to get it")
    if why_not:
        pytest.skip(why_not)

"""For tests that need real page faults: skips them if this process gets none, but fails them in CI."""

from __future__ import annotations

import os

import pytest

from tests.support.kernel_swap import stays_off
from usmd.mechanism.sampler import kernel_swap, why_no_features, why_not_permitted
from usmd.mechanism.uffd import probe, usable


def require_real_memory() -> None:
    """If userfaultfd cannot be used, skip the test with the reason, or fail it if $CI is set."""
    why_not = usable(probe())
    if why_not and os.environ.get("CI"):
        pytest.fail(f"CI must test real memory: {why_not}; `usmctl doctor` says how to get it")
    if why_not:
        pytest.skip(why_not)


def require_sampling() -> None:
    """If touches cannot be sampled here, skip the test with the reason: the kernel's swap or features, or rights."""
    require_real_memory()
    stays_off()
    why_not = why_no_features(probe().features) or kernel_swap() or why_not_permitted()
    if why_not:
        pytest.skip(f"touches cannot be sampled: {why_not}")

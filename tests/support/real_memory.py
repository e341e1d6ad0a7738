"""For tests that need real page faults: skips them if this process gets none, but fails them in CI."""

from __future__ import annotations

import os

import pytest

from tests.support.kernel_swap import stays_off
from usm_wire.native import taking_out
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
    """If touches cannot be sampled here, skip the test with the reason: the kernel's swap or features."""
    require_real_memory()
    stays_off()
    why_not = why_no_features(probe().features) or kernel_swap()
    if not why_not and taking_out() is None:
        why_not = "lib_usm/taking_out.c was not compiled for this machine"
    if why_not:
        pytest.skip(f"touches cannot be sampled: {why_not}")


def require_pageout() -> None:
    """As `require_sampling`, and this process may take pages of others out."""
    require_sampling()
    if why_not := why_not_permitted():
        pytest.skip(why_not)

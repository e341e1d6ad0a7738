"""What a kind of swap devices has without saying so."""

from __future__ import annotations

from pathlib import Path

import pytest

from usmd.errors import InvalidSize
from usmd.swap.kind import SwapKind


class Plain(SwapKind, frozen=True, kw_only=True):
    """A kind without settings of its own."""


def test_the_plain_form_is_a_size():
    assert Plain.form == "SIZE"
    assert Plain.parse("64KiB") == Plain(size=65536)
    with pytest.raises(InvalidSize, match="'x' cannot be read"):
        Plain.parse("x")


def test_a_device_has_no_path_and_claims_nothing_unless_its_kind_says_so():
    spec = Plain(size=4096, name="a")
    assert spec.placed(Path("/state"), 3) == spec
    assert spec.claim() is None


def test_a_kind_must_say_how_it_is_opened():
    with pytest.raises(NotImplementedError):
        Plain(size=4096).open(0, "a", 4096)

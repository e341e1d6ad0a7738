"""An order of tests in which each folder is spread evenly over the whole; those of a file stay together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest


def mixed(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests in that order, which depends on nothing but them."""
    sizes = Counter(each.path.parent for each in items)
    before: Counter[Path] = Counter()
    places: dict[Path, float] = {}
    """Of each file in its folder: the share of the folder's tests that come before its own."""
    for item in items:
        folder = item.path.parent
        places.setdefault(item.path, before[folder] / sizes[folder])
        before[folder] += 1
    return sorted(items, key=lambda each: (places[each.path], each.path))

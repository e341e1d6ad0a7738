"""Where a process has memfds mapped."""

import os

import pytest

from tests.usmd.mechanism.memory_world import PAGES, world
from usmd.mechanism import process_mappings
from usmd.mechanism.process_mappings import mappings_of, parts_between

__all__ = ["world"]


def test_mappings_of_a_process_are_known_unless_it_is_gone_or_anothers(world, monkeypatch):
    found = mappings_of(os.getpid())
    assert any(start <= world.at(0) and world.at(PAGES) <= end for start, end in found)
    assert all(start < end for start, end in found)
    assert mappings_of(1 << 30) == []

    def refuse(self, *_, **__):
        raise PermissionError

    monkeypatch.setattr(process_mappings.Path, "open", refuse)
    assert mappings_of(os.getpid()) is None


@pytest.mark.parametrize(
    ("start", "end", "parts"),
    [
        (0, 10, []),
        (0, 11, [(10, 1)]),
        (10, 20, [(10, 10)]),
        (15, 45, [(15, 5), (30, 10), (40, 5)]),
        (20, 30, []),
        (50, 99, []),
    ],
)
def test_parts_of_mappings_lie_between_two_addresses(start, end, parts):
    assert list(parts_between([(10, 20), (30, 40), (40, 50)], start, end)) == parts

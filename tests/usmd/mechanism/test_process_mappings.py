"""Where a process has memfds mapped."""

import os

from tests.usmd.mechanism.memory_world import PAGES, world
from usmd.mechanism import process_mappings
from usmd.mechanism.process_mappings import mappings_of

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

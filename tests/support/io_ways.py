"""The ways in which the jobs of a swap file run, for tests that try each of them, also in a daemon.

A daemon that is started while $USMD_TEST_IO names a way uses that one for swap files that do not name one, and direct
I/O where the way needs it.
"""

from __future__ import annotations

import os

import msgspec
import pytest

from usmd.swap import file, ways

EACH = tuple(way for way in ways.WAYS if way != ways.AUTO)
VARIABLE = "USMD_TEST_IO"


def require_way(way: str) -> None:
    """If this machine lacks a way, skip the test with the reason, or fail it if $CI is set."""
    why_not = ways.probe(way)
    if why_not and os.environ.get("CI"):
        pytest.fail(f"CI must test each way of I/O: {way}: {why_not}")
    if why_not:
        pytest.skip(f"{way}: {why_not}")


@pytest.fixture(params=EACH)
def each_way(request, monkeypatch):
    """Runs a test once for each way; its daemons use that way."""
    require_way(request.param)
    monkeypatch.setenv(VARIABLE, request.param)
    return request.param


def use_way_of_environment() -> None:
    """Make swap files of this process use the way that the environment names, if it names one."""
    way = os.environ.get(VARIABLE)
    if way is None:
        return
    opened = file.FileKind.open

    def open_in_that_way(self: file.FileKind, number: int, name: str, page_size: int) -> file.FileSwapDevice:
        if self.io == ways.AUTO:
            self = msgspec.structs.replace(self, io=way, direct=self.direct or way == "aio")
        return opened(self, number, name, page_size)

    file.FileKind.open = open_in_that_way  # type: ignore[method-assign]

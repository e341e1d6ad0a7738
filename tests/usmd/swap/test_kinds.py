"""Kinds of swap devices by name: what is found, and what is said of what cannot be."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from usmd.errors import ConfigError
from usmd.swap import kinds
from usmd.swap.file import FileKind
from usmd.swap.kind import SwapKind
from usmd.swap.memory import MemoryKind, MemorySwapDevice


class Renamed(SwapKind, frozen=True, kw_only=True):
    """Its devices say that they are of another kind."""

    device = MemorySwapDevice


class Closed(SwapKind, frozen=True, kw_only=True):
    """It cannot be opened."""

    class device:  # noqa: N801 - stands for a class of devices
        kind = "tape"


class Deviceless(SwapKind, frozen=True, kw_only=True):
    """It names no class of devices."""


def test_the_built_in_kinds_are_found():
    assert (kinds.find("memory"), kinds.find("file")) == (MemoryKind, FileKind)


def test_an_unknown_kind_is_refused_with_the_likely_one_and_the_forms_of_all():
    with pytest.raises(ConfigError) as caught:
        kinds.find("memry")
    assert "there is no kind 'memry' of swap devices; did you mean memory? a device is memory:SIZE or " in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("no.such.module:Kind", "cannot be loaded: ModuleNotFoundError("),
        ("usmd.swap.memory:Absent", "cannot be loaded: it is not a subclass of SwapKind"),
        ("usmd.swap.memory:MemorySwapDevice", "cannot be loaded: it is not a subclass of SwapKind"),
        (f"{__name__}:Renamed", "cannot be used: the kind of its devices is 'memory', and not 'tape'"),
        (f"{__name__}:Closed", "cannot be used: it does not define `open`"),
        (f"{__name__}:Deviceless", "cannot be used: the kind of its devices is None, and not 'tape'"),
    ],
)
def test_a_kind_that_cannot_be_used_is_refused_with_the_reason(monkeypatch, target, why):
    monkeypatch.setitem(kinds.TABLE, "tape", target)
    with pytest.raises(ConfigError) as caught:
        kinds.find("tape")
    assert str(caught.value).startswith(f"kind tape of swap devices ({target}) {why}")


def test_kinds_of_packages_are_entered_and_replace_none():
    table = {"memory": "usmd.swap.memory:MemoryKind"}
    points = [
        EntryPoint("memory", "other:Kind", kinds.GROUP),
        EntryPoint("redis", "redis_swap:RedisKind [extra]", kinds.GROUP),
    ]
    kinds.enter_packages(table, points)
    assert table == {"memory": "usmd.swap.memory:MemoryKind", "redis": "redis_swap:RedisKind"}


def test_the_forms_name_kinds_of_packages_without_importing_them(monkeypatch):
    monkeypatch.setitem(kinds.TABLE, "tape", "no.such.module:Kind")
    assert kinds.forms(" | ").startswith("memory:SIZE | ")
    assert kinds.forms().endswith("tape:...")
    assert kinds.form("file") == "file:PATH:SIZE[:direct][:WAY]"

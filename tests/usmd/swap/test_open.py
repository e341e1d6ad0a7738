"""The text forms of swap devices, and opening all or none."""

from __future__ import annotations

import fcntl
import os

import pytest

from usmd.errors import ConfigError, SwapDeviceError
from usmd.swap.base import MAX_DEVICES
from usmd.swap.file import FileKind
from usmd.swap.memory import MemoryKind
from usmd.swap.open import open_devices, parse_swap_spec

PAGE = 4096


@pytest.fixture
def opened():
    """Opens devices and closes them at the end."""
    devices = []

    def build(*specs):
        devices.extend(open_devices(specs, PAGE))
        return devices

    yield build
    for device in devices:
        device.close()


def memory(size=PAGE, name=None):
    return MemoryKind(size=size, name=name)


def file(path, size=PAGE, name=None):
    return FileKind(size=size, path=str(path), name=name)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("memory:64MiB", MemoryKind(size=64 << 20)),
        ("memory:8192", MemoryKind(size=8192)),
        ("file:/var/swap:1GiB", FileKind(size=1 << 30, path="/var/swap")),
        ("file:swap:4 KiB", FileKind(size=4096, path="swap")),
        ("file:/a:b:c:4096", FileKind(size=4096, path="/a:b:c")),
        ("file:/swap:4096:direct", FileKind(size=4096, path="/swap", direct=True)),
        ("file:/swap:direct:4096", FileKind(size=4096, path="/swap:direct")),
        ("file:/swap:direct:4096:direct", FileKind(size=4096, path="/swap:direct", direct=True)),
    ],
)
def test_text_forms_are_read(text, spec):
    assert parse_swap_spec(text) == spec


@pytest.mark.parametrize("text", ["", "memory64MiB", "disk:/x:64MiB", "Memory:64MiB", ":64MiB"])
def test_a_kind_that_does_not_exist_is_refused_with_the_forms_of_those_that_do(text):
    with pytest.raises(ConfigError) as caught:
        parse_swap_spec(text)
    assert str(caught.value).startswith(f"swap device {text!r}: there is no kind {text.partition(':')[0]!r}")
    assert "a device is memory:SIZE or " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("memory", "memory:SIZE"),
        ("memory:", "memory:SIZE"),
        ("memory:64MQ", "memory:SIZE"),
        ("memory:x:64MiB", "memory:SIZE"),
        ("memory:64MiB:direct", "memory:SIZE"),
        ("file", "file:PATH:SIZE[:direct][:WAY]"),
        ("file:64MiB", "file:PATH:SIZE[:direct][:WAY]"),
        ("file::64MiB", "file:PATH:SIZE[:direct][:WAY]"),
        ("file:4096:direct", "file:PATH:SIZE[:direct][:WAY]"),
        ("file:/x:", "file:PATH:SIZE[:direct][:WAY]"),
        ("file:/x", "file:PATH:SIZE[:direct][:WAY]"),
        ("file:/x:-1", "file:PATH:SIZE[:direct][:WAY]"),
        ("file:/x:1.5GiB", "file:PATH:SIZE[:direct][:WAY]"),
    ],
)
def test_text_that_does_not_have_the_form_of_its_kind_is_refused_with_that_form(text, form):
    with pytest.raises(ConfigError) as caught:
        parse_swap_spec(text)
    assert str(caught.value).startswith(f"swap device {text!r}: ")
    assert str(caught.value).endswith(f"; a {text.partition(':')[0]} device is {form}")


def test_devices_are_numbered_in_order_and_named_by_kind_and_number(opened, tmp_path):
    devices = opened(memory(), file(tmp_path / "a"), memory(name="fast"), file(tmp_path / "b"))
    assert [(d.number, d.name, d.kind) for d in devices] == [
        (0, "memory0", "memory"),
        (1, "file1", "file"),
        (2, "fast", "memory"),
        (3, "file3", "file"),
    ]
    assert [d.path for d in devices] == [None, str(tmp_path / "a"), None, str(tmp_path / "b")]


def test_sizes_are_rounded_down_to_pages_and_the_header_comes_on_top(opened, tmp_path):
    one, two = opened(memory(3 * PAGE - 1), file(tmp_path / "swap", 3 * PAGE - 1))
    assert (one.slots, two.slots) == (2, 2)
    assert (tmp_path / "swap").stat().st_size == 3 * PAGE


@pytest.mark.parametrize("size", [0, PAGE - 1])
def test_less_than_a_page_is_refused(tmp_path, size):
    for spec in (memory(size), file(tmp_path / "swap", size)):
        with pytest.raises(ConfigError, match="is smaller than one page of 4 KiB; give at least one page"):
            open_devices([spec], PAGE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [("a", "a"), ("memory1", None)])
def test_a_name_twice_is_refused(names):
    with pytest.raises(ConfigError, match=rf"swap device 1: the name '{names[0]}' is taken"):
        open_devices([memory(name=name) for name in names], PAGE)


@pytest.mark.parametrize("name", ["", "7", "a b", "a;b", "a=b", "x" * 65, "a\n"])
def test_a_name_that_a_hint_could_not_say_is_refused(name):
    with pytest.raises(ConfigError, match="is not allowed; a name is a letter and then"):
        open_devices([memory(name=name)], PAGE)


def test_a_path_twice_is_refused_also_in_another_spelling(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    for other in (tmp_path / "swap", tmp_path / "x" / ".." / "swap", tmp_path / "link" / "swap"):
        with pytest.raises(ConfigError, match=r"swap device file1: the path .* is taken"):
            open_devices([file(tmp_path / "swap"), file(other)], PAGE)
        assert not (tmp_path / "swap").exists()


def test_a_path_with_a_nul_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="has a NUL"):
        open_devices([file(f"{tmp_path}/a\0b")], PAGE)


def test_the_most_devices_are_opened_and_one_more_refused(opened):
    assert [d.number for d in opened(*[memory()] * MAX_DEVICES)] == list(range(32))
    with pytest.raises(ConfigError, match="33 swap devices; at most 32 are allowed"):
        open_devices([memory()] * 33, PAGE)


def test_when_one_fails_to_open_the_earlier_ones_are_closed(tmp_path):
    with pytest.raises(SwapDeviceError, match="does not exist"):
        open_devices([file(tmp_path / "good"), memory(), file(tmp_path / "no" / "bad")], PAGE)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_a_path_is_refused():
    with pytest.raises(ConfigError, match="swap device file0 has no path; give the path"):
        open_devices([FileKind(size=PAGE)], PAGE)


def test_no_devices_is_allowed():
    assert open_devices([], PAGE) == []


def test_a_direct_file_is_opened_as_one(opened, tmp_path):
    plain, direct = opened(file(tmp_path / "a"), FileKind(size=PAGE, path=str(tmp_path / "b"), direct=True))
    assert [(each.kind, each.name) for each in (plain, direct)] == [("file", "file0"), ("file", "file1")]
    modes = [fcntl.fcntl(each._descriptor, fcntl.F_GETFL) & os.O_DIRECT for each in (plain, direct)]
    assert [bool(mode) for mode in modes] == [False, True]


def test_direct_io_of_pages_smaller_than_a_block_is_refused(tmp_path):
    with pytest.raises(SwapDeviceError, match=r"whole blocks of 4 KiB, and a page has 2 KiB; .* memory\.page_size"):
        open_devices([FileKind(size=PAGE, path=str(tmp_path / "swap"), direct=True)], 2048)
    assert list(tmp_path.iterdir()) == []

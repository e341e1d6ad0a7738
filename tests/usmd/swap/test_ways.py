"""The choice among io_uring, Linux AIO and threads, with its reasons."""

import errno
import os

import pytest

from tests.support.io_ways import require_way
from usmd.config_values import IoWay, read_table
from usmd.errors import ConfigError, SwapDeviceError
from usmd.swap import ways
from usmd.swap.file import FileKind, FileSwapDevice

PAGE = 4096


@pytest.fixture
def descriptor(tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, PAGE)
    yield descriptor
    os.close(descriptor)


def lacks(monkeypatch, *classes, code=errno.EPERM):
    """Have the constructors of these channels fail."""

    def fail(self, target):
        raise OSError(code, os.strerror(code))

    for each in classes:
        monkeypatch.setattr(each, "__init__", fail)


def chosen(way, descriptor, *, direct):
    channel, why = ways.choose(way, descriptor, direct=direct)
    if channel is None:
        return "threads", why
    channel.close()
    return channel.way, why


@pytest.mark.parametrize(("direct", "way"), [(True, "aio"), (False, "io_uring")])
def test_auto_takes_the_faster_way(descriptor, direct, way):
    require_way(way)
    assert chosen("auto", descriptor, direct=direct) == (way, "")


def test_auto_takes_io_uring_for_direct_io_without_linux_aio(descriptor, monkeypatch):
    require_way("io_uring")
    lacks(monkeypatch, ways.LinuxAio)
    assert chosen("auto", descriptor, direct=True) == ("io_uring", "aio: Operation not permitted")


def test_auto_takes_threads_for_the_page_cache_without_io_uring(descriptor, monkeypatch):
    lacks(monkeypatch, ways.IoUring, code=errno.ENOSYS)
    way, why = chosen("auto", descriptor, direct=False)
    assert way == "threads"
    assert why.startswith("io_uring: Function not implemented; aio: Linux AIO waits for a file")


def test_auto_takes_threads_where_there_is_nothing_else(descriptor, monkeypatch):
    lacks(monkeypatch, ways.IoUring, ways.LinuxAio)
    assert chosen("auto", descriptor, direct=True)[0] == "threads"


def test_a_way_that_opens_and_reads_nothing_is_not_taken(descriptor, monkeypatch):
    require_way("io_uring")
    monkeypatch.setattr(ways.IoUring, "submit", lambda self, requests: 0)
    way, why = chosen("auto", descriptor, direct=False)
    assert way == "threads"
    assert "io_uring: it takes no request" in why


@pytest.mark.parametrize("way", ["io_uring", "aio", "threads"])
def test_the_configuration_decides(descriptor, way):
    require_way(way)
    assert chosen(way, descriptor, direct=True) == (way, "the configuration says so")


@pytest.mark.parametrize("way", ["io_uring", "aio"])
def test_a_way_that_is_wanted_and_missing_is_an_error_that_leaves_no_file(tmp_path, monkeypatch, way):
    lacks(monkeypatch, ways.IoUring, ways.LinuxAio)
    path = tmp_path / "swap"
    with pytest.raises(SwapDeviceError, match=f"swap file {path}: {way}: Operation not permitted"):
        FileSwapDevice(number=0, name="disk", path=str(path), slots=4, page_size=PAGE, direct=True, io=way)
    assert not path.exists()
    assert ways.probe(way).startswith("Operation not permitted")


def test_linux_aio_through_the_page_cache_is_an_error(descriptor):
    with pytest.raises(SwapDeviceError, match="use io_uring or threads, or add `direct`"):
        ways.choose("aio", descriptor, direct=False)


def test_the_key_takes_the_ways_and_nothing_else():
    for way in ways.WAYS:
        assert read_table(FileKind, {"size": "1MiB", "io": way}, "swap[0]").io == way
    with pytest.raises(ConfigError, match=r"swap\[0\].io = 'fast' is not allowed; allowed is one of auto, io_uring"):
        read_table(FileKind, {"size": "1MiB", "io": "fast"}, "swap[0]")
    assert IoWay.__metadata__[0].allowed == f"one of {', '.join(ways.WAYS)}"


@pytest.mark.parametrize("direct", ["", ":direct"])
@pytest.mark.parametrize("way", ways.WAYS)
def test_the_command_line_names_a_way_last(way, direct):
    spec = FileKind.parse(f"/a:b:1MiB{direct}:{way}")
    assert (spec.path, spec.size, spec.direct, spec.io) == ("/a:b", 1 << 20, bool(direct), way)

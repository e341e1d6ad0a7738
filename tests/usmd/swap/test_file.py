"""What is particular to pages in a file: truncation, flipped bits, a full or broken disk."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import subprocess

import pytest

from usmd.errors import DataLoss, InvalidArgument, SwapDeviceError, SwapIOError
from usmd.swap import direct
from usmd.swap.base import SlotIO
from usmd.swap.file import FileSwapDevice

PAGE = 4096


@pytest.fixture
def path(tmp_path):
    return tmp_path / "swap"


@pytest.fixture
def device(path):
    device = FileSwapDevice(number=1, name="disk", path=str(path), slots=64, page_size=PAGE)
    yield device
    device.close()


def entries(slots, fill=None):
    return [
        SlotIO(slot, 1, slot, 1, memoryview(bytearray([slot + 1 if fill is None else fill]) * PAGE)) for slot in slots
    ]


def kinds(results):
    return [None if result is None else type(result) for result in results]


def test_a_slot_lies_behind_the_header_page(device, path):
    device.write(entries([0, 5]))
    data = path.read_bytes()
    assert data[PAGE : 2 * PAGE] == b"\1" * PAGE
    assert data[6 * PAGE : 7 * PAGE] == b"\6" * PAGE


def test_a_flipped_bit_is_data_loss_of_that_slot_alone(device, path):
    device.write(entries(range(8)))
    with path.open("r+b") as file:
        file.seek((3 + 1) * PAGE + 1234)
        file.write(bytes([4 ^ 0x10]))
    results = device.read(entries(range(8), 0))
    assert kinds(results) == [None, None, None, DataLoss, None, None, None, None]
    assert "swap device disk, slot 3" in str(results[3])


@pytest.mark.parametrize("cut", [(4 + 1) * PAGE, (4 + 1) * PAGE + 100, (4 + 1) * PAGE + 1024])
@pytest.mark.parametrize("opened", ["device", "direct_device"])
def test_a_truncated_file_is_data_loss_of_the_slots_cut_off_alone(request, path, opened, cut):
    device = request.getfixturevalue(opened)
    device.write(entries(range(8)))
    os.truncate(path, cut)
    targets = entries(range(8), 0)
    results = device.read(targets)
    assert kinds(results) == [None] * 4 + [DataLoss] * 4
    assert all(targets[slot].buffer == bytes([slot + 1]) * PAGE for slot in range(4))
    assert f"slot 4: the file {path} was truncated" in str(results[4])


def test_a_truncated_file_can_be_written_again_and_the_hole_is_data_loss(device, path):
    device.write(entries(range(8)))
    os.truncate(path, PAGE)
    assert device.write(entries([6])) == [None]
    assert kinds(device.read(entries([5, 6, 7], 0))) == [DataLoss, None, DataLoss]


def test_a_disk_that_fills_up_fails_what_was_not_yet_written_alone(device, path, monkeypatch):
    device.write(entries(range(8), 9))
    real = os.pwritev

    def full_after_slot_2(descriptor, buffers, offset):
        room = (3 + 1) * PAGE + 10 - offset
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, [b"".join(buffers)[:room]], offset)

    monkeypatch.setattr(os, "pwritev", full_after_slot_2)
    results = device.write(entries(range(6)))
    monkeypatch.undo()
    assert kinds(results) == [None] * 3 + [SwapIOError] * 3
    assert str(results[3]) == (
        f"swap device disk, slot 3: {path} cannot be written (No space left on device, errno {errno.ENOSPC})"
    )
    targets = entries(range(8), 0)
    former = [target._replace() for target in targets]
    assert kinds(device.read(former)) == [None] * 3 + [DataLoss] * 3 + [None] * 2
    assert [former[slot].buffer[0] for slot in (0, 1, 2, 6, 7)] == [1, 2, 3, 9, 9]


def test_a_write_that_takes_no_byte_is_an_io_error_not_an_endless_loop(device, monkeypatch):
    monkeypatch.setattr(os, "pwritev", lambda *_: 0)
    assert kinds(device.write(entries([0, 1]))) == [SwapIOError, SwapIOError]


def test_a_bad_sector_is_an_io_error_of_its_slot_alone(device, monkeypatch):
    device.write(entries(range(6)))
    real = os.preadv

    def bad_slot_2(descriptor, buffers, offset):
        if offset <= (2 + 1) * PAGE < offset + sum(map(len, buffers)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", bad_slot_2)
    targets = entries(range(6), 0)
    results = device.read(targets)
    assert kinds(results) == [None, None, SwapIOError, None, None, None]
    assert f"cannot be read (Input/output error, errno {errno.EIO})" in str(results[2])


def test_neighbouring_slots_in_any_order_take_one_call(device, monkeypatch):
    real, calls = os.pwritev, []

    def counted(descriptor, buffers, offset):
        calls.append(len(buffers))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "pwritev", counted)
    device.write(entries([5, 3, 4, 40, 41, 60]))
    assert calls == [3, 2, 1]


def test_pages_survive_the_removal_of_the_file_and_close_removes_no_newer_one(device, path):
    device.write(entries(range(4)))
    path.unlink()
    path.write_text("somebody else's")
    assert device.read(entries(range(4), 0)) == [None] * 4
    device.close()
    assert path.read_text() == "somebody else's"


def test_close_removes_the_file_also_from_another_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    device = FileSwapDevice(number=0, name="disk", path="swap", slots=4, page_size=PAGE)
    assert device.path == str(tmp_path / "swap")
    monkeypatch.chdir("/")
    device.close()
    assert not (tmp_path / "swap").exists()


def test_a_bad_number_makes_no_file(path):
    with pytest.raises(InvalidArgument):
        FileSwapDevice(number=32, name="disk", path=str(path), slots=4, page_size=PAGE)
    assert not path.exists()


def refusing(monkeypatch, code):
    """Reads that must not wait fail with this error number; returns how often that was tried."""
    real, tried = os.preadv, []

    def preadv(descriptor, buffers, offset, flags=0):
        if flags & os.RWF_NOWAIT:
            tried.append(offset)
            raise OSError(code, os.strerror(code))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    return tried


@pytest.mark.parametrize(("code", "tries"), [(errno.EOPNOTSUPP, 1), (errno.EAGAIN, 3), (errno.EIO, 3)])
def test_what_cannot_be_read_at_once_is_read_as_usual_and_only_a_file_system_that_cannot_is_not_asked_again(
    device, monkeypatch, code, tries
):
    device.write(entries([3, 4]))
    tried = refusing(monkeypatch, code)
    for _ in range(3):
        assert device.read_now(entries([3, 4], 0)) is None
    assert tried == [4 * PAGE] * tries
    targets = entries([3, 4], 0)
    assert device.read(targets) == [None, None]
    assert [target.buffer[0] for target in targets] == [4, 5]


def test_what_only_a_part_of_is_in_the_page_cache_is_not_read_at_once(device, monkeypatch):
    device.write(entries(range(4)))
    real = os.preadv

    def preadv(descriptor, buffers, offset, flags=0):
        if flags & os.RWF_NOWAIT:
            return real(descriptor, [buffers[0][:100]], offset)
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    assert device.read_now(entries(range(4), 0)) is None
    assert device.read(entries(range(4), 0)) == [None] * 4


def test_a_truncated_file_is_not_read_at_once(device, path):
    device.write(entries(range(8)))
    os.truncate(path, (4 + 1) * PAGE + 100)
    assert device.read_now(entries(range(8), 0)) is None
    assert kinds(device.read(entries(range(8), 0))) == [None] * 4 + [DataLoss] * 4


def test_neighbours_are_read_at_once_by_one_call_and_none_that_waits(device, monkeypatch):
    device.write(entries([3, 4, 5, 40]))
    real, calls = os.preadv, []

    def preadv(descriptor, buffers, offset, flags=0):
        calls.append((len(buffers), flags))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    targets = entries([5, 3, 40, 4], 0)
    assert device.read_now(targets) == [None] * 4
    assert [target.buffer[0] for target in targets] == [6, 4, 41, 5]
    assert calls == [(3, os.RWF_NOWAIT), (1, os.RWF_NOWAIT)]


@pytest.fixture
def direct_device(path):
    device = FileSwapDevice(number=1, name="disk", path=str(path), slots=64, page_size=PAGE, direct=True)
    yield device
    device.close()


def cached(path):
    """How many pages of the file the page cache holds, as the kernel says."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        count = len(mapping) // mmap.PAGESIZE
        resident = (ctypes.c_ubyte * count)()
        start = ctypes.c_char.from_buffer(mapping)
        assert libc.mincore(ctypes.byref(start), ctypes.c_size_t(len(mapping)), resident) == 0
        del start
        return sum(each & 1 for each in resident)


def test_nothing_of_a_direct_device_is_ever_in_the_page_cache(direct_device, path):
    if subprocess.check_output(["stat", "-f", "-c", "%T", path.parent], text=True).strip() == "tmpfs":
        pytest.skip("a tmpfs is nothing but page cache; point --basetemp at a disk")
    assert direct_device.write(entries(range(64))) == [None] * 64
    assert cached(path) == 0
    targets = entries(range(64), 0)
    assert direct_device.read(targets) == [None] * 64
    assert [target.buffer[0] for target in targets] == [slot + 1 for slot in range(64)]
    assert cached(path) == 0


def test_a_device_without_direct_is_in_the_page_cache(device, path):
    device.write(entries(range(64)))
    assert cached(path) >= 64


def test_a_direct_device_is_never_read_at_once(direct_device, monkeypatch):
    direct_device.write(entries(range(4)))
    monkeypatch.setattr(os, "preadv", lambda *_: pytest.fail("waited for the disk"))
    assert direct_device.read_now(entries(range(4), 0)) is None


def test_a_bad_sector_of_a_direct_file_is_an_io_error_of_its_slot_alone(direct_device, monkeypatch):
    direct_device.write(entries(range(6)))
    real = os.preadv

    def bad_slot_2(descriptor, buffers, offset):
        if offset <= (2 + 1) * PAGE < offset + sum(map(len, buffers)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", bad_slot_2)
    assert kinds(direct_device.read(entries(range(6), 0))) == [None, None, SwapIOError, None, None, None]


def test_a_file_system_that_refuses_direct_io_is_told_and_no_file_is_left(path, monkeypatch):
    def refuse(descriptor, head):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(direct, "switch_on", refuse)
    with pytest.raises(SwapDeviceError, match=r"does no direct I/O \(Invalid argument\); leave out `direct`"):
        FileSwapDevice(number=1, name="disk", path=str(path), slots=8, page_size=PAGE, direct=True)
    assert list(path.parent.iterdir()) == []


def test_pages_that_are_no_whole_blocks_are_refused_for_direct_io(path):
    with pytest.raises(SwapDeviceError, match="whole blocks of 4 KiB, and a page has 512 B; leave out `direct`, or"):
        FileSwapDevice(number=1, name="disk", path=str(path), slots=8, page_size=512, direct=True)
    assert list(path.parent.iterdir()) == []

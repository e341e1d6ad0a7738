"""Where the kernel may end a process for what it has written, it is asked to write that to the disk in time."""

import ctypes
import errno
import mmap
import os

import pytest

from tests.support.io_ways import require_way
from tests.support.waiting import wait_until
from usmd.swap import write_back
from usmd.swap.base import SlotIO
from usmd.swap.channel import DEPTH
from usmd.swap.file import FileSwapDevice
from usmd.swap.io_uring import IoUring
from usmd.swap.submitting import Submission
from usmd.swap.write_back import PART, WriteBack, is_bounded
from usmd.syscalls import syscall

PAGE = 4096
CACHESTAT = 451
"""cachestat(2), Linux 6.5."""


def dirty(descriptor):
    """Pages of a file that are dirty in the page cache, and of those that are being written."""
    span, found = (ctypes.c_uint64 * 2)(0, 0), (ctypes.c_uint64 * 5)()
    try:
        syscall(CACHESTAT, descriptor, ctypes.addressof(span), ctypes.addressof(found), 0)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        pytest.skip("this kernel is older than Linux 6.5 and does not tell which pages are dirty")
    return found[1]


@pytest.fixture
def written(tmp_path):
    """A file with bytes that no disk has."""
    with (tmp_path / "file").open("wb") as file:
        file.write(os.urandom(PART))
        file.flush()
        yield file.fileno()


def test_what_is_dirty_is_written(written):
    write_back.start(written)
    wait_until(lambda: dirty(written) == 0, "no page is dirty")


def test_what_is_dirty_is_written_by_a_thread_of_the_kernel(written):
    require_way("io_uring")
    channel = IoUring(written)
    assert channel.start_writing(7)
    found = []
    wait_until(lambda: found.extend(channel.completed()) or found, "the request has completed")
    assert found == [(7, 0)]
    wait_until(lambda: dirty(written) == 0, "no page is dirty")
    channel.close()


@pytest.mark.parametrize(("bounded", "parts"), [(True, [False] * 3 + [True]), (False, [False] * 4)])
def test_the_kernel_is_asked_after_each_part_where_memory_is_bounded(monkeypatch, bounded, parts):
    monkeypatch.setattr(os, "posix_fadvise", print)
    asked = WriteBack(0, lambda: bounded)
    assert [asked.due(PART // 4) for _ in range(12)] == parts * 3


def test_the_kernel_reads_nothing_ahead_while_memory_is_bounded(monkeypatch):
    advised, answers = [], iter([False, True, True, False])
    monkeypatch.setattr(os, "posix_fadvise", lambda *call: advised.append(call))
    asked = WriteBack(7, lambda: next(answers))
    assert [asked.due(PART) for _ in range(4)] == [False, True, True, False]
    assert advised == [(7, 0, 0, os.POSIX_FADV_RANDOM), (7, 0, 0, os.POSIX_FADV_NORMAL)]


def test_a_device_asks_for_what_it_has_written_in_a_thread(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(write_back, "start", asked.append)
    pages = [SlotIO(slot, 1, slot, 0, memoryview(bytes([slot % 251]) * PAGE)) for slot in range(PART // PAGE)]
    for bounded, direct in ((False, False), (True, True), (True, False)):
        monkeypatch.setattr(write_back.WriteBack, "__init__", bounded_by(bounded))
        device = FileSwapDevice(
            number=0, name="s", path=str(tmp_path / "swap"), slots=len(pages), page_size=PAGE, direct=direct
        )
        for part in (pages[:128], pages[128:]):
            assert device.write(part) == [None] * 128
        device.close()
        assert len(asked) == (bounded and not direct)


def test_a_device_asks_through_its_channel_for_what_it_has_submitted(tmp_path, monkeypatch):
    require_way("io_uring")
    monkeypatch.setattr(write_back, "start", pytest.fail)
    monkeypatch.setattr(write_back.WriteBack, "__init__", bounded_by(True))
    device = FileSwapDevice(number=0, name="s", path=str(tmp_path / "swap"), slots=256, page_size=PAGE, io="io_uring")
    memory = mmap.mmap(-1, 256 * PAGE)
    view, ended = memoryview(memory), []
    for first in range(0, 256, 64):
        batch = [SlotIO(slot, 1, slot, 0, view[slot * PAGE : (slot + 1) * PAGE]) for slot in range(first, first + 64)]
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory, first * PAGE))
        assert device.submit(Submission(batch, address, lambda _, results: ended.append(results), writing=True))
    wait_until(lambda: device.complete() or len(ended) == 4, "all jobs have ended")
    wait_until(lambda: device.complete() or dirty(device._descriptor) == 0, "no page is dirty")
    assert ended == [[None] * 64] * 4
    assert device.room == DEPTH
    device.close()


def bounded_by(answer, make=WriteBack.__init__):
    return lambda self, descriptor: make(self, descriptor, lambda: answer)


def cgroup(tmp_path, *, limit, within="/ours", mounted="/ours", options="rw,memory"):
    """The two files in /proc of a process in a memory cgroup."""
    folder = tmp_path / "mount" / mounted.lstrip("/")
    folder.mkdir(parents=True)
    (folder / "memory.stat").write_text(f"cache 5\nhierarchical_memory_limit {limit}\n")
    mounts, cgroups = tmp_path / "mounts", tmp_path / "cgroup"
    mounts.write_text(f"tmpfs /dev tmpfs rw 0 0\ncgroup {tmp_path}/mount cgroup {options} 0 0\n")
    cgroups.write_text(f"4:cpu,cpuacct:/x\n3:memory:{within}\n0::/unified\n")
    return mounts, cgroups


def test_a_process_is_bounded_by_a_limit_below_the_memory_of_the_machine(tmp_path):
    assert is_bounded(*cgroup(tmp_path, limit=64 << 20))


def test_a_cgroup_may_be_the_root_of_what_a_container_sees(tmp_path):
    assert is_bounded(*cgroup(tmp_path, limit=64 << 20, within="/docker/1234", mounted="/"))


@pytest.mark.parametrize(
    "changes", [{"limit": 0x7FFFFFFFFFFFF000}, {"limit": "odd"}, {"limit": 1, "options": "rw,cpu"}]
)
def test_without_such_a_limit_it_is_not(tmp_path, changes):
    assert not is_bounded(*cgroup(tmp_path, **changes))


def test_under_version_2_it_is_not(tmp_path):
    mounts, cgroups = cgroup(tmp_path, limit=1)
    cgroups.write_text("0::/ours\n")
    assert not is_bounded(mounts, cgroups)
    assert not is_bounded(tmp_path / "none", cgroups)

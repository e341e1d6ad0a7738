"""The comparison with the kernel's swap runs, says what it skips, and leaves nothing behind; no time is asserted."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench import kernel_memory, native, reader, side_by_side
from bench.kernel_memory import UnavailableError, memory_cgroup, swap_file
from bench.native import PAGE, compiled
from tests.support import kernel_swap
from usmd.mechanism import uffd

MIB = 1 << 20


@pytest.fixture
def tiny(monkeypatch):
    kernel_swap.is_used()
    monkeypatch.setattr(side_by_side, "DATA", 16 * MIB)
    monkeypatch.setattr(side_by_side, "SWAP", 24 * MIB)
    monkeypatch.setattr(side_by_side, "WARM", 100)
    monkeypatch.setattr(side_by_side, "READS", 200)


@pytest.fixture
def real_faults():
    """Skips where real faults or a compiler are not to be had, which in CI is a failure."""
    why_not = uffd.usable(uffd.probe()) or ("" if shutil.which("gcc") or shutil.which("cc") else "no C compiler")
    if why_not:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why_not)


def refused(*_arguments):
    raise UnavailableError("not to be had in this test")


def test_each_side_has_a_line_or_the_reason_why_it_has_none(real_faults, tiny, capsys):
    swaps = kernel_memory.SWAPS.read_text()
    side_by_side.main()
    out = capsys.readouterr().out
    assert "usmd  " in out
    assert "reads/s" in out
    assert "ratio usmd / kernel" in out or "skipped: " in out
    assert kernel_memory.SWAPS.read_text() == swaps


def test_without_cgroups_the_kernels_side_is_skipped_by_name(real_faults, tiny, monkeypatch, capsys):
    monkeypatch.setattr(side_by_side, "memory_cgroup", refused)
    side_by_side.main()
    lines = capsys.readouterr().out.splitlines()
    assert "  kernel: skipped: not to be had in this test" in lines
    assert "  usmd, page cache bounded: skipped: not to be had in this test" in lines
    assert sum("reads/s" in line for line in lines) == 1


def test_where_the_kernel_has_no_userfaultfd_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(uffd, "probe", lambda: uffd.Offer("", uffd.Feature(0), "no userfaultfd: as of this test"))
    side_by_side.main()
    assert "skipped: no userfaultfd: as of this test" in capsys.readouterr().out


def test_without_a_compiler_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(uffd, "usable", lambda _offer: "")
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    side_by_side.main()
    assert "skipped: no gcc or cc on PATH" in capsys.readouterr().out


def settings(folder, **changes):
    given = {"data": 4 * MIB, "skew": 0.99, "warm": 100, "reads": 400, "seconds": 5.0, **changes}
    return reader.Settings(library=str(folder / "touch.so"), **given)


@pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("cc") is None, reason="no C compiler")
class TestReader:
    def test_it_reads_what_it_stored(self):
        with compiled() as folder:
            result = reader.run(settings(folder))
        assert result.reads == 400
        assert result.wrong == 0
        assert 0 < result.p50 <= result.p99

    def test_a_wrong_byte_is_counted(self, monkeypatch):
        monkeypatch.setattr(native.Touch, "fill", lambda *_arguments: None)
        with compiled() as folder:
            assert reader.run(settings(folder)).wrong == 500

    def test_it_stops_when_the_time_is_over(self, monkeypatch):
        monkeypatch.setattr(reader, "_PART", 50)
        with compiled() as folder:
            assert reader.run(settings(folder, seconds=0.0)).reads == 50


def test_few_pages_get_most_reads_and_the_same_ones_each_time():
    wanted = reader.Settings(library="", data=4 * MIB, skew=0.99, warm=0, reads=20_000, seconds=1.0)
    chosen = reader.records(wanted)
    assert np.array_equal(chosen, reader.records(wanted))
    counts = np.sort(np.bincount(chosen // (PAGE // native.RECORD), minlength=4 * MIB // PAGE))[::-1]
    assert len(counts) == 4 * MIB // PAGE
    assert counts[: len(counts) // 4].sum() > 0.7 * len(chosen)


def mounts(tmp_path, monkeypatch, *lines):
    path = tmp_path / "mounts"
    path.write_text("".join(f"{line}\n" for line in lines))
    monkeypatch.setattr(kernel_memory, "MOUNTS", path)


class TestCgroup:
    def test_without_a_cgroup_file_system(self, tmp_path, monkeypatch):
        mounts(tmp_path, monkeypatch, "proc /proc proc rw 0 0", "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0")
        with pytest.raises(UnavailableError, match="no cgroup file system"), memory_cgroup(MIB):
            pass

    def test_without_a_memory_controller(self, tmp_path, monkeypatch):
        mounts(tmp_path, monkeypatch, f"cgroup2 {tmp_path} cgroup2 rw 0 0")
        (tmp_path / "cgroup.subtree_control").write_text("cpu pids\n")
        with pytest.raises(UnavailableError, match="no memory controller"), memory_cgroup(MIB):
            pass

    def test_version_2_has_its_own_file_names(self, tmp_path, monkeypatch):
        mounts(tmp_path, monkeypatch, f"cgroup2 {tmp_path} cgroup2 rw 0 0")
        (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
        monkeypatch.setattr(kernel_memory, "_remove", shutil.rmtree)  # a plain folder goes with its files only
        with memory_cgroup(MIB) as group:
            group.add(1234)
            group.forbid_swap()
            found = {path.name: path.read_text() for path in group.path.iterdir()}
        assert found == {"memory.max": str(MIB), "cgroup.procs": "1234", "memory.swap.max": "0"}

    def test_a_folder_that_may_not_be_written(self, tmp_path, monkeypatch):
        mounts(tmp_path, monkeypatch, f"cgroup {tmp_path / 'gone'} cgroup rw,memory 0 0")
        with pytest.raises(UnavailableError, match="no cgroup can be made"), memory_cgroup(MIB):
            pass


class TestSwapFile:
    def test_swap_that_is_there_is_used(self, tmp_path, monkeypatch):
        path = tmp_path / "swaps"
        path.write_text("Filename Type Size Used Priority\n/dev/zram0 partition 1 0 5\n")
        monkeypatch.setattr(kernel_memory, "SWAPS", path)
        with swap_file(MIB) as what:
            assert what == "the machine's own swap (/dev/zram0)"

    def test_a_refusal_names_the_reason_and_leaves_no_file(self, tmp_path, monkeypatch):
        (tmp_path / "swaps").write_text("Filename Type Size Used Priority\n")
        monkeypatch.setattr(kernel_memory, "SWAPS", tmp_path / "swaps")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setattr(kernel_memory, "_HEADER_AT", 0)  # so the kernel finds no version, and refuses
        with pytest.raises(UnavailableError, match="swapon refuses"), swap_file(MIB):
            pass
        assert [path for path in tmp_path.iterdir() if path != Path(tmp_path / "swaps")] == []

"""The benchmark of real faults runs and measures what it says; no time is asserted."""

import os
import shutil

import numpy as np
import pytest

from bench import native, real_faults, real_swap
from bench.c_handler import CHandler
from bench.native import PAGE, Latency, Touch
from usmd.mechanism import uffd

CPUS = sorted(os.sched_getaffinity(0))


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(real_faults, "MEMORY", "32MiB")
    monkeypatch.setattr(real_faults, "ROUNDS", 1)
    monkeypatch.setattr(real_faults, "FAULTS", {1: 20, 512: 2})
    monkeypatch.setattr(real_swap, "MEMORY", "16MiB")
    monkeypatch.setattr(real_swap, "SWAP", "32MiB")
    monkeypatch.setattr(real_swap, "DATA", 4 << 20)
    monkeypatch.setattr(real_swap, "ROUNDS", 1)
    monkeypatch.setattr(real_swap, "RANDOM_TOUCHES", 50)


def test_each_placement_has_a_ratio_to_the_c_handler_for_each_number_of_pages(programs, tiny, monkeypatch, capsys):
    monkeypatch.setattr(real_swap, "measure", lambda _touch: None)
    real_faults.main()
    lines = capsys.readouterr().out.splitlines()
    names = [line.partition("usmd")[0].strip() for line in lines if " ratio " in line]
    assert names == [each.name for each in real_faults.PLACEMENTS if each.where != "other CPU" or len(CPUS) > 1] * 2
    aims = [line.partition("(aim ")[2][:4] for line in lines if " ratio " in line]
    assert aims == ["1.50"] * (len(aims) // 2) + ["1.20"] * (len(aims) // 2)
    assert sum("kernel alone" in line for line in lines) == 2
    assert sum("best of usmd" in line and "aim 25.00: " in line for line in lines) == 1


def test_eviction_and_swap_in_have_a_line_each(programs, tiny, capsys):
    real_swap.measure(Touch(programs / "touch.so"))
    lines = capsys.readouterr().out.splitlines()
    assert sum("eviction, " in line for line in lines) == 2
    assert sum("fault on a swapped page" in line for line in lines) == 2
    assert sum("swap-in in order" in line for line in lines) == len(real_swap.SEQUENTIAL)


@pytest.mark.parametrize("spin", [0, 50])
@pytest.mark.parametrize("pages", [1, 3])
def test_the_c_handler_serves_each_fault_and_fills_its_block(programs, pages, spin):
    touch, length = Touch(programs / "touch.so"), 10 * PAGE
    with CHandler(programs / "handler", length, pages=pages, spin=spin, cpu=CPUS[0]) as handler:
        times = touch.touch(handler.address, np.arange(0, 10, pages, dtype=np.uint32), write=True)
        assert native.present(handler.address, length) == 10
        touch.fill(handler.address, 0, length, seed=7)
        assert touch.wrong_words(handler.address, 0, length, seed=7) == 0
    assert handler.faults == len(times)
    assert np.all(times > 1)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("pages", [1, 3])
def test_the_c_handler_brings_in_what_a_file_has(programs, tmp_path, pages, direct):
    touch, length, swap = Touch(programs / "touch.so"), 9 * PAGE, tmp_path / "pages"
    data = bytearray(length)
    touch.fill(native.address_of(data), 0, length, seed=3)
    swap.write_bytes(data)
    with CHandler(programs / "handler", length, pages=pages, spin=0, cpu=CPUS[0], swap=swap, direct=direct) as handler:
        for _ in range(2):
            assert native.present(handler.address, length) == 0
            touch.touch(handler.address, np.arange(0, 9, pages, dtype=np.uint32), write=False)
            assert native.present(handler.address, length) == 9
            assert touch.wrong_words(handler.address, 0, length, seed=3) == 0
            handler.forget()
    assert handler.faults == 2 * 9 / pages


def test_what_is_read_is_compared_with_what_was_stored(programs):
    touch, data = Touch(programs / "touch.so"), bytearray(2 * PAGE)
    address = native.address_of(data)
    for offset in (PAGE, 0):
        touch.fill(address, offset, PAGE, seed=7)
    records, times = (
        np.arange(2 * PAGE // native.RECORD, dtype=np.uint32),
        np.zeros(2 * PAGE // native.RECORD, np.uint64),
    )
    assert touch.read_records(address, records, 7, times) == 0
    assert touch.read_records(address, records, 8, times) == len(records)
    data[PAGE + 3] ^= 1
    assert touch.read_records(address, records, 7, times) == 1
    assert touch.wrong_words(address, 0, 2 * PAGE, seed=7) == 1


def test_p50_is_the_median_of_the_rounds_and_p99_that_of_all_touches():
    rounds = [np.array(each, np.uint64) * 1000 for each in ([1, 2, 9], [3, 4, 5], [6, 7, 8])]
    assert Latency.of(rounds).p50 == 4
    assert 8 < Latency.of(rounds).p99 <= 9


def test_where_the_kernel_has_no_userfaultfd_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(uffd, "probe", lambda: uffd.Offer("", uffd.Feature(0), "no userfaultfd: as of this test"))
    real_faults.main()
    assert "skipped: no userfaultfd: as of this test" in capsys.readouterr().out


def test_without_a_compiler_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(uffd, "usable", lambda _offer: "")
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    real_faults.main()
    assert "skipped: no gcc or cc on PATH" in capsys.readouterr().out

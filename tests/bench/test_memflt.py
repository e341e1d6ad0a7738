"""The benchmark of faults by huge page size runs, measures what it says, and draws it; no time is asserted."""

import numpy as np
import pytest

from bench import memflt
from bench.native import PAGE
from tests.support.real_memory import require_real_memory


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.setattr(memflt, "MEMORY", "6MiB")
    monkeypatch.setattr(memflt, "SWAP", "8MiB")
    monkeypatch.setattr(memflt, "LENGTH", 2 << 20)
    monkeypatch.setattr(memflt, "ROUNDS", 1)
    monkeypatch.setattr(memflt, "LITTLE", "2MiB")
    monkeypatch.setattr(memflt, "TOUCHES", 20)
    monkeypatch.setattr(memflt, "SIZES", ("4K", "64K", "2M", "AUTO"))
    monkeypatch.setattr(memflt, "PRESSED", ("4K", "AUTO"))
    monkeypatch.setattr(memflt, "OUT", tmp_path / "out" / "memflt.png")


@pytest.mark.parametrize("order", memflt.ORDERS)
def test_each_order_touches_each_page_once(order):
    pages = memflt.pages_in(order, 1000)
    assert pages.dtype == np.uint32
    assert sorted(pages) == list(range(1000))
    assert (list(pages) == sorted(pages)) == (order == "in order")


def test_each_side_has_a_line_and_the_picture_is_drawn(tiny, programs, capsys):
    require_real_memory()
    pytest.importorskip("matplotlib")
    memflt.main()
    lines = capsys.readouterr().out.splitlines()
    of_usmd = [line for line in lines if line.startswith("  usmd ")]
    assert [line.split()[1] for line in of_usmd] == list(memflt.SIZES)
    assert all(len(line.split()) == 2 + 2 * len(memflt.ORDERS) for line in of_usmd)
    assert sum(line.startswith("  kernel, ") for line in lines) == 3
    assert sum("(aim " in line for line in lines) == 3 + len(memflt.ORDERS) + 1
    assert [line.split()[1] for line in lines if " us a touch, " in line] == list(memflt.PRESSED)
    assert memflt.OUT.read_bytes().startswith(b"\x89PNG")


def test_a_machine_without_userfaultfd_is_told_so(monkeypatch, capsys):
    monkeypatch.setattr(memflt.uffd, "usable", lambda offer: "no userfaultfd")
    memflt.main()
    assert capsys.readouterr().out.splitlines()[-1] == "  skipped: no userfaultfd"


def test_sizes_are_pages_or_more():
    assert memflt.LENGTH % PAGE == 0

"""The scans run on each side, check what they read, and say what they skip; no time is asserted."""

import os

import numpy as np
import pytest

from bench import scan, scanner
from bench.kernel_memory import UnavailableError
from bench.native import PAGE
from tests.support import kernel_swap
from usmd.mechanism import uffd

MIB = 1 << 20
ORDERS = ["first_touch", "fill", "sum", "backward", "strided", "interleaved", "zipf"]


@pytest.fixture
def tiny(monkeypatch):
    kernel_swap.is_used()
    for name, value in {"MEMORY": 2 * MIB, "DATA": 4 * MIB, "SWAP": 8 * MIB, "FRESH": MIB}.items():
        monkeypatch.setattr(scan, name, value)
    monkeypatch.setattr(scan, "ZIPF", 200)
    monkeypatch.setattr(scan, "PASSES", 1)


@pytest.fixture
def real_faults():
    """Skips where there are no real faults, which in CI is a failure."""
    why_not = uffd.usable(uffd.probe())
    if why_not:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why_not)


def test_each_order_has_a_line(real_faults, tiny, capsys):
    scan.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "MiB/s" in line] == ORDERS


def test_without_cgroups_usmd_is_measured_alone(real_faults, tiny, monkeypatch, capsys):
    def refused(*_arguments):
        raise UnavailableError("not to be had in this test")

    monkeypatch.setattr(scan, "memory_cgroup", refused)
    scan.main()
    lines = capsys.readouterr().out.splitlines()
    assert "  page cache bounded, and kernel: skipped: not to be had in this test" in lines
    assert [line.split()[1] for line in lines if "MiB/s" in line] == ["single"] * len(ORDERS)


def test_where_the_kernel_has_no_userfaultfd_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(uffd, "probe", lambda: uffd.Offer("", uffd.Feature(0), "no userfaultfd: as of this test"))
    scan.main()
    assert "skipped: no userfaultfd: as of this test" in capsys.readouterr().out


def settings():
    return scanner.Settings(data=4 * MIB, fresh=MIB, passes=2, zipf=200)


def test_the_scanner_reads_what_it_stored():
    result = scanner.run(settings())
    assert result.wrong == 0
    assert list(result.orders) == ORDERS
    assert result.orders["sum"].pages == 4 * MIB // PAGE
    assert result.orders["zipf"].pages == 200


def test_a_wrong_byte_is_counted(monkeypatch):
    chosen = scanner.orders(4 * MIB // PAGE, 400)
    monkeypatch.setattr(np, "arange", lambda count: np.full(count, 7))  # the numbers of each page that is stored
    made = scanner.measure(settings(), chosen, lambda size: memoryview(bytearray(size)), dict)
    assert made.wrong > 0


def test_every_order_but_zipf_touches_each_page_once():
    for name, order in scanner.orders(64, 100).items():
        assert name == "zipf" or sorted(order) == list(range(64))

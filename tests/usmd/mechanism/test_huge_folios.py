"""Huge folios: what the settings of a machine give, and how one is taken."""

import mmap
import os

import pytest

from tests.support.folios import folios_so_far, shmem_enabled
from usmd.mechanism import huge_folios
from usmd.mechanism.huge_folios import FOLDER, Folios, look
from usmd.mechanism.real_region import RealRegion

KIB = 1 << 10
FOLIO = 2 << 20


def machine(root, *, whole=None, pmd=None, sizes=()):
    folder = root / FOLDER.lstrip("/")
    folder.mkdir(parents=True)
    if whole is not None:
        (folder / "shmem_enabled").write_text(whole)
    if pmd is not None:
        (folder / "hpage_pmd_size").write_text(f"{pmd}\n")
    for size, value in dict(sizes).items():
        (folder / f"hugepages-{size}kB").mkdir()
        if value is not None:
            (folder / f"hugepages-{size}kB" / "shmem_enabled").write_text(value)
    return root


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({}, Folios((), (), "")),
        ({"whole": "always within_size advise [never] deny force", "pmd": FOLIO}, Folios((), (FOLIO,), "never")),
        ({"whole": "always within_size [advise] never deny force", "pmd": FOLIO}, Folios((FOLIO,), (), "advise")),
        (
            {
                "whole": "[advise]",
                "pmd": FOLIO,
                "sizes": {16: "[never]", 64: "always [inherit]", 128: "[always]", 2048: "[never]", 256: None},
            },
            Folios((64 * KIB, 128 * KIB), (16 * KIB, FOLIO), "advise"),
        ),
        (
            {"whole": "[never]", "pmd": FOLIO, "sizes": {64: "[within_size]", 2048: "[inherit]"}},
            Folios((64 * KIB,), (FOLIO,), "never"),
        ),
        ({"whole": "[deny]", "pmd": FOLIO, "sizes": {64: "[always]"}}, Folios((), (64 * KIB, FOLIO), "deny")),
        ({"whole": "[always]", "pmd": 512 << 20, "sizes": {4: "[always]"}}, Folios((), (), "always")),
        ({"whole": "unreadable", "pmd": "no number"}, Folios((), (), "")),
    ],
)
def test_the_settings_say_which_sizes_there_are(tmp_path, setting, expected):
    assert look(machine(tmp_path, **setting)) == expected


def test_this_machine_is_looked_at():
    found = look()
    assert all(huge_folios.HARDWARE_PAGE < size <= FOLIO for size in found.sizes + found.others)


def test_a_folio_is_taken_by_one_touch_and_leaves_what_is_there():
    with shmem_enabled("advise"):
        region = RealRegion(1, 3 * 512, mmap.PAGESIZE)
        try:
            assert region.address % FOLIO == 0
            os.pwrite(region.memfd, b"there", FOLIO + 5)
            before = folios_so_far()
            there = huge_folios.take(region.address, 2 * FOLIO, FOLIO)
            assert there % mmap.PAGESIZE == 0
            assert there >= min(region.pages_in_memory() - 1, 512) * mmap.PAGESIZE
            assert folios_so_far() > before
            assert region.read(FOLIO, 16) == b"\0\0\0\0\0there\0\0\0\0\0\0"
            assert region.pages_in_memory() >= 512 + 1
        finally:
            region.close()


def test_bytes_that_the_kernel_has_no_folio_for_are_not_counted_as_there():
    with shmem_enabled("never"):
        region = RealRegion(1, 2 * 512, mmap.PAGESIZE)
        try:
            assert huge_folios.take(region.address, FOLIO, FOLIO) == mmap.PAGESIZE
        finally:
            region.close()

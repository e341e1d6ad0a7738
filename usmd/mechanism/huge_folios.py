"""Huge folios of shared memory: which sizes this machine gives, and how the daemon takes one for a range of a region.

A folio is memory that the kernel allocates, and zeroes, as one. One touch of the daemon's own mapping, advised by
MADV_HUGEPAGE, takes a folio of 2 MiB, or of one of the sizes between, if the administrator has allowed that for shared
memory. Then UFFDIO_CONTINUE maps its pages into the client's page table. The daemon changes no setting of the system.
"""

from __future__ import annotations

import ctypes
import mmap
import re
from pathlib import Path
from typing import Final, NamedTuple

from usmd.mechanism.uffd import HARDWARE_PAGE

FOLDER: Final = "/sys/kernel/mm/transparent_hugepage"
"""Where the kernel has the settings: `shmem_enabled`, and per size `hugepages-*kB/shmem_enabled`."""
LARGEST: Final = 2 << 20
"""Larger folios are not used: one takes the loop's time as a whole."""
GIVES: Final = ("always", "within_size", "advise", "force")
"""Values with which advised shared memory gets folios."""
_INHERIT: Final = "inherit"
_CHOSEN: Final = re.compile(r"\[(\w+)\]")
_POPULATE_READ: Final = 22
"""MADV_POPULATE_READ, Linux 5.14; where the touch of a byte would be a signal it is an error."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


class Folios(NamedTuple):
    """What a machine offers. Sizes are in bytes, ascending, larger than a page, at most LARGEST."""

    sizes: tuple[int, ...]
    """Those that advised shared memory gets."""
    others: tuple[int, ...]
    """Those that the kernel has, and its settings do not give."""
    shmem_enabled: str
    """The setting for shared memory as a whole; empty: the kernel has none."""


NO_FOLIOS: Final = Folios((), (), "")


def look(root: Path = Path("/")) -> Folios:
    """What the settings say. `root` is the folder of /sys."""
    folder = root / FOLDER.lstrip("/")
    whole = _setting(folder / "shmem_enabled")
    found: dict[int, str] = {}
    for each in folder.glob("hugepages-*kB"):
        value = _setting(each / "shmem_enabled")
        if value:
            found[int(each.name.removeprefix("hugepages-").removesuffix("kB")) << 10] = value
    pmd = _text(folder / "hpage_pmd_size").strip()
    if whole and pmd.isdecimal():
        found.setdefault(int(pmd), _INHERIT)  # before Linux 6.14 this one size has no setting of its own
    values = {size: whole if value == _INHERIT else value for size, value in found.items()}
    usable = sorted(size for size in values if HARDWARE_PAGE < size <= LARGEST)
    given = tuple(size for size in usable if values[size] in GIVES and whole != "deny")
    return Folios(given, tuple(size for size in usable if size not in given), whole)


def _setting(path: Path) -> str:
    """The chosen word of a setting; empty if there is none."""
    chosen = _CHOSEN.search(_text(path))
    return "" if chosen is None else chosen[1]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def take(address: int, length: int, folio: int) -> int:
    """Allocate the memory of a range of a shared mapping by folios, as far as the kernel has some now.

    Returns how many bytes of it are in the memory, from the first one on.

    Address and length are multiples of `folio`. What the range holds already stays as it is. The range is advised no
    longer, and unmapped here: so only the client maps it, and the kernel can take single pages out of its page table.
    """
    _libc.madvise(address, length, mmap.MADV_HUGEPAGE)
    for place in range(address, address + length, folio):
        if _libc.madvise(place, HARDWARE_PAGE, _POPULATE_READ):
            break  # memory is short
    pages = ctypes.create_string_buffer(length // HARDWARE_PAGE)
    known = _libc.mincore(address, length, pages) == 0  # quick while a folio is mapped as one
    _libc.madvise(address, length, mmap.MADV_NOHUGEPAGE)
    _libc.madvise(address, length, mmap.MADV_DONTNEED)
    if not known:
        return 0
    missing = pages.raw.find(0, 0, length // HARDWARE_PAGE)
    return length if missing < 0 else missing * HARDWARE_PAGE

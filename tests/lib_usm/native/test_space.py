"""Which pages are in use, against a list of them."""

import ctypes
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.examples import steps
from tests.support.native import compiled

SOURCES = Path(__file__).parents[3] / "lib_usm" / "native"
NOWHERE = ctypes.c_size_t(-1).value
BITS = ctypes.POINTER(ctypes.c_uint64)
COUNT = st.integers(1, 70)


class Space(ctypes.Structure):
    _fields_ = (
        ("used", BITS), ("starts", BITS), ("foreign", BITS), ("guarded", BITS), ("pages", ctypes.c_size_t),
        ("unit", ctypes.c_size_t), ("lowest", ctypes.c_size_t),
    )  # fmt: skip


@pytest.fixture(scope="module")
def space_library(tmp_path_factory):
    path = compiled(tmp_path_factory.mktemp("space"), SOURCES / "space.c", options=("-shared", "-fPIC"))
    library = ctypes.CDLL(str(path))
    size, pointer = ctypes.c_size_t, ctypes.POINTER(Space)
    for name, result, *arguments in (
        ("bytes", size, size), ("make", None, pointer, ctypes.c_void_p, size, size),
        ("take", size, pointer, size, size), ("take_at", ctypes.c_bool, pointer, size, size),
        ("grow", ctypes.c_bool, pointer, size, size), ("free", None, pointer, size, size),
        ("run", size, BITS, ctypes.c_bool, ctypes.POINTER(size), size),
        ("mapping", size, pointer, size, ctypes.POINTER(size)),
    ):  # fmt: skip
        function = getattr(library, f"usm_space_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class SpaceMachine(RuleBasedStateMachine):
    """Takes and frees pages. `owner`: by page, the number of its mapping; 0: free."""

    library = None

    @initialize(pages=st.integers(60, 400), unit=st.sampled_from([1, 1, 1, 4]))
    def start(self, pages, unit):
        self.pages, self.unit = pages // unit * unit, unit
        self.memory = ctypes.create_string_buffer(self.library.usm_space_bytes(self.pages))
        self.space = Space()
        self.library.usm_space_make(ctypes.byref(self.space), self.memory, self.pages, unit)
        self.owner = [0] * self.pages
        self.mappings = 0

    def free_units(self, first, count):
        end = -(-(first + count) // self.unit) * self.unit
        return end <= self.pages and not any(self.owner[first:end])

    def give(self, first, count):
        assert first % self.unit == 0
        assert self.free_units(first, count)
        self.mappings += 1
        self.owner[first : first + count] = [self.mappings] * count

    @rule(count=COUNT, align=st.sampled_from([1, 1, 8, 64]))
    def take(self, count, align):
        first = self.library.usm_space_take(ctypes.byref(self.space), count, align)
        fits = [each for each in range(0, self.pages, self.unit) if self.free_units(each, count)]
        aligned = [each for each in fits if each % max(align, self.unit) == 0]
        assert first == (aligned or fits or [NOWHERE])[0]
        if fits:
            self.give(first, count)

    @rule(first=st.integers(0, 450), count=COUNT)
    def take_at(self, first, count):
        fits = first % self.unit == 0 and first + count <= self.pages and self.free_units(first, count)
        assert self.library.usm_space_take_at(ctypes.byref(self.space), first, count) == fits
        if fits:
            self.give(first, count)

    @rule(pick=st.integers(0, 450), count=COUNT)
    def grow(self, pick, count):
        ends = [page for page in range(1, self.pages) if self.owner[page - 1] and not self.owner[page]]
        if ends:
            first = ends[pick % len(ends)]
            fits = first + count <= self.pages and self.free_units(first, count)
            assert self.library.usm_space_grow(ctypes.byref(self.space), first, count) == fits
            if fits:
                self.owner[first : first + count] = [self.owner[first - 1]] * count

    @rule(first=st.integers(0, 399), count=COUNT)
    def free(self, first, count):
        first %= self.pages
        end = min(first + count, self.pages)
        if end < self.pages and self.owner[end]:  # what remains behind the hole is a mapping of its own
            self.mappings += 1
            old = self.owner[end]
            for page in range(end, self.pages):
                if self.owner[page] != old:
                    break
                self.owner[page] = self.mappings
        self.library.usm_space_free(ctypes.byref(self.space), first, end - first)
        self.owner[first:end] = [0] * (end - first)

    @invariant()
    def the_same_pages_are_in_use(self):
        if not hasattr(self, "owner"):
            return
        for used in (True, False):
            at, pages = ctypes.c_size_t(0), []
            while count := self.library.usm_space_run(self.space.used, used, ctypes.byref(at), self.pages):
                pages += range(at.value, at.value + count)
                at.value += count
            assert pages == [page for page in range(self.pages) if bool(self.owner[page]) == used]

    @rule(page=st.integers(0, 399))
    def mapping(self, page):
        page %= self.pages
        if self.owner[page]:
            first = ctypes.c_size_t()
            end = self.library.usm_space_mapping(ctypes.byref(self.space), page, ctypes.byref(first))
            found = [each for each in range(self.pages) if self.owner[each] == self.owner[page]]
            assert (first.value, end) == (found[0], found[-1] + 1)


SpaceMachine.TestCase.settings = steps(20, 40)


class TestSpace(SpaceMachine.TestCase):
    """Run by pytest."""

    @pytest.fixture(autouse=True)
    def _library(self, space_library):
        SpaceMachine.library = space_library

"""Runs of zeros: the ways, which one is taken, and what becomes of huge folios when parts of them are evicted."""

import contextlib
import ctypes
import errno
import os

import pytest

from tests.support.folios import shmem_enabled
from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism import memory_world
from tests.usmd.mechanism.mapped import HARDWARE_PAGE, is_mapped, read, unmap, write
from tests.usmd.mechanism.memory_world import World, key
from usmd.core.events import MINOR
from usmd.mechanism import huge_folios, uffd, zeroing
from usmd.mechanism.base import Busy
from usmd.mechanism.huge_folios import Folios
from usmd.mechanism.releasing import SPLIT_PAGES
from usmd.mechanism.uffd import Feature, Offer
from usmd.mechanism.zeroing import COPY, ZEROPAGE, Way, Zeroing, try_out

FOLIO = 2 << 20
PAGES = 3 * 512
HUGE = Way("folios of 2048 KiB", FOLIO)


@pytest.fixture
def make(monkeypatch):
    """Makes worlds with a region of PAGES pages, whose runs are filled in given ways."""
    monkeypatch.setattr(memory_world, "PAGES", PAGES)
    made = []

    def make(*ways, minor=True, deaf=False):
        require_real_memory()
        world = World(HARDWARE_PAGE, minor=minor, connected=False)
        made.append(world)
        world.memory._zeroing = Zeroing(ways if deaf else ())
        world.connect()
        world.memory._zeroing = Zeroing(ways)
        return world

    yield make
    for each in made:
        each.close()


@pytest.fixture(params=["the kernel maps", "page by page"])
def huge(make, request):
    """A world with huge folios."""
    with shmem_enabled("advise"):
        deaf = request.param == "the kernel maps"
        world = make((FOLIO, HUGE), deaf=deaf)
        assert world.client.memory.hearing.is_deaf(memory_world.REGION) == deaf
        yield world


class _Vector(ctypes.Structure):
    _fields_ = (("address", ctypes.c_void_p), ("length", ctypes.c_size_t))


@contextlib.contextmanager
def held_page(address):
    """A pipe holds a page, as a direct read into it would. Yields what ends that."""
    reader, writer = os.pipe()
    vector = _Vector(address, HARDWARE_PAGE)
    assert ctypes.CDLL(None).vmsplice(writer, ctypes.byref(vector), 1, 0) == HARDWARE_PAGE
    try:
        yield lambda: os.read(reader, HARDWARE_PAGE)
    finally:
        os.close(reader)
        os.close(writer)


def zero(world, first, count):
    world.memory.zero(range(count), [key(page) for page in range(first, first + count)])


def seen(world, first, count):
    """Bytes that the client reads; no page of them may be missing."""
    return read(world.at(first), count * HARDWARE_PAGE).result()


def put(world, first, count):
    """The client writes its number into each page."""
    data = b"".join(bytes([page % 255 + 1]) * HARDWARE_PAGE for page in range(first, first + count))
    write(world.at(first), data).result()


def map_again(world, page):
    """Touch a page of a folio that the kernel may have unmapped as it split it; then the touch is heard of."""
    touch = read(world.at(page))
    if not is_mapped(world.at(page)):
        assert [(each.page, each.kind) for each in world.client.faults()] == [(page, MINOR)]
        world.memory.map_again([key(page)], [True])
    touch.result()


def evict(world, first, count):
    """Evict pages, whose bytes the test compares."""
    pages = [key(page) for page in range(first, first + count)]
    assert world.memory.protect(range(count), pages) == [False] * count
    staged = world.stage(*range(first, first + count))
    for page, each in zip(range(first, first + count), staged.pages, strict=True):
        assert bytes(world.memory.source(each)) == bytes([page % 255 + 1]) * HARDWARE_PAGE
    world.memory.unstage(staged)
    world.memory.release(pages)


def test_a_run_is_filled_with_folios_where_it_is_aligned_and_without_before_and_behind(huge):
    zero(huge, 500, 600)
    assert huge.held() == 600 * HARDWARE_PAGE
    assert seen(huge, 500, 600) == bytes(600 * HARDWARE_PAGE)
    assert huge.region.has_folios
    put(huge, 500, 600)
    assert seen(huge, 700, 1) == bytes([700 % 255 + 1]) * HARDWARE_PAGE


def test_a_run_without_an_aligned_part_has_no_folio(huge):
    zero(huge, 1, 511 + 511)
    assert not huge.region.has_folios
    assert seen(huge, 1, 1022) == bytes(1022 * HARDWARE_PAGE)


@pytest.mark.parametrize(("first", "count"), [(0, 64), (512 - 64, 64), (100, 1), (0, 511), (1, 511), (0, 512)])
def test_evicting_a_part_of_a_folio_frees_its_memory_and_leaves_the_other_bytes(huge, first, count):
    zero(huge, 0, 512)
    put(huge, 0, 512)
    evict(huge, first, count)
    assert huge.held() == (512 - count) * HARDWARE_PAGE
    assert huge.region.unfreed == {}
    for page in {0, 50, 200, 447, 511} - set(range(first, first + count)):
        map_again(huge, page)
        write(huge.at(page) + 1, b"!").result()
        own = bytes([page % 255 + 1])
        assert seen(huge, page, 1) == own + b"!" + own * (HARDWARE_PAGE - 2)


def test_pages_of_a_folio_that_were_evicted_come_in_again(huge):
    zero(huge, 0, 512)
    put(huge, 0, 512)
    evict(huge, 10, 20)
    assert huge.fill(*range(10, 30)) == [None] * 20
    assert [seen(huge, page, 1)[:1] for page in range(10, 30)] == [bytes([page + 1]) for page in range(10, 30)]
    assert huge.held() == FOLIO


def test_a_folio_that_something_holds_gives_its_memory_back_later_and_no_byte_is_wrong(huge):
    zero(huge, 0, 512)
    put(huge, 0, 512)
    with held_page(huge.at(300)) as let_go:
        evict(huge, 10, 4)
        assert huge.held() == FOLIO
        assert huge.region.unfreed == {10 * HARDWARE_PAGE: 4 * HARDWARE_PAGE}
        stage, errors = huge.stage(11), [None]
        for _ in range(10):
            errors = huge.memory.fill(stage, errors)
            if not isinstance(errors[0], Busy):
                break
        assert errors == [None]
        assert seen(huge, 11, 1) == bytes([12]) * HARDWARE_PAGE
        assert huge.region.unfreed == {10 * HARDWARE_PAGE: HARDWARE_PAGE, 12 * HARDWARE_PAGE: 2 * HARDWARE_PAGE}
        zero(huge, 12, 1)
        assert huge.region.unfreed == {10 * HARDWARE_PAGE: HARDWARE_PAGE, 13 * HARDWARE_PAGE: HARDWARE_PAGE}
        let_go()
    huge.memory.tick()
    assert huge.region.unfreed == {}
    assert huge.held() == FOLIO - 2 * HARDWARE_PAGE
    map_again(huge, 11)
    assert seen(huge, 11, 1) == bytes([12]) * HARDWARE_PAGE


def test_what_was_not_freed_goes_with_its_region(huge):
    zero(huge, 0, 512)
    put(huge, 0, 512)
    with held_page(huge.at(300)):
        evict(huge, 10, 4)
        huge.memory.drop_regions([memory_world.REGION], ended=False)
        huge.memory.tick()


def test_where_the_kernel_has_no_folio_the_run_is_filled_without_and_no_other_is_asked_for(make):
    with shmem_enabled("never"):
        now = 0.0
        world = make()
        world.memory._zeroing = Zeroing(((FOLIO, HUGE),), lambda: now)
        zero(world, 0, 512)
        assert seen(world, 0, 512) == bytes(FOLIO)
        world.region.has_folios = False
        zero(world, 512, 512)
        assert not world.region.has_folios
        now = zeroing.REST_SECONDS
        zero(world, 1024, 512)
        assert world.region.has_folios
        assert seen(world, 0, PAGES) == bytes(3 * FOLIO)


@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize("way", [ZEROPAGE, COPY, HUGE])
def test_every_way_fills_what_is_missing_and_leaves_what_the_client_put_there(make, way, deaf):
    world = make((0, way), deaf=deaf)
    world.client_writes_into_the_memfd(40, b"mine")
    zero(world, 0, 1024)
    assert seen(world, 0, 40) == bytes(40 * HARDWARE_PAGE)
    assert seen(world, 41, 1024 - 41) == bytes((1024 - 41) * HARDWARE_PAGE)
    write(world.at(40) + 1, b"!").result()
    assert seen(world, 40, 1)[:5] == b"m!ne\0"


def test_a_region_is_to_be_deaf_if_a_folio_of_it_can_be_mapped_as_a_whole(make):
    region = make().region
    huge, small = Zeroing(((FOLIO, HUGE),)), Zeroing(((1 << 16, Way("folios of 64 KiB", 1 << 16)),))
    assert huge.lets_map(region, 8 * FOLIO)
    assert not huge.lets_map(region, 8 * FOLIO + HARDWARE_PAGE)
    assert not small.lets_map(region, 8 * FOLIO)
    assert not Zeroing().lets_map(region, 8 * FOLIO)


def test_a_region_that_is_not_aligned_gets_no_folios(huge):
    huge.memory._zeroing = Zeroing(((FOLIO, HUGE),))
    huge.region.address += HARDWARE_PAGE
    zero(huge, 0, 512)
    assert not huge.region.has_folios


def test_a_punch_that_splits_folios_may_take_longer(huge, monkeypatch):
    huge.region.shared = True
    may_take = []
    punching = huge.memory._releasing._punching
    begin = punching.begin
    monkeypatch.setattr(
        punching, "begin", lambda job, pages, account: may_take.append(pages) or begin(job, pages, account)
    )
    zero(huge, 0, PAGES)
    assert huge.region.folios == {0, 1, 2}
    huge.memory.release([key(page) for page in (5, 700, 701)])
    huge.memory.release([key(page) for page in (6, 702)])
    huge.memory.release([key(page) for page in range(1024, PAGES)])
    assert may_take == [3 + 2 * SPLIT_PAGES, 2, 512 + SPLIT_PAGES]
    assert huge.region.folios == set()


def test_a_client_that_hears_of_no_minor_faults_gets_no_folios(make):
    world = make((FOLIO, HUGE), minor=False)
    zero(world, 0, 512)
    assert not world.region.has_folios
    assert seen(world, 0, 512) == bytes(FOLIO)


def test_a_client_that_has_unmapped_a_part_gets_the_rest(huge):
    unmap(huge.at(100), 4 * HARDWARE_PAGE)
    zero(huge, 0, 512)
    assert seen(huge, 0, 100) == bytes(100 * HARDWARE_PAGE)
    assert seen(huge, 104, 408) == bytes(408 * HARDWARE_PAGE)


def test_the_features_that_the_ways_need():
    assert Zeroing().features == Zeroing(((0, COPY),)).features == Feature(0)
    assert Zeroing(((0, HUGE),)).features == uffd.HEARS_TOUCHES


class Times:
    """A stopwatch by which a way takes the time that the test says. It is read before and after each."""

    def __init__(self, monkeypatch, **seconds):
        self.now = 0.0
        monkeypatch.setattr(zeroing._Trial, "time", lambda trial, way, size, stopwatch: seconds[way.name[:4]])


@pytest.mark.parametrize(
    ("seconds", "sizes", "expected"),
    [
        ({"UFFD": 1.0, "foli": 2.0}, (FOLIO,), ()),
        ({"UFFD": 1.0, "foli": 0.95}, (FOLIO,), ()),
        ({"UFFD": 1.0, "foli": 0.5}, (FOLIO,), ((FOLIO, HUGE),)),
        ({"UFFD": 1.0, "foli": 0.5}, (1 << 16,), ((1 << 16, Way("folios of 64 KiB", 1 << 16)),)),
        ({"UFFD": 1.0, "foli": 0.5}, (), ()),
    ],
)
def test_the_fastest_way_is_taken_if_it_is_clearly_faster(monkeypatch, seconds, sizes, expected):
    require_real_memory()
    Times(monkeypatch, **seconds)
    assert try_out(uffd.probe(), Folios(sizes, (), "advise")) == expected


def test_ways_are_tried_out_on_this_machine():
    require_real_memory()
    before = len(os.listdir("/proc/self/fd"))
    for least, way in try_out(uffd.probe(), huge_folios.look()):
        assert least in zeroing.TRIED
        assert way is not ZEROPAGE
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_tried_without_userfaultfd_or_descriptors(monkeypatch):
    assert try_out(Offer("", Feature(0), "none"), huge_folios.NO_FOLIOS) == ()
    require_real_memory()

    def none():
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(zeroing.uffd, "open_userfaultfd", none)
    before = len(os.listdir("/proc/self/fd"))
    assert try_out(Offer("device", uffd.REQUIRED, ""), huge_folios.NO_FOLIOS) == ()
    assert len(os.listdir("/proc/self/fd")) == before

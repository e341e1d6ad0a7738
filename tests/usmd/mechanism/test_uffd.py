"""System calls on a userfaultfd, on a mapping of this process; and what is said of a kernel's offer, without one."""

import errno
import mmap
import os
import select

import pytest

from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism.mapped import (
    HARDWARE_PAGE,
    Doing,
    map_memory,
    read,
    remap,
    touch_by_system_call,
    unmap,
    write,
)
from usmd.mechanism import uffd
from usmd.mechanism.uffd import MESSAGE, CopyPages, Drained, Feature, Messages, Offer, ZeroPage

PAGES = 8


def never():
    raise AssertionError("it is not busy")


def descriptors():
    return set(os.listdir("/proc/self/fd"))


class Area:
    """PAGES pages of a memfd, registered with a userfaultfd, and bytes to copy from."""

    def __init__(self):
        self.memfd = os.memfd_create("test")
        os.ftruncate(self.memfd, PAGES * HARDWARE_PAGE)
        self.address = map_memory(PAGES * HARDWARE_PAGE, self.memfd)
        self.source = map_memory(PAGES * HARDWARE_PAGE)
        self.descriptor, self.way = uffd.open_userfaultfd()
        self.offered = uffd.handshake(self.descriptor, uffd.REQUIRED | uffd.WANTED & uffd.probe().features)
        uffd.register(self.descriptor, self.address, PAGES * HARDWARE_PAGE)
        self.messages = Messages(self.descriptor, 4)

    def at(self, page):
        return self.address + page * HARDWARE_PAGE

    def held(self):
        return os.fstat(self.memfd).st_blocks * 512 // HARDWARE_PAGE

    def wait(self):
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        assert poll.poll(30_000)

    def close(self):
        os.close(self.descriptor)
        os.close(self.memfd)
        unmap(self.address, PAGES * HARDWARE_PAGE)
        unmap(self.source, PAGES * HARDWARE_PAGE)


@pytest.fixture
def area():
    require_real_memory()
    made = Area()
    yield made
    made.close()


def need(area, feature):
    if feature not in area.offered:
        pytest.skip(f"{feature.name} is not in this kernel")


# What a kernel offers


def test_a_probe_says_the_way_and_the_features_and_leaves_nothing_open():
    require_real_memory()
    before = descriptors()
    offer = uffd.probe()
    assert descriptors() == before
    assert offer.way in ("device", "syscall", "user-mode")
    assert offer.features & uffd.REQUIRED == uffd.REQUIRED
    assert offer.why_not == ""
    assert uffd.usable(offer) == ""


def test_a_probe_that_gets_none_says_why(monkeypatch):
    def refuse():
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(uffd, "open_userfaultfd", refuse)
    assert uffd.probe() == Offer("", Feature(0), "no userfaultfd: Operation not permitted")
    assert uffd.usable(uffd.probe()) == "no userfaultfd: Operation not permitted"


def test_a_probe_that_is_answered_no_handshake_says_why_and_closes_it(monkeypatch):
    before = descriptors()
    monkeypatch.setattr(uffd, "open_userfaultfd", lambda: (os.open("/dev/null", os.O_RDONLY), "device"))
    offer = uffd.probe()
    assert (offer.way, offer.features) == ("", Feature(0))
    assert offer.why_not.startswith("userfaultfd answers no handshake: Inappropriate ioctl")
    assert uffd.usable(offer) == offer.why_not
    assert descriptors() == before


@pytest.mark.parametrize("lacking", list(uffd.REQUIRED))
def test_each_required_feature_is_missed_by_its_name(lacking):
    why_not = uffd.usable(Offer("device", ~lacking & uffd.REQUIRED | uffd.WANTED, ""))
    assert f"lacks UFFD_FEATURE_{lacking.name}; Linux 5.19 has them all" in why_not
    assert os.uname().release in why_not


def test_features_that_are_only_wanted_are_not_missed():
    assert uffd.usable(Offer("user-mode", uffd.REQUIRED, "")) == ""


def test_features_have_the_kernels_names_and_unknown_ones_a_number():
    assert uffd.names(Feature.POISON | Feature.EVENT_REMAP) == ["UFFD_FEATURE_EVENT_REMAP", "UFFD_FEATURE_POISON"]
    assert uffd.names(Feature(0)) == []
    assert uffd.names(Feature(1 << 40 | 1 << 14)) == ["UFFD_FEATURE_POISON", "0x10000000000"]


def test_a_handshake_is_had_once_and_not_with_features_that_do_not_exist():
    require_real_memory()
    descriptor, _ = uffd.open_userfaultfd()
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            uffd.handshake(descriptor, Feature(1 << 60))
        assert uffd.handshake(descriptor, uffd.REQUIRED) & uffd.REQUIRED == uffd.REQUIRED
        with pytest.raises(OSError, match=r".") as caught:
            uffd.handshake(descriptor, uffd.REQUIRED)
        assert caught.value.errno in (errno.EINVAL, errno.EPERM)
    finally:
        os.close(descriptor)


def test_a_userfaultfd_is_told_from_other_descriptors(area):
    assert uffd.is_userfaultfd(area.descriptor)
    assert not uffd.is_userfaultfd(area.memfd)
    assert not uffd.is_userfaultfd(1 << 20)


def test_one_that_was_made_blocking_is_broken(area):
    assert not uffd.broken(area.descriptor)
    os.set_blocking(area.descriptor, True)
    assert uffd.broken(area.descriptor)
    os.set_blocking(area.descriptor, False)
    assert not uffd.broken(area.descriptor)


def test_a_closed_descriptor_is_broken():
    assert uffd.broken(1 << 20)


def test_memory_that_is_no_shared_memory_or_not_mapped_is_not_registered(area):
    with pytest.raises(OSError, match=r"."):
        uffd.register(area.descriptor, area.address + 1, HARDWARE_PAGE)
    gone = map_memory(HARDWARE_PAGE)
    unmap(gone, HARDWARE_PAGE)
    with pytest.raises(OSError, match=r"."):
        uffd.register(area.descriptor, gone, HARDWARE_PAGE)


# Fills


def test_zero_and_copy_fill_missing_pages(area):
    assert uffd.zero(area.descriptor, area.at(0), 3 * HARDWARE_PAGE, on_busy=never) == (3 * HARDWARE_PAGE, 0)
    write(area.source, b"s" * 2 * HARDWARE_PAGE).result()
    assert uffd.copy(area.descriptor, area.at(4), area.source, 2 * HARDWARE_PAGE, on_busy=never) == (
        2 * HARDWARE_PAGE,
        0,
    )
    assert read(area.at(0), 3 * HARDWARE_PAGE).result() == bytes(3 * HARDWARE_PAGE)
    assert read(area.at(4), 2 * HARDWARE_PAGE).result() == b"s" * 2 * HARDWARE_PAGE
    assert area.held() == 5
    assert list(area.messages.read()) == []


def test_a_fill_that_meets_a_page_says_how_far_it_came(area):
    uffd.zero(area.descriptor, area.at(2), HARDWARE_PAGE, on_busy=never)
    for call in (
        lambda: uffd.zero(area.descriptor, area.at(0), 5 * HARDWARE_PAGE, on_busy=never),
        lambda: uffd.copy(area.descriptor, area.at(0), area.source, 5 * HARDWARE_PAGE, on_busy=never),
    ):
        assert call() == Drained(2 * HARDWARE_PAGE, errno.EEXIST)
        mapping = mmap.mmap(area.memfd, PAGES * HARDWARE_PAGE)
        mapping.madvise(mmap.MADV_REMOVE, 0, 2 * HARDWARE_PAGE)
        mapping.close()


@pytest.mark.parametrize("name", ["zero", "copy", "poison"])
def test_a_fill_where_nothing_is_mapped_is_enoent(area, name):
    need(area, Feature.POISON)
    unmap(area.at(3), HARDWARE_PAGE)
    source = (area.source,) if name == "copy" else ()
    answer = getattr(uffd, name)(area.descriptor, area.at(3), *source, HARDWARE_PAGE, on_busy=never)
    assert answer == Drained(0, errno.ENOENT)


def test_the_short_ways_of_a_fill_do_the_same_and_say_less(area):
    write(area.source, b"s" * 2 * HARDWARE_PAGE).result()
    zero, copy = ZeroPage(area.descriptor), CopyPages(area.descriptor)
    assert zero(area.at(1), HARDWARE_PAGE)
    assert not zero(area.at(1), HARDWARE_PAGE)
    assert copy(area.at(2), area.source, HARDWARE_PAGE, 0) == HARDWARE_PAGE
    assert copy(area.at(2), area.source, HARDWARE_PAGE, 0) == 0
    assert copy(area.at(0), area.source, 2 * HARDWARE_PAGE, 0) == HARDWARE_PAGE  # as far as page 1
    assert read(area.at(0), 3 * HARDWARE_PAGE).result() == (
        b"s" * HARDWARE_PAGE + bytes(HARDWARE_PAGE) + b"s" * HARDWARE_PAGE
    )


def test_poison_is_for_missing_pages_and_a_later_touch_is_an_error(area):
    need(area, Feature.POISON)
    uffd.zero(area.descriptor, area.at(2), HARDWARE_PAGE, on_busy=never)
    assert uffd.poison(area.descriptor, area.at(0), 4 * HARDWARE_PAGE, on_busy=never) == (
        2 * HARDWARE_PAGE,
        errno.EEXIST,
    )
    assert [touch_by_system_call(area.at(page)) for page in range(3)] == [errno.EFAULT, errno.EFAULT, 0]


def test_nothing_is_filled_while_a_remap_waits_to_be_read(area):
    spare = map_memory(HARDWARE_PAGE)
    moving = remap(area.at(5), HARDWARE_PAGE, spare)
    area.wait()
    asked = []

    def busy():
        asked.append(len(asked))
        if len(asked) == 3:
            assert list(area.messages.read()) == [(uffd.EVENT_REMAP, area.at(5), spare, HARDWARE_PAGE)]
            assert moving.result() == spare
        return True

    assert uffd.zero(area.descriptor, area.at(0), HARDWARE_PAGE, on_busy=busy) == (HARDWARE_PAGE, 0)
    assert len(asked) >= 3
    unmap(spare, HARDWARE_PAGE)


@pytest.mark.parametrize("name", ["zero", "copy"])
def test_who_does_not_want_to_try_again_is_told_eagain(area, name):
    spare = map_memory(HARDWARE_PAGE)
    moving = remap(area.at(5), HARDWARE_PAGE, spare)
    area.wait()
    source = (area.source,) if name == "copy" else ()
    answer = getattr(uffd, name)(area.descriptor, area.at(0), *source, HARDWARE_PAGE, on_busy=lambda: False)
    assert answer == Drained(0, errno.EAGAIN)
    assert not moving.done
    area.messages.read()
    moving.result()
    unmap(spare, HARDWARE_PAGE)


# Messages


def test_a_fault_is_told_with_its_address_kind_and_thread(area):
    threads = []

    def touch():
        threads.append(int(os.readlink("/proc/thread-self").rpartition("/")[2]))
        return read(area.at(3) + 17).result()

    reader = Doing(touch)
    area.wait()
    ((event, flags, address, thread),) = area.messages.read()
    assert (event, flags & uffd.FLAG_WRITE, flags & uffd.FLAG_PROTECTED) == (uffd.EVENT_PAGEFAULT, 0, 0)
    assert address & -HARDWARE_PAGE == area.at(3)
    assert thread & 0xFFFFFFFF in {int(name) for name in os.listdir("/proc/self/task")} - set(threads)
    assert not reader.done
    uffd.zero(area.descriptor, area.at(3), HARDWARE_PAGE, on_busy=never)
    assert reader.result() == b"\0"


def test_who_is_woken_tries_again_and_is_told_again(area):
    writer = write(area.at(1), b"w")
    for _ in range(3):
        area.wait()
        ((event, flags, address, _),) = area.messages.read()
        assert (event, flags & uffd.FLAG_WRITE, address & -HARDWARE_PAGE) == (uffd.EVENT_PAGEFAULT, 1, area.at(1))
        uffd.wake(area.descriptor, area.at(1), HARDWARE_PAGE)
    area.wait()
    uffd.zero(area.descriptor, area.at(1), HARDWARE_PAGE, on_busy=never)
    writer.result()


@pytest.mark.parametrize("by", ["write_protect", "copy"])
def test_a_write_to_a_protected_page_is_told_and_a_read_passes(area, by):
    if by == "copy":
        uffd.copy(
            area.descriptor, area.at(6), area.source, HARDWARE_PAGE, on_busy=never, mode=uffd.COPY_WRITE_PROTECTED
        )
    else:
        uffd.zero(area.descriptor, area.at(6), HARDWARE_PAGE, on_busy=never)
        uffd.write_protect(area.descriptor, area.at(6), HARDWARE_PAGE, protect=True)
    assert read(area.at(6)).result() == b"\0"
    writer = write(area.at(6), b"w")
    area.wait()
    ((_, flags, address, _),) = area.messages.read()
    assert (flags & uffd.FLAG_PROTECTED, flags & uffd.FLAG_WRITE) == (uffd.FLAG_PROTECTED, uffd.FLAG_WRITE)
    assert address & -HARDWARE_PAGE == area.at(6)
    uffd.write_protect(area.descriptor, area.at(6), HARDWARE_PAGE, protect=False)
    writer.result()
    assert read(area.at(6)).result() == b"w"


def test_as_many_messages_are_read_as_there_is_room_for(area):
    touches = [read(area.at(page)) for page in range(6)]
    seen = set()
    sizes = []
    while len(seen) < 6:
        area.wait()
        found = list(area.messages.read())
        sizes.append(len(found))
        seen |= {address for _, _, address, _ in found}
    assert max(sizes) <= 4
    assert seen == {area.at(page) for page in range(6)}
    assert list(area.messages.read()) == []
    uffd.zero(area.descriptor, area.at(0), 6 * HARDWARE_PAGE, on_busy=never)
    for touch in touches:
        touch.result()


def test_no_more_messages_are_read_than_are_asked_for(area):
    touches = [read(area.at(page)) for page in range(3)]
    seen = set()
    while len(seen) < 3:
        area.wait()
        (message,) = area.messages.read(1)
        seen.add(message[2])
    uffd.zero(area.descriptor, area.at(0), 3 * HARDWARE_PAGE, on_busy=never)
    for touch in touches:
        touch.result()


def test_reading_never_waits_even_if_the_descriptor_was_made_blocking_in_between(area, monkeypatch):
    calls = []

    def preadv(descriptor, buffers, offset, flags=0):
        calls.append(flags)
        if flags:
            raise OSError(errno.EOPNOTSUPP, "not in this kernel")
        assert not os.get_blocking(descriptor)
        raise BlockingIOError

    os.set_blocking(area.descriptor, True)
    monkeypatch.setattr(uffd.os, "preadv", preadv)
    assert list(area.messages.read()) == []
    assert list(area.messages.read()) == []
    assert calls == [os.RWF_NOWAIT, 0, 0]


def test_what_cannot_be_read_is_an_error():
    reader, writer = os.pipe()
    messages = Messages(reader, 4)
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        messages.read()


def test_a_message_has_the_kernels_size():
    assert MESSAGE.size == 32

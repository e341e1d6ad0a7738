"""A client in the test's own process: it maps regions, hands over a userfaultfd, and does as it likes with its maps.

What may have to wait (a touch of a page that is missing, an mremap) is done by a thread in C code, which lets go of
Python's lock, so that the test can serve it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
import threading

import pytest

from usmd.mechanism import uffd
from usmd.mechanism.client_memory import ClientMemory

HARDWARE_PAGE = mmap.PAGESIZE
SECONDS = 60.0
"""How long anything may take, so that a test that waits for nothing fails."""
_MREMAP_MAYMOVE = 1
_MREMAP_FIXED = 2
_MAP_FIXED = 0x10
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_pointer, _size, _int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
for _name, _result, _arguments in (
    ("mmap", _pointer, [_pointer, _size, _int, _int, _int, ctypes.c_long]),
    ("mremap", _pointer, [_pointer, _size, _size, _int, _pointer]),
    ("munmap", _int, [_pointer, _size]),
    ("mprotect", _int, [_pointer, _size, _int]),
    ("madvise", _int, [_pointer, _size, _int]),
    ("memcpy", _pointer, [_pointer, _pointer, _size]),
    ("write", ctypes.c_ssize_t, [_int, _pointer, _size]),
):
    getattr(_libc, _name).restype = _result
    getattr(_libc, _name).argtypes = _arguments


def _check(name, *arguments):
    """Call a function of libc; raises OSError."""
    result = getattr(_libc, name)(*arguments)
    if result in (-1, _FAILED):
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def map_memory(length, descriptor=-1, at=None):
    """Map a descriptor, or anonymous memory, shared; returns the address.

    `at`: in the place of a mapping of the test's own, which must still be there. What was unmapped can be a thread's
    stack by now.
    """
    flags = mmap.MAP_SHARED | (mmap.MAP_ANONYMOUS if descriptor < 0 else 0) | (_MAP_FIXED if at else 0)
    return _check("mmap", at, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, descriptor, 0)


def unmap(address, length):
    _check("munmap", address, length)


def advise(address, length, advice):
    _check("madvise", address, length, advice)


def make_read_only(address, length):
    _check("mprotect", address, length, mmap.PROT_READ)


def is_mapped(address, pagemap=None):
    """Whether a page is in the page table of this process, or of that whose `pagemap` file of /proc is given."""
    if pagemap is None:
        with open("/proc/self/pagemap", "rb", buffering=0) as own:
            return is_mapped(address, own)
    return bool(os.pread(pagemap.fileno(), 8, address // HARDWARE_PAGE * 8)[7] & 0x80)


def touch_by_system_call(address):
    """The errno of a system call that reads a byte; 0: it could."""
    reader, writer = os.pipe()
    try:
        return 0 if _libc.write(writer, address, 1) == 1 else ctypes.get_errno()
    finally:
        os.close(reader)
        os.close(writer)


_begun: list[threading.Thread] = []


class Doing:
    """Something a thread of the client does."""

    def __init__(self, work):
        self._value = None
        self._error = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        _begun.append(self._thread)

    def _run(self, work):
        try:
            self._value = work()
        except OSError as error:
            self._error = error

    @property
    def done(self):
        return not self._thread.is_alive()

    def result(self):
        self._thread.join(SECONDS)
        assert self.done, "it still waits"
        if self._error:
            raise self._error
        return self._value


def read(address, length=1):
    """Have a thread read bytes."""
    buffer = ctypes.create_string_buffer(length)

    def work():
        _libc.memcpy(ctypes.addressof(buffer), address, length)
        return buffer.raw

    return Doing(work)


def write(address, data):
    """Have a thread write bytes."""
    buffer = ctypes.create_string_buffer(data, len(data))  # which must live as long as its address is used
    return Doing(lambda: _libc.memcpy(address, ctypes.addressof(buffer), len(data)))


def remap(address, length, to, new_length=None):
    """Have a thread mremap a range to an address. It waits until the event is read."""
    flags = _MREMAP_MAYMOVE | _MREMAP_FIXED
    return Doing(lambda: _check("mremap", address, length, new_length or length, flags, to))


class Client:
    """A process as far as its memory goes. `close` gives everything back."""

    def __init__(self, page_size, poison=True, minor=False):
        self.page_size = page_size
        offer = uffd.probe()
        self.features = uffd.REQUIRED | uffd.WANTED & offer.features & ~(
            uffd.Feature(0) if poison else uffd.Feature.POISON
        )
        if minor:
            self.features |= uffd.HEARS_TOUCHES
        descriptor, self.way = uffd.open_userfaultfd()
        self.memory = ClientMemory(descriptor, self.features, page_size, os.getpid())
        self._descriptor = descriptor
        self._served = True
        self._places = []

    def map(self, memfd, length):
        """Map a descriptor of a region; returns the address. Nobody serves its faults yet."""
        address = map_memory(length, memfd)
        self._places.append((address, length))
        return address

    def spare(self, length):
        """Addresses that are free for an mremap, and unmapped in the end."""
        address = map_memory(length)
        self._places.append((address, length))
        return address

    def wait_for_message(self):
        """Wait until the kernel has something to report, and leave it there."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        assert poll.poll(SECONDS * 1000), "nothing is reported"

    def faults(self, at_least=1):
        """Read faults until there are so many."""
        found = self.memory.read()
        while len(found) < at_least:
            self.wait_for_message()
            found += self.memory.read()
        return found

    def read_until(self, doing):
        """Read messages, which are no faults, until something is done."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        found = []
        while not doing.done:
            poll.poll(1)
            found += self.memory.read()
        assert found == []
        return doing.result()

    def moved(self, address, length, to, new_length=None):
        """Mremap, and have it be read."""
        return self.read_until(remap(address, length, to, new_length))

    def wait_in_system_call(self, address):
        """Have a system call of a thread read a byte, whose result is an errno; where a touch would be SIGBUS.

        Skips the test where system calls do not wait for pages, which this process may not be allowed to have.
        """
        if self.way == "user-mode":
            pytest.skip("a userfaultfd for user mode only has system calls fail, and not wait")
        return Doing(lambda: touch_by_system_call(address))

    def is_poisoned(self, address):
        """Whether a hardware page is; one that is missing is poisoned by the question."""
        uffd.write_protect(self._descriptor, address, HARDWARE_PAGE, protect=False)
        answer = uffd.poison(self._descriptor, address, HARDWARE_PAGE, on_busy=lambda: False)
        if answer != (0, errno.EEXIST):
            assert answer == (HARDWARE_PAGE, 0)
            return False
        # Something is there, which one may touch; a poisoned page is the one that cannot be read.
        return touch_by_system_call(address) == errno.EFAULT

    def stop_serving(self):
        """Close the userfaultfd: whoever waits goes on, as if there had never been one."""
        if self._served:
            self._served = False
            self.memory.close()

    def is_closed_elsewhere(self):
        """Whoever serves it closes the userfaultfd."""
        self._served = False

    def close(self):
        """Unmap everything, when nobody touches it any more."""
        self.stop_serving()
        while _begun:
            thread = _begun.pop()
            thread.join(SECONDS)
            assert not thread.is_alive(), "a thread of the client still waits"
        while self._places:
            unmap(*self._places.pop())

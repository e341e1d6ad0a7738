"""Single calls on a range of a client's addresses, and what their failures mean."""

from __future__ import annotations

import errno
from typing import Final

from usmd import log
from usmd.mechanism import uffd
from usmd.mechanism.uffd import HARDWARE_PAGE

NOWHERE: Final = (errno.ENOENT, errno.ESRCH)
"""The range is not mapped any more, or the process is dying."""


def is_registered(descriptor: int, address: int) -> bool:
    """Whether the page at an address is registered. Also removes its write protection."""
    try:
        uffd.write_protect(descriptor, address, HARDWARE_PAGE, protect=False)
    except OSError as error:
        return error.errno not in NOWHERE
    return True


def unprotect(descriptor: int, address: int, length: int) -> bool:
    """Allow writes to a range and wake the threads that wait; False while a remap is unfinished, or on failure."""
    try:
        uffd.write_protect(descriptor, address, length, protect=False)
    except OSError as error:
        if error.errno != errno.EAGAIN:
            refused("unprotect", error.errno or errno.EIO)
        return False
    return True


def wake(descriptor: int, address: int, length: int) -> None:
    """Make the threads that wait for a range try again."""
    try:
        uffd.wake(descriptor, address, length)
    except OSError as error:
        refused("wake", error.errno or errno.EIO)


def refused(what: str, error: int) -> None:
    """Log a failed call, unless the client is dying or has unmapped the range, which is harmless."""
    if error not in NOWHERE:
        log.event("userfaultfd_refused", operation=what, error=errno.errorcode.get(error, str(error)))


def failed(descriptor: int, what: str, address: int, length: int, error: int) -> bool:
    """Log that a range could not be filled. Returns whether it is not mapped any more.

    Its threads are woken then: they go on with what the client has mapped there meanwhile, or get SIGSEGV.
    """
    refused(what, error)
    if error in NOWHERE:
        wake(descriptor, address, length)
    return error in NOWHERE

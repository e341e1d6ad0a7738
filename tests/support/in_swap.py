"""Processes whose pages are all in memory, or all in swap."""

from tests.support.shell import PAGE, Shell, make_core


def fill(shell, process, region, pages, data=b"x" * PAGE):
    for page in pages:
        shell.put(process, region, page, data)


def resident(shell, process, pages, data=b"x" * PAGE):
    region = shell.map(process, pages)
    fill(shell, process, region, range(pages), data)
    return region


def complete_all(shell):
    while shell.pending:
        shell.complete_io()


def swapped(pages, *, frames=8, alloc="first_fit", **settings):
    """A shell without auto_io, with a process whose `pages` pages are all in swap."""
    shell = Shell(make_core(frames=frames, **settings), auto_io=False)
    process = shell.attach(alloc=alloc)
    region = shell.map(process, pages)
    for first in range(0, pages, frames):
        last = min(first + frames, pages)
        for page in range(first, last):
            shell.put(process, region, page, bytes([page + 1]) * PAGE)
        shell.evict(process, region, first, last - first)
        complete_all(shell)
    shell.outcomes.clear()
    return shell, process, region

"""A process with a budget and a neighbour without one, and what tests do and ask."""

from tests.support.shell import PAGE, Shell, make_core

DATA = b"x" * PAGE


def shell_of(hog=4, *, swap_max=None, slots=64, auto_io=True, kind=Shell, **settings):
    """A process that may have `hog` pages in memory, with a region of 16, and one without a budget that has 4 there."""
    shell = kind(make_core(frames=16, devices=(("swap0", slots),) if slots else (), **settings))
    process, other = shell.attach("hog", memory_max=hog, swap_max=swap_max), shell.attach("neighbour")
    region, kept = shell.map(process, 16), shell.map(other, 8)
    for page in range(4):
        shell.put(other, kept, page, DATA)
    shell.auto_io = auto_io
    return shell, process, region, other, kept


def evictions(shell, process):
    return shell.core.state.processes[process].counters.evictions

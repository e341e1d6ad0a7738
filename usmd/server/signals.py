"""What each signal means to the daemon: one table, in force from before anything is made until after all is removed.

A signal that ends a process by default either drains the daemon or is logged and changes nothing, so that no signal
that can be caught leaves sockets or a swap file behind, or clients without an answer. docs/operating.md has the same
table.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Final, Self


class Meaning(enum.Enum):
    """What is done about a signal."""

    DRAIN = "drain"
    """End the sessions and the daemon, after a notice if one is configured. `Ending` knows what the second one does."""
    RELOAD = "reload"
    """Read the configuration again, and apply what can change; logged."""
    NOTHING = "nothing"
    """Logged."""
    IGNORED = "ignored"
    """Not even logged: the kernel does not deliver it."""


def _real_time() -> dict[int, Meaning]:
    return dict.fromkeys(range(signal.SIGRTMIN, signal.SIGRTMAX + 1), Meaning.NOTHING)


MEANINGS: Final[Mapping[int, Meaning]] = {
    signal.SIGTERM: Meaning.DRAIN,
    signal.SIGINT: Meaning.DRAIN,
    signal.SIGQUIT: Meaning.DRAIN,
    signal.SIGXCPU: Meaning.DRAIN,  # the soft limit; at the hard one the kernel kills
    signal.SIGPWR: Meaning.DRAIN,
    signal.SIGHUP: Meaning.RELOAD,
    signal.SIGUSR1: Meaning.NOTHING,
    signal.SIGUSR2: Meaning.NOTHING,
    signal.SIGALRM: Meaning.NOTHING,  # while policies are called it is the timer of `PolicyWatch`
    signal.SIGVTALRM: Meaning.NOTHING,
    signal.SIGPROF: Meaning.NOTHING,
    signal.SIGIO: Meaning.NOTHING,
    signal.SIGSTKFLT: Meaning.NOTHING,
    **_real_time(),
    signal.SIGPIPE: Meaning.IGNORED,  # a reader that has gone is an error of the write
    signal.SIGXFSZ: Meaning.IGNORED,  # a file that is too large as well
    signal.SIGTTIN: Meaning.IGNORED,
    signal.SIGTTOU: Meaning.IGNORED,  # else the log of a daemon in the background could stop it
}
"""The other signals keep what the kernel does by default: SIGTSTP and SIGSTOP stop the process until SIGCONT; SIGCHLD,
SIGURG and SIGWINCH do nothing; those of a crash (SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP) end it at
once, because its state can no longer be trusted."""


class Signals:
    """Takes the process's signals, on the main thread, while it is entered.

    Signals before `attend` are kept for it, so that what is being made is finished first, and then removed in order.

    `to_the_end`: the process ends afterwards, so signals are ignored from then on (see `ignore_all`).
    """

    def __init__(self, *, to_the_end: bool = False) -> None:
        self._to_the_end = to_the_end
        self._heard: list[int] = []
        self._attendant: Callable[[int], object] | None = None
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | signal.Handlers | None] = {}

    def __enter__(self) -> Self:
        for number, meaning in MEANINGS.items():
            handler = signal.SIG_IGN if meaning is Meaning.IGNORED else self._hear
            self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        self._attendant = None
        if self._to_the_end:
            ignore_all()
            return
        for number, handler in self._before.items():
            # None: a handler that Python did not install, and so cannot install again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def attend(self, attendant: Callable[[int], object]) -> None:
        """Call `attendant` with the number of each signal, those kept first.

        It is called between two instructions of the main thread, so it must only hand over (`call_soon_threadsafe`).
        """
        self._attendant = attendant
        heard, self._heard = self._heard, []
        for number in heard:
            attendant(number)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._attendant is None:
            self._heard.append(number)
        else:
            self._attendant(number)


def ignore_all() -> None:
    """Ignore signals at the program's end, which takes a bounded time: none may cost its exit code or last lines."""
    for number in MEANINGS:
        signal.signal(number, signal.SIG_IGN)


def name_of(number: int) -> str:
    """The name of a signal; SIG and its number if it has none, as most real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"

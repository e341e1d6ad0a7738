"""Shared by usmctl's commands: the connection, the two output formats, and Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

import typer
from google.protobuf.message import Message
from rich.console import Console

from usmd.command_line import Format
from usmd.ctl.address import admin_socket
from usmd.ctl.as_json import plain, write_document
from usmd.ctl.console import make_console
from usmd.ctl.options import chosen_format
from usmd.errors import EndsRun

if TYPE_CHECKING:
    from usmd.ctl.connect import Admin

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command as Ctrl-C does: what it has received is written completely."""
INTERRUPTED: Final = 130
"""Exit code of a command that a signal ended before its end, as a shell gives it for Ctrl-C."""
FAILED = 1
"""Exit code for a failure that is not a mistake in the command line."""


@contextmanager
def connected(context: typer.Context, address: str | None) -> Iterator[Admin]:
    """The connection to the daemon at `address`, else at the one given before the command, else at the default."""
    from usmd.ctl.connect import Admin  # gRPC, which help, replays and `run` do without

    with Admin(admin_socket(address or context.obj.address)) as admin:
        yield admin


@contextmanager
def ended_by(handler: Callable[[int, FrameType | None], object], *signals: int) -> Iterator[None]:
    """Call `handler` on `signals`, in the main thread. An ignored SIGHUP or SIGTERM (nohup) stays ignored.

    A second SIGTERM ends the process at once. A second SIGHUP does nothing: a closed terminal sends several.
    """

    def first(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else signal.SIG_DFL)
        handler(number, frame)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in signals:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, first)
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


class Interrupted(EndsRun, KeyboardInterrupt):
    """The end of a command by a signal. If it comes within a policy, it is no error of the policy."""


class Interrupt:
    """A signal handler that raises Interrupted. `came` says so even if that comes out as another error.

    Python calls the handler between any two steps of the main thread. In the middle of a wait for a lock, such as that
    for a thread to start, the lock is not held, and the error of its release replaces the interrupt. Calls of gRPC,
    which an interrupt would spoil for gRPC's threads as well, are made off the main thread (`usmd.ctl.off_main`).
    """

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Interrupt the main thread."""
        del number, frame
        self.came = True
        raise Interrupted


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into the normal end of an endless command."""
    interrupt = Interrupt()
    try:
        with ended_by(interrupt, *ENDING):
            yield
    except BaseException as error:
        if not interrupt.came and not isinstance(error, KeyboardInterrupt):
            raise
        raise typer.Exit from None


def show(
    context: typer.Context,
    output: Format | None,
    as_json: Callable[[], Mapping[str, object]],
    as_table: Callable[[Console], None],
) -> None:
    """Write an answer in the chosen format."""
    if chosen_format(context, output) is Format.JSON:
        write_document(as_json(), sys.stdout)
    else:
        as_table(make_console())


def listed(name: str, messages: Sequence[Message]) -> dict[str, object]:
    """A document with one list of messages."""
    return {name: [plain(message) for message in messages]}

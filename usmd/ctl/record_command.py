"""`usmctl record`: writes the accesses of a live process to a file that `usmctl replay` reads."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer
from rich.console import Console

from usmd.command_line import Format
from usmd.ctl import completion, record_view
from usmd.ctl.as_json import write_document
from usmd.ctl.command import ENDING, connected, ended_by
from usmd.ctl.options import AddressOption, FormatOption, chosen_format
from usmd.ctl.record_view import Summary
from usmd.errors import InvalidArgument

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2
    from usmd.ctl.connect import Stream
    from usmd.lab.traces.recording import Recorder

EPILOG = """Examples:

usmctl record --process indexer -o indexer.usm

usmctl record --process 3 -o - --seconds 60 | usmctl replay - --evict lru,arc,s3_fifo"""

LINE_SECONDS = 0.2
"""Time between two updates of the progress line."""


def record(
    context: typer.Context,
    process: Annotated[
        str,
        typer.Option(
            "--process",
            metavar="PROCESS",
            help="Number or name of a process.",
            show_default=False,
            autocompletion=completion.processes,
        ),
    ],
    out: Annotated[
        str,
        typer.Option("-o", "--out", metavar="FILE", help="File to write; - is standard output.", show_default=False),
    ],
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, max=86_400 * 365, metavar="S", help="End after S seconds.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="ACCESSES", help="End after this many accesses.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """Record the accesses of a live process until Ctrl-C, a limit, or its end; `usmctl replay` reads the file.

    A record has the time, the page, read or write, and hit or fault: 17 bytes. The process runs on unchanged; an access
    costs the daemon one or two microseconds more. Accesses that cannot be sent in time are lost and counted.

    With real memory (mechanism userfaultfd) the daemon sees page faults, first writes to clean pages, and a sample of
    the other touches of pages in memory (memory.sampling). To record all accesses, use simulated memory.
    """
    as_json = chosen_format(context, output) is Format.JSON
    if as_json and out == "-":
        raise InvalidArgument("--format json writes to standard output, and so does -o -; name a file")
    if out != "-" and not force:
        with suppress(OSError):  # there is no such file, or writing it will fail with the reason
            _check(out, os.stat(out))  # noqa: PTH116 - keeps the path as typed, in errors too
    with connected(context, address) as admin:
        stream = admin.record(admin.process_id(process))
        messages = iter(stream)
        with _ended_by(stream.cancel, seconds):
            header = next(messages).header
            with _opened(out, header, force=force) as recorder:
                summary = _write(messages, stream, recorder, Summary(header), limit)
    if as_json:
        write_document(record_view.as_document(summary, out), sys.stdout)
    else:
        text = "\n".join(record_view.lines(summary, out))
        (sys.stderr if out == "-" else sys.stdout).write(text + "\n")  # not typer.echo, which has its own encoding


@contextmanager
def _ended_by(cancel: Callable[[], None], seconds: float | None) -> Iterator[None]:
    """End the stream on Ctrl-C, SIGTERM, SIGHUP, or after `seconds`; what was received is written completely."""
    timer = None if seconds is None else threading.Timer(seconds, cancel)
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        with ended_by(lambda *_: cancel(), *ENDING):
            yield
    finally:
        if timer is not None:
            timer.cancel()


def _check(out: str, status: os.stat_result) -> None:
    """Raise InvalidArgument for a regular file that is not empty."""
    if stat.S_ISREG(status.st_mode) and status.st_size:
        raise InvalidArgument(f"{out} exists; give another file with -o, or --force, which overwrites it")


def _file(out: str, *, force: bool) -> BinaryIO:
    """Open the file, and empty it after the check."""
    if out == "-":
        return os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    file = os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666), "wb")
    try:
        status = os.fstat(file.fileno())
        if not force:
            _check(out, status)
        if stat.S_ISREG(status.st_mode):
            os.ftruncate(file.fileno(), 0)
    except BaseException:
        file.close()
        raise
    return file


def _opened(out: str, header: admin_pb2.RecordingHeader, *, force: bool) -> Recorder:
    from usmd.lab.traces.recording import Recorder
    from usmd.lab.traces.records import Header

    try:
        file = _file(out, force=force)
    except OSError as error:
        raise InvalidArgument(f"{out} cannot be written: {error.strerror}; give another file") from error
    return Recorder(
        file,
        Header(
            page_size=header.page_size,
            process=header.process_name,
            started=header.started_seconds,
            frames=header.frames,
            evict=header.evict_policy,
        ),
    )


def _write(
    messages: Iterator[admin_pb2.RecordedAccesses],
    stream: Stream[admin_pb2.RecordedAccesses],
    recorder: Recorder,
    summary: Summary,
    limit: int | None,
) -> Summary:
    """Write the accesses as they arrive, and show the progress on a terminal."""
    watched = sys.stderr.isatty() and not Console(stderr=True).is_dumb_terminal
    shown = 0.0
    for message in messages:
        summary.dropped = message.dropped
        summary.ended = message.ended
        times = chain.from_iterable(map(repeat, message.seconds, message.counts))
        accesses = list(zip(times, message.pages, message.kinds, strict=True))
        if limit is not None:
            del accesses[limit - summary.accesses :]
        recorder.add_many(accesses)
        recorder.flush()  # so that a kill loses little
        summary.count([page for _, page, _ in accesses], message.kinds[: len(accesses)])
        if watched and time.monotonic() - shown >= LINE_SECONDS:
            shown = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{record_view.progress(summary)}")
            sys.stderr.flush()
        if limit is not None and summary.accesses >= limit:
            stream.cancel()
            break
    if watched:
        sys.stderr.write("\r\x1b[K")
    return summary

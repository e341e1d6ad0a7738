"""`usmctl record`: what a live process touches, into a file that `usmctl replay` reads.

Covers the options, the line while it goes on, and the end: by Ctrl-C, a limit, or the end of the process. How a
recording is written is usmd/lab/traces/recording's.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from typing import Annotated, BinaryIO

import typer
from rich.console import Console

from usm_wire.pb.usm.v1 import admin_pb2
from usmd.ctl import completion, record_view
from usmd.ctl.as_json import write_document
from usmd.ctl.command import ENDING, connected, ended_by
from usmd.ctl.connect import Stream
from usmd.ctl.options import AddressOption, Format, FormatOption, chosen_format
from usmd.ctl.record_view import Summary
from usmd.errors import InvalidArgument
from usmd.lab.traces.recording import Recorder
from usmd.lab.traces.records import Header

EPILOG = """Examples:

usmctl record --process indexer -o indexer.usm

usmctl record --process 3 -o - --seconds 60 | usmctl replay - --evict lru,arc,s3_fifo"""

LINE_SECONDS = 0.2
"""Time between two looks of the line that says how far it is."""


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
        typer.Option(min=0.1, max=86_400 * 365, metavar="S", help="End after so many seconds.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="ACCESSES", help="End after so many accesses.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """Record the accesses of a live process until Ctrl-C, a limit, or its end; `usmctl replay` reads the file.

    A record is the time, the page, and whether it was read or written, hit or fault: 17 bytes. The process goes on as
    it is; an access costs the daemon one or two microseconds more. What cannot be sent in time is lost and counted.

    Over real memory (mechanism userfaultfd) the daemon sees page faults and first writes to clean pages, and nothing of
    the other touches of a page that is in memory: such a recording is of what the live policy missed. For all accesses
    record over simulated memory.
    """
    as_json = chosen_format(context, output) is Format.JSON
    if as_json and out == "-":
        raise InvalidArgument("--format json writes to standard output, and so does -o -; name a file")
    if out != "-" and not force:
        with suppress(OSError):  # it is not there, or cannot be written either
            _check(out, os.stat(out))  # noqa: PTH116 - as it was typed, in errors too
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
        (sys.stderr if out == "-" else sys.stdout).write(text + "\n")  # no typer.echo: it has an encoding of its own


@contextmanager
def _ended_by(cancel: Callable[[], None], seconds: float | None) -> Iterator[None]:
    """Ctrl-C, SIGTERM, SIGHUP and a limit of time end the stream, and what was received is written in full."""
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
    """Raise InvalidArgument for a file that has something to lose."""
    if stat.S_ISREG(status.st_mode) and status.st_size:
        raise InvalidArgument(f"{out} exists; give another file with -o, or --force, which overwrites it")


def _file(out: str, *, force: bool) -> BinaryIO:
    """The file, emptied once it is known that it may be."""
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
    """Write what comes, and say how far it is where somebody looks."""
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
        recorder.flush()  # who is killed has lost but a moment
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

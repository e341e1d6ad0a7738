"""The log: one line on stderr per event of note, for people or as JSON.

Covers the format and where lines go. What is of note is decided where it happens, and how grave it is by
usmd/event_levels.py; counters and usmctl tell the rest. Warnings of other packages come out in the same format, and so
do exceptions that no caller can catch; their chatter does not come out at all.

The daemon calls `standard_streams.never_block` first, so that a log that is not read loses lines and never holds up the
event loop; a line that says how many takes their place.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import types
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from usmd.errors import ConfigError
from usmd.event_levels import UNLOGGED, level_of
from usmd.safe_repr import cut, traceback_of, type_name
from usmd.standard_streams import AsideStream
from usmd.text_output import printable

FORMATS = ("auto", "human", "json")
_NAMED: Final = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.GeneratorType, type)
"""What has a name of its own, which no third party's code is run for."""


class _Stream:
    """A text stream whose reader may go away: a daemon goes on serving when nothing reads its log any more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except OSError:
            # The stream that would carry the complaint is the one that is gone.
            return

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            return


def configure(log_format: str = "auto", stream: TextIO | None = None) -> None:
    """Send the log to `stream` (None: stderr); may be called again.

    `log_format` is `human`, `json`, or `auto`, which is human on a terminal. Call it before grpc is first imported, or
    grpc's native code writes lines of its own. Raises ConfigError for another format.
    """
    if log_format not in FORMATS:
        raise ConfigError(f"log format {log_format!r} is not allowed; allowed is one of {', '.join(FORMATS)}")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    target = sys.stderr if stream is None else stream
    human = log_format == "human" or (log_format == "auto" and target.isatty())
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if human else "iso", utc=not human),
    ]
    last: list[Processor]
    if human:
        plain = structlog.dev.plain_traceback
        last = [
            _printable,
            structlog.dev.ConsoleRenderer(colors=target.isatty(), exception_formatter=plain, pad_event_to=0),
        ]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    out = cast(TextIO, _Stream(target))
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(out),  # a line a write, so that no other thread's comes between
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared], processors=[remove_meta, *last]
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.unraisablehook = _unraisable
    threading.excepthook = _in_thread
    if isinstance(target, AsideStream):
        target.writer.mark = lambda lines: target.encoded(_render("log_lines_lost", [*shared, *last], lines=lines))


def _render(kind: str, processors: list[Processor], **fields: object) -> str:
    """The line of an event, to be written where no logger is."""
    line: Any = {"event": kind, **fields}
    for process in processors:
        line = process(None, logging.getLevelName(level_of(kind)).lower(), line)
    return f"{line}\n"


def _printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Names in an event come from applications: none of them may steer the terminal that the log is read on.

    Text with blanks or line ends is left to structlog, which quotes it with escapes.
    """
    for name, value in event.items():
        if isinstance(value, str) and (name == "event" or len(value.split()) == 1):
            event[name] = printable(value, "utf-8")
    return event


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Log an exception that no caller can catch: one in a `__del__`, or in a generator that is thrown away."""
    where = getattr(what.object, "__qualname__", "") if isinstance(what.object, _NAMED) else type_name(what.object)
    error = what.exc_type() if what.exc_value is None else what.exc_value
    event("unraisable", where=cut(where), exception=traceback_of(error))


def _in_thread(what: threading.ExceptHookArgs) -> None:
    """Log an exception that ended a thread."""
    if what.exc_type is SystemExit:
        return
    where = what.thread.name if what.thread is not None else ""
    error = what.exc_type() if what.exc_value is None else what.exc_value
    event("thread_ended", thread=cut(where), exception=traceback_of(error))


def event(kind: str, /, *, exc_info: object = None, **fields: object) -> None:
    """Log an event of a kind that is in usmd/event_levels.py, at the level that stands there.

    `exc_info` True adds the traceback of the exception that is being handled.
    """
    level = level_of(kind)
    if level != UNLOGGED:
        extra = {} if exc_info is None else {"exc_info": exc_info}
        cast(FilteringBoundLogger, structlog.get_logger()).log(level, kind, **fields, **extra)

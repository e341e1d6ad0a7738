"""The log: one line on stderr per notable event, as text or JSON.

Warnings of other packages, and exceptions that no caller can catch, are logged in the same format; messages of other
packages below a warning are not logged.

The daemon calls `standard_streams.never_block` first. So if the log is not read, it loses lines and never blocks the
event loop; a line with their number takes their place.
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
"""Types whose `__qualname__` is read without running a third party's code."""


class _Stream:
    """A text stream whose reader may close it: the daemon keeps serving then."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except OSError:
            # The error cannot be reported on the stream that failed.
            return

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            return


def configure(log_format: str = "auto", stream: TextIO | None = None, level: str = "info") -> None:
    """Send the log to `stream` (None: stderr), from a level on: info, warning or error. May be called again.

    `log_format` is `human`, `json`, or `auto`, which is human on a terminal. Call it before grpc is first imported,
    else grpc's native code writes lines of its own. Raises ConfigError for another format.
    """
    if log_format not in FORMATS:
        raise ConfigError(f"log format {log_format!r} is not allowed; allowed is one of {', '.join(FORMATS)}")
    least = logging.getLevelNamesMapping()[level.upper()]
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
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(out),  # one write per line, so that threads do not mix theirs
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared], processors=[remove_meta, *last]
        )
    )
    logging.basicConfig(level=max(least, logging.WARNING), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.unraisablehook = _unraisable
    threading.excepthook = _in_thread
    if isinstance(target, AsideStream):
        target.writer.mark = lambda lines: target.encoded(_render("log_lines_lost", [*shared, *last], lines=lines))


def _render(kind: str, processors: list[Processor], **fields: object) -> str:
    """The line of an event, for a writer without a logger."""
    line: Any = {"event": kind, **fields}
    for process in processors:
        line = process(None, logging.getLevelName(level_of(kind)).lower(), line)
    return f"{line}\n"


def _printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Escape names in an event: they come from applications, and must not control the terminal that shows the log.

    structlog quotes text with blanks or line ends with escapes itself.
    """
    for name, value in event.items():
        if isinstance(value, str) and (name == "event" or len(value.split()) == 1):
            event[name] = printable(value, "utf-8")
    return event


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Log an exception that no caller can catch: one in a `__del__`, or in a discarded generator."""
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
    """Log an event of a kind in usmd/event_levels.py, at the level given there.

    `exc_info` True adds the traceback of the exception being handled.
    """
    level = level_of(kind)
    if level != UNLOGGED:
        extra = {} if exc_info is None else {"exc_info": exc_info}
        cast(FilteringBoundLogger, structlog.get_logger()).log(level, kind, **fields, **extra)

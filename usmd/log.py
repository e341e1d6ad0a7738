"""The log: one line on stderr per event of note, for people or as JSON.

Covers the format and where lines go. What is of note is decided where it happens; counters and usmctl tell the rest.
Warnings of other packages come out in the same format, and so do exceptions that nobody can catch; their chatter does
not come out at all.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from usmd.errors import ConfigError

FORMATS = ("auto", "human", "json")


class _Stream:
    """A text stream whose reader may go away: a daemon goes on serving when nobody reads its log any more."""

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
        last = [structlog.dev.ConsoleRenderer(colors=target.isatty(), exception_formatter=plain, pad_event_to=0)]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    out = cast(TextIO, _Stream(target))
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(out),
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


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Log an exception that nobody can catch: one in a `__del__`, or in a generator that is thrown away."""
    where = str(getattr(what.object, "__qualname__", type(what.object).__name__))
    error = what.exc_value
    get_logger().error("unraisable", where=where, exc_info=(what.exc_type, error, what.exc_traceback))


def _in_thread(what: threading.ExceptHookArgs) -> None:
    """Log an exception that ended a thread."""
    if what.exc_type is SystemExit:
        return
    where = what.thread.name if what.thread is not None else ""
    error = what.exc_value or what.exc_type()
    get_logger().error("thread_ended", thread=where, exc_info=(what.exc_type, error, what.exc_traceback))


def get_logger() -> FilteringBoundLogger:
    """Return the logger: `get_logger().info("ready", socket="...")`; levels from info up are written."""
    return cast(FilteringBoundLogger, structlog.get_logger())

import contextlib
import io
import json
import logging
import re
import sys
import threading
import warnings

import pytest
import structlog

from usmd import log
from usmd.aside import Aside
from usmd.errors import ConfigError
from usmd.standard_streams import AsideStream


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        raise BrokenPipeError


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.unraisablehook, threading.excepthook
    root.handlers[:] = []  # so that the handlers of the test runner are not closed
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    sys.unraisablehook, threading.excepthook = hooks


def fail():
    raise ValueError("broken")


def lines(stream):
    return stream.getvalue().splitlines()


def test_json_is_one_object_a_line_with_time_level_event_and_fields():
    stream = io.StringIO()
    log.configure("json", stream)
    log.event("process_attached", process=7, name="two\nlines")
    log.event("policy_error")
    first, second = (json.loads(line) for line in lines(stream))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", first.pop("timestamp"))
    assert first == {"level": "info", "event": "process_attached", "process": 7, "name": "two\nlines"}
    assert second["level"] == "warning"


def test_what_is_below_the_least_level_is_not_written():
    stream = io.StringIO()
    log.configure("json", stream, "warning")
    log.event("process_attached")
    log.event("policy_error")
    assert [json.loads(line)["event"] for line in lines(stream)] == ["policy_error"]


def test_human_is_one_plain_line_with_event_and_fields():
    stream = io.StringIO()
    log.configure("human", stream)
    log.event("process_attached", process=7, name="two\nlines")
    (line,) = lines(stream)
    assert re.fullmatch(r"\d\d:\d\d:\d\d \[info *\] process_attached +name='two\\nlines' process=7", line)


def test_auto_is_human_on_a_terminal_and_json_elsewhere():
    terminal, pipe = Terminal(), io.StringIO()
    log.configure("auto", terminal)
    log.event("ready")
    log.configure("auto", pipe)
    log.event("ready")
    assert "\x1b[" in terminal.getvalue()
    assert json.loads(pipe.getvalue())["event"] == "ready"


def test_the_log_goes_to_stderr_by_default(capsys):
    log.configure("human")
    log.event("ready")
    captured = capsys.readouterr()
    assert "ready" in captured.err
    assert captured.out == ""


def test_an_exception_stays_on_its_json_line():
    stream = io.StringIO()
    log.configure("json", stream)
    try:
        fail()
    except ValueError:
        log.event("defect", exc_info=True)
    (line,) = lines(stream)
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_an_exception_is_a_traceback_for_people():
    stream = io.StringIO()
    log.configure("human", stream)
    try:
        fail()
    except ValueError:
        log.event("defect", exc_info=True)
    assert lines(stream)[-1] == "ValueError: broken"


def test_the_level_is_that_of_the_table_and_what_is_not_for_the_log_is_not_written():
    stream = io.StringIO()
    log.configure("json", stream)
    for kind in ("ready", "page_poisoned", "defect", "pages_evicted", "in no table"):
        log.event(kind, kind="a field")
    assert [(each["event"], each["level"], each["kind"]) for each in map(json.loads, lines(stream))] == [
        ("ready", "info", "a field"), ("page_poisoned", "warning", "a field"), ("defect", "error", "a field"),
        ("in no table", "warning", "a field"),
    ]  # fmt: skip


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_lines_that_are_lost_are_told_in_the_format_of_the_log(log_format):
    writer = Aside("test", lambda data: True, limit=1)
    stream = AsideStream(2, "<stderr>", "ascii", writer)
    log.configure(log_format, stream)
    line = writer.mark(7).decode()
    assert line.count("\n") == 1
    if log_format == "json":
        told = json.loads(line)
        assert (told["event"], told["level"], told["lines"]) == ("log_lines_lost", "warning", 7)
    else:
        assert "log_lines_lost" in line
        assert "lines=7" in line


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_warnings_of_other_packages_have_the_same_format_and_their_chatter_is_dropped(log_format):
    stream = io.StringIO()
    log.configure(log_format, stream)
    logging.getLogger("grpc").info("chatter")
    logging.getLogger("asyncio").error("Task %s failed", "x")
    (line,) = lines(stream)
    assert "Task x failed" in line
    assert "asyncio" in line
    if log_format == "json":
        assert json.loads(line)["logger"] == "asyncio"


def test_python_warnings_are_log_lines():
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        log.configure("json", stream)
        warnings.warn("old", UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "UserWarning: old" in json.loads(stream.getvalue())["event"]


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_exceptions_that_nobody_can_catch_are_log_lines(log_format):
    class Careless:
        def __del__(self):
            fail()

    def stubborn():
        while True:
            with contextlib.suppress(GeneratorExit):
                yield

    stream = io.StringIO()
    log.configure(log_format, stream)
    Careless()
    next(stubborn())
    for work in (fail, sys.exit):
        thread = threading.Thread(target=work, name="worker")
        thread.start()
        thread.join()
    text = stream.getvalue()
    assert (text.count("unraisable"), text.count("thread_ended"), text.count("ValueError: broken")) == (2, 1, 2)
    assert "generator ignored GeneratorExit" in text
    if log_format == "json":
        logged = [json.loads(line) for line in lines(stream)]
        places = [(line.get("where") or line["thread"]).rpartition("<locals>.")[2] for line in logged]
        assert places == ["Careless.__del__", "stubborn", "worker"]


def test_a_log_that_nobody_reads_any_more_stops_nothing():
    log.configure("json", Gone())
    log.event("ready")
    logging.getLogger("asyncio").error("failed")


def test_an_unknown_format_lists_those_that_exist():
    with pytest.raises(ConfigError, match="'xml' is not allowed; allowed is one of auto, human, json"):
        log.configure("xml")


def test_grpc_is_told_to_be_silent_unless_the_user_said_otherwise(monkeypatch):
    monkeypatch.setenv("GRPC_VERBOSITY", "DEBUG")
    log.configure("json", io.StringIO())
    assert log.os.environ["GRPC_VERBOSITY"] == "DEBUG"
    monkeypatch.delenv("GRPC_VERBOSITY")
    log.configure("json", io.StringIO())
    assert log.os.environ["GRPC_VERBOSITY"] == "NONE"


def test_a_name_cannot_steer_the_terminal_that_the_log_is_read_on():
    stream = io.StringIO()
    log.configure("human", stream)
    log.event("process_attached", process=7, name="\x1b[31mx", other="a \x1b[2J", event_name="\x9b2J")
    text = stream.getvalue()
    assert "\\x1b[31mx" in text
    assert text.removesuffix("\n").isprintable()

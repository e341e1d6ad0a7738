"""`usmctl run`: what the program gets to read, and what is refused before it starts. How it runs is in tests/e2e."""

import os
import signal
import sys
from pathlib import Path

import pytest

from usmd.ctl import run_command
from usmd.ctl.cli import main
from usmd.ctl.connect import AdminError

PROGRAM = [sys.executable, "-c", "pass"]


class Became(Exception):
    """The program that this process would have become."""


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `usmctl run`; returns its exit code and stderr, or the command and the environment that it started."""
    found = {"library": Path("/lib/libusm.so"), "jemalloc": Path("/lib/libjemalloc.so.2")}
    handlers = {each: signal.getsignal(each) for each in (signal.SIGPIPE, signal.SIGXFSZ)}
    monkeypatch.setattr(run_command, "library", lambda: found["library"])
    monkeypatch.setattr(run_command, "find_jemalloc", lambda: found["jemalloc"])
    for name in ("LD_PRELOAD", "USM_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    became = []

    def execvpe(file, arguments, environ):
        became.append((arguments, {key: value for key, value in environ.items() if key.startswith(("USM_", "LD_"))}))
        assert file == arguments[0]
        assert [signal.getsignal(each) for each in handlers] == [signal.SIG_DFL] * 2
        raise Became

    monkeypatch.setattr(os, "execvpe", execvpe)

    def started(*arguments, **changes):
        found.update(changes)
        try:
            code = main(["run", *arguments])
        except Became:
            return became.pop(), capsys.readouterr().err
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return code, capsys.readouterr().err

    return started


def test_a_program_gets_what_was_said_and_its_arguments_untouched(run, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "/mine.so")
    monkeypatch.setenv("USM_FORK", "exec-only")
    (command, environ), err = run(
        "--name", "n", "--memory-limit", "64M", "--fhp", "64K", "--hint", "PRIORITY=LOW", "--evict", "s3_fifo",
        "--min-size", "1M", "--region-size", "2G", "--require", "--socket", "unix:/s", "program", "--fork=x", "--",
        "-v",
    )  # fmt: skip
    assert command == ["program", "--fork=x", "--", "-v"]
    assert environ == {
        "LD_PRELOAD": "/lib/libusm.so:/lib/libjemalloc.so.2:/mine.so", "USM_RUN": "1", "USM_NAME": "n",
        "USM_MEMORY_LIMIT": str(64 << 20), "USM_HINT": "FHP=64K; PRIORITY=LOW", "USM_EVICT": "s3_fifo",
        "USM_MIN_SIZE": str(1 << 20), "USM_REGION_SIZE": str(2 << 30), "USM_REQUIRE": "1", "USM_ADDRESS": "unix:/s",
    }  # fmt: skip
    assert err == ""


def test_what_was_not_said_is_left_to_the_library(run):
    (command, environ), _ = run("--", "program")
    assert command == ["program"]
    assert set(environ) == {"LD_PRELOAD", "USM_RUN", "USM_MIN_SIZE"}
    (_, environ), _ = run("--fork", "exec-only", "--malloc", "own", "program")
    assert (environ["USM_FORK"], environ["LD_PRELOAD"]) == ("exec-only", "/lib/libusm.so")


def test_without_jemalloc_it_says_what_is_not_managed(run):
    (_, environ), err = run("program", jemalloc=None)
    assert environ["LD_PRELOAD"] == "/lib/libusm.so"
    assert "there is no libjemalloc.so.2: memory of glibc's malloc is not usmd's" in err


def test_without_the_library_it_starts_unmanaged_and_says_so_or_does_not_start(run):
    (command, environ), err = run("program", library=None)
    assert (command, "LD_PRELOAD" in environ) == (["program"], False)
    assert "there was no C compiler when usmd was installed" in err
    assert "program runs without usmd" in err
    code, err = run("--require", "program", library=None)
    assert code == 1
    assert "there was no C compiler when usmd was installed" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--min-size", "0"], "--min-size 0; allowed is 1 B and more"),
        (["--memory-limit", "many"], "size 'many' cannot be read"),
        (["--hint", "NO=1"], "NO"),
        (["--fhp", "some"], "FHP"),
        (["--name", "x" * 65], "allowed are 1 to 64 printable characters"),
        (["--fork", "perhaps"], "perhaps"),
    ],
)
def test_what_is_wrong_is_named_before_anything_starts(run, arguments, words):
    code, err = run(*arguments, "program")
    assert (code, words in err) == (2, True), err


def test_the_operators_address_is_not_the_clients(run, capsys):
    assert main(["--address", "unix:/admin", "run", "program"]) == 2
    assert "give `usmctl run` the clients' by --socket" in capsys.readouterr().err


def test_a_library_whose_path_cannot_be_preloaded_is_named():
    with pytest.raises(AdminError, match=r"LD_PRELOAD cannot name '/a b/libusm\.so'"):
        run_command.preloaded([Path("/a b/libusm.so")], {})


def test_jemalloc_is_found_where_libraries_are(tmp_path):
    assert run_command.find_jemalloc((str(tmp_path),)) is None
    (tmp_path / "libjemalloc.so.2").touch()
    assert run_command.find_jemalloc(("/nowhere", str(tmp_path))) == tmp_path / "libjemalloc.so.2"


@pytest.mark.parametrize(("program", "code"), [("/no/such/program", 127), ("/etc", 126)])
def test_what_cannot_be_started_has_the_codes_of_env(program, code, capsys, monkeypatch):
    monkeypatch.setattr(run_command, "find_jemalloc", lambda: None)
    handlers = {each: signal.getsignal(each) for each in (signal.SIGPIPE, signal.SIGXFSZ)}
    try:
        assert main(["run", "--malloc", "own", program]) == code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert f"{program} cannot be started" in capsys.readouterr().err

"""What each signal means: the table, the documentation's, and signals that this process sends itself."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from usmd.server.signals import MEANINGS, Meaning, Signals, name_of

CRASHES = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP}
STOPS = {signal.SIGTSTP, signal.SIGSTOP, signal.SIGCONT}
HARMLESS = {signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH}
HEARD = [number for number, meaning in MEANINGS.items() if meaning is not Meaning.IGNORED]


def test_every_signal_has_a_meaning():
    assert set(MEANINGS) | CRASHES | STOPS | HARMLESS | {signal.SIGKILL} == signal.valid_signals()
    assert not set(MEANINGS) & (CRASHES | STOPS | HARMLESS | {signal.SIGKILL})


def test_the_documentation_has_the_same_table():
    text = Path(__file__, "../../../../docs/operating.md").resolve().read_text(encoding="utf-8")
    documented = {}
    for row in text.split("| Signal |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]:
        names, meaning = (cell.strip() for cell in row.strip("|").split("|")[:2])
        documented |= dict.fromkeys(re.findall(r"`SIG(\w+)`", names), meaning.split(":")[0])
    real_time = {"RTMIN", "RTMAX"}
    wanted = {name_of(number)[3:]: meaning.value for number, meaning in MEANINGS.items() if number < signal.SIGRTMIN}
    wanted |= dict.fromkeys(real_time, Meaning.NOTHING.value)
    wanted |= dict.fromkeys((number.name[3:] for number in CRASHES), "crash")
    wanted |= {"TSTP": "stop", "STOP": "stop", "CONT": "go on", "KILL": "end at once"}
    wanted |= dict.fromkeys((number.name[3:] for number in HARMLESS), "none")
    assert documented == wanted


@pytest.mark.parametrize("number", HEARD, ids=name_of)
def test_a_signal_is_heard_before_there_is_a_loop_and_while_there_is_one(number):
    with Signals() as signals:
        os.kill(os.getpid(), number)
        heard = []
        signals.attend(heard.append)
        assert heard == [number]
        os.kill(os.getpid(), number)
        assert heard == [number, number]


@pytest.mark.parametrize("number", [each for each in MEANINGS if MEANINGS[each] is Meaning.IGNORED], ids=name_of)
def test_an_ignored_signal_is_not_heard(number):
    with Signals() as signals:
        heard = []
        signals.attend(heard.append)
        os.kill(os.getpid(), number)
        assert heard == []


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL])
def test_handlers_are_as_before_afterwards_and_one_that_was_ignored_is_heard_meanwhile(before):
    saved = signal.signal(signal.SIGHUP, before)  # nohup ignores it
    try:
        with Signals() as signals:
            heard = []
            signals.attend(heard.append)
            os.kill(os.getpid(), signal.SIGHUP)
            assert heard == [signal.SIGHUP]
        assert signal.getsignal(signal.SIGHUP) == before
    finally:
        signal.signal(signal.SIGHUP, saved)


def test_where_the_process_ends_afterwards_no_signal_ends_it_before():
    program = """
import os, signal
from usmd.server.signals import Signals

with Signals(to_the_end=True):
    pass
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGHUP)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


def test_a_signal_wakes_a_loop_that_has_nothing_to_do():
    async def main():
        heard = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        signals.attend(lambda number: loop.call_soon_threadsafe(heard.set_result, number))
        os.kill(os.getpid(), signal.SIGQUIT)
        return await asyncio.wait_for(heard, 20)

    with Signals() as signals:
        assert asyncio.run(main()) == signal.SIGQUIT


def test_signals_have_names():
    assert name_of(signal.SIGTERM) == "SIGTERM"
    assert name_of(signal.SIGRTMIN + 3) == f"SIG{signal.SIGRTMIN + 3}"


PROGRAM = """
import atexit, os, signal, sys

from usmd.cli import main
from usmd.server.signals import MEANINGS

atexit.register(lambda: [os.kill(os.getpid(), number) for number in MEANINGS])
sys.argv = ["usmd", "--version"]
main()
"""


def test_a_signal_at_the_very_end_changes_no_exit_code():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")

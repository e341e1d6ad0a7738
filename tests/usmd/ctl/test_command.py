"""What commands have in common."""

import json
import os
import signal
from types import SimpleNamespace

import pytest
import typer

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.command_line import Format
from usmd.ctl.command import ENDING, connected, ended_by, listed, show, until_interrupted
from usmd.ctl.options import Shared


def context(address=None, output=None):
    return SimpleNamespace(obj=Shared(address, output))


def test_the_command_s_own_address_wins(daemon):
    with connected(context("unix:/none.sock"), daemon.address) as admin:
        assert admin.address == daemon.address
    with connected(context(daemon.address), None) as admin:
        assert admin.status().pid == 4711


def test_ctrl_c_is_a_good_end():
    with pytest.raises(typer.Exit) as stop, until_interrupted():
        raise KeyboardInterrupt
    assert stop.value.exit_code == 0


def interrupted_within_a_lock(number):
    try:
        os.kill(os.getpid(), number)
    finally:
        raise RuntimeError("cannot release un-acquired lock")


@pytest.mark.parametrize("number", ENDING)
def test_an_interrupt_that_comes_out_as_another_error_is_a_good_end_too(number):
    before = [signal.getsignal(each) for each in ENDING]
    with pytest.raises(typer.Exit) as stop, until_interrupted():
        interrupted_within_a_lock(number)
    assert stop.value.exit_code == 0
    assert [signal.getsignal(each) for each in ENDING] == before


def test_an_error_without_an_interrupt_stays_one():
    with pytest.raises(RuntimeError), until_interrupted():
        raise RuntimeError


@pytest.mark.parametrize("number", ENDING)
def test_the_ending_signals_call_the_handler_and_a_second_hup_nothing(number):
    heard = []
    before = [signal.getsignal(each) for each in ENDING]
    with ended_by(lambda *call: heard.append(call[0]), *ENDING):
        os.kill(os.getpid(), number)
        assert heard == [number]
        wanted = {signal.SIGHUP: signal.SIG_IGN, signal.SIGTERM: signal.SIG_DFL}.get(number)
        assert wanted in (None, signal.getsignal(number))
    assert [signal.getsignal(each) for each in ENDING] == before


@pytest.mark.parametrize(("number", "kept"), [(signal.SIGHUP, True), (signal.SIGTERM, True), (signal.SIGINT, False)])
def test_a_signal_that_was_ignored_stays_so_but_for_ctrl_c(number, kept):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        heard = []
        with ended_by(lambda *call: heard.append(call[0]), *ENDING):
            os.kill(os.getpid(), number)
        assert heard == ([] if kept else [number])
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_an_answer_is_written_in_the_format_asked_for(capsys):
    show(context(), Format.JSON, lambda: {"a": 1}, lambda console: console.print("never"))
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    show(context(output=Format.TABLE), None, dict, lambda console: console.print("a table"))
    assert capsys.readouterr().out == "a table\n"


def test_a_list_is_a_document():
    document = listed("hints", [pb.HintRange(hint_id=1), pb.HintRange(hint_id=2)])
    assert [each["hint_id"] for each in document["hints"]] == [1, 2]

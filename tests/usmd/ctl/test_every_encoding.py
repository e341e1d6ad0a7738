"""Every command of usmctl, with names that are hostile to terminals, in every kind of encoding: none fails."""

import contextlib
import io
import json
import os
import re
import sys

import pytest

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd import cli as usmd_cli
from usmd.ctl import cli
from usmd.ctl.doctor import diagnose
from usmd.ctl.doctor_probe import look

ENCODINGS = ["ascii", "latin-1", "iso8859-15", "cp1252", "utf-8"]
NAME = "ünï-☃[red]x[/red]\x1b[31m\x9b2J日本שלםאב\u202e\u0301€"
ANSWERS = [
    ["status"],
    ["processes"],
    ["regions"],
    ["regions", NAME],
    ["swap"],
    ["top", "--interval", "0.1"],
    ["policies"],
    ["policy", "set", "1", "--evict", "lru"],
    ["hints"],
    ["hints", "1", "--clear", NAME],
    ["map", "--cells", "8"],
    ["map", "--cells", "8", "--by", "owner"],
    ["explain", "1", "0x10010000"],
    ["explain", NAME, NAME + "+4KiB"],
    ["explain", "1", "--evictions", "3"],
    ["drain", "--yes"],
    ["doctor"],
]
LINES = [["watch"], ["shadow", "1", "--evict", "lru"]]
HELPS = [[], *([name] for name in cli.program.commands), ["policy", "set"]]


def ids(arguments):
    return ascii(" ".join(arguments)) if isinstance(arguments, list) else str(arguments)


def doctors_code():
    return 1 if diagnose(look()).reason else 0


@pytest.fixture
def run(monkeypatch):
    """Run a program; its exit code, standard output and error, in an encoding that refuses what it lacks."""

    def started(encoding, arguments, program=cli.main):
        raw = {name: io.BytesIO() for name in ("stdout", "stderr")}
        with monkeypatch.context() as patch:
            for name, file in raw.items():
                patch.setattr(sys, name, io.TextIOWrapper(file, encoding=encoding, errors="strict"))
            code = program(arguments)
            streams = sys.stdout, sys.stderr
            for stream in streams:
                stream.flush()
            return (code, *(file.getvalue().decode(encoding) for file in raw.values()))

    return started


def daemon_program(arguments):
    with pytest.raises(SystemExit) as ended:
        usmd_cli.app(arguments, prog_name="usmd")
    return ended.value.code


@pytest.fixture
def hostile(daemon):
    """Each text field of every answer holds the hostile name."""
    admin = daemon.admin
    admin.processes[0].name = NAME
    admin.processes[0].evict_policy = NAME
    admin.status.mechanism = NAME
    admin.regions[0].name = NAME
    admin.swap_devices[0].path = "/" + NAME
    admin.hints[0].text = admin.hints[0].process_name = admin.hints[0].region_name = NAME
    admin.kept_pages[0].process_name = NAME
    admin.policies[0].summary = NAME
    admin.process_policies[0].process_name = NAME
    for each in admin.evictions.evictions:
        each.region_name = each.eviction.reason = NAME
    admin.page.region_name = admin.page.hint.text = admin.page.last_eviction.reason = NAME
    admin.events = [pb.Event(kind="policy_set", process_id=1, message=NAME, fields={NAME: NAME})]
    admin.reports[-1].process_name = admin.reports[-1].simulations[1].problem = admin.reports[-1].ended = NAME
    admin.accesses[0].header.process_name = admin.accesses[-1].ended = NAME
    return daemon


def assert_harmless(text):
    """No escape sequence, no control character but line ends, no blanks before these."""
    assert text.replace("\n", "").isprintable()
    assert not re.search(r" +$", text, re.MULTILINE)


def at(daemon, arguments):
    return arguments if arguments == ["doctor"] else [*arguments, "--address", daemon.address]


@pytest.mark.parametrize("arguments", ANSWERS, ids=ids)
def test_an_answer_is_written_as_a_table_and_as_json(hostile, run, arguments):
    for encoding in ENCODINGS:
        code, text, err = run(encoding, at(hostile, arguments))
        assert (code, err) == (doctors_code() if arguments == ["doctor"] else 0, "")
        assert_harmless(text)
        code, written, err = run(encoding, [*at(hostile, arguments), "--format", "json"])
        assert (code, err) == (doctors_code() if arguments == ["doctor"] else 0, "")
        json.loads(written)
        assert_harmless(written)


@pytest.mark.parametrize("arguments", LINES, ids=ids)
def test_a_stream_of_answers_is_written_as_lines_and_as_json(hostile, run, arguments):
    for encoding in ENCODINGS:
        code, text, err = run(encoding, at(hostile, arguments))
        assert (code, err) == (0, "")
        assert_harmless(text)
        code, written, err = run(encoding, [*at(hostile, arguments), "--format", "json"])
        assert (code, err) == (0, "")
        assert len([json.loads(line) for line in written.splitlines()]) >= 1


@pytest.mark.parametrize("more", [[], ["--format", "json"]], ids=["text", "json"])
def test_a_recording_into_a_file_of_any_name_is_summed_up(hostile, run, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    for encoding in ENCODINGS:
        code, text, err = run(
            encoding, at(hostile, ["record", "--process", "1", "--force", "-o", "tracé\udcff.usm", *more])
        )
        assert (code, err) == (0, "")
        assert_harmless(text)
        if more:
            assert json.loads(text)["accesses"] == 3


@pytest.mark.parametrize("name", ["tracé.txt", "日本.txt", "tr\udcff.txt", "t\x1b[31m[red].txt"], ids=ascii)
@pytest.mark.parametrize("more", [[], ["--format", "json"]], ids=["text", "json"])
def test_a_trace_of_any_name_is_replayed(run, tmp_path, monkeypatch, name, more):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("1\n2\n1\n")
    for encoding in ENCODINGS:
        code, text, err = run(encoding, ["replay", name, "--frames", "1", "--evict", "lru", *more])
        assert (code, err) == (0, "")
        assert_harmless(text)
        if more:
            assert json.loads(text)["accesses"] == 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["regions", "no-" + NAME], 1),
        (["regions", "\udcff"], 2),
        (["explain", "1", "\udcff+0"], 2),
        (["explain", "1", NAME], 2),
        (["hints", "1", "--clear", "\udcff"], 2),
        (["policy", "set", "1", "--evict", "\udcff"], 2),
        (["shadow", "1", "--evict", "\udcff"], 2),
        (["replay", "no\udcff\x1b[31mé.txt"], 1),
    ],
    ids=ids,
)
def test_a_refusal_names_what_was_given_in_one_line(hostile, run, arguments, code):
    for encoding in ENCODINGS:
        found, out, err = run(encoding, arguments if arguments[0] == "replay" else at(hostile, arguments))
        assert (found, out) == (code, "")
        assert err.startswith("usmctl: ")
        assert err.removesuffix("\n").isprintable()


@pytest.mark.parametrize("argument", ["--" + NAME, NAME], ids=ascii)
def test_what_is_no_command_is_refused(run, argument):
    for encoding in ENCODINGS:
        code, out, err = run(encoding, [argument])
        assert (code, out) == (2, "")
        assert "No such" in err


@pytest.mark.parametrize("command", HELPS, ids=ids)
def test_every_help_is_written(run, command):
    for encoding in ("ascii", "utf-8"):
        code, out, err = run(encoding, [*command, "--help"])
        assert (code, err) == (0, "")
        assert "Usage" in out
        assert "\\" not in out  # an escape in the help's own text


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["--version"]], ids=ids)
def test_the_daemons_help_is_written(run, arguments):
    for encoding in ("ascii", "utf-8"):
        code, out, err = run(encoding, arguments, daemon_program)
        assert (code, err) == (0, "")
        assert "usmd" in out


def test_the_daemons_complaint_is_written(run):
    for encoding in ENCODINGS:
        code, out, err = run(encoding, ["serve", "--memory", "é\x1b[31m\udcff"], daemon_program)
        assert (code, out) == (2, "")
        assert "size" in err
        assert err.removesuffix("\n").isprintable()


@pytest.mark.parametrize("arguments", [*ANSWERS[:-1], *LINES], ids=ids)
def test_a_full_disk_is_told_in_a_line(hostile, monkeypatch, capsys, arguments):
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert cli.main(at(hostile, arguments)) == 1
    with contextlib.suppress(OSError):
        full.close()
    assert capsys.readouterr().err == "usmctl: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("arguments", [["status"], ["map"], ["watch"], ["regions", "--format", "json"]], ids=ids)
def test_a_pipe_without_a_reader_ends_the_command_quietly(hostile, monkeypatch, capsys, arguments):
    source, sink = os.pipe()
    os.close(source)
    pipe = os.fdopen(sink, "w", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        assert cli.main(at(hostile, arguments)) == 1
    with contextlib.suppress(BrokenPipeError):  # rich puts /dev/null in its place
        pipe.close()
    assert capsys.readouterr().err == ""

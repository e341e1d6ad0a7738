import json
import signal

import grpc
import pytest

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.cli import main
from usmd.mechanism import uffd
from usmd.version import VERSION

COMMANDS = [
    "status", "processes", "regions", "policies", "policy", "swap", "hints", "map", "explain", "watch", "drain",
    "doctor", "record", "run", "schema", "shadow", "reload", "top",
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "field", "count"),
    [
        (["processes"], "processes", 2),
        (["regions"], "regions", 3),
        (["regions", "2"], "regions", 1),
        (["regions", "indexer"], "regions", 2),
        (["swap"], "swap_devices", 1),
        (["map", "--cells", "16"], "cells", 16),
    ],
)
def test_a_list_is_a_table_for_people_and_one_document_for_programs(daemon, arguments, field, count):
    code, table, err = daemon.ctl(*arguments)
    assert (code, err) == (0, "")
    code, text, err = daemon.ctl(*arguments, "--format", "json")
    assert (code, err) == (0, "")
    document = json.loads(text)
    assert len(document[field]) == count
    assert "next_page_token" not in document
    if field != "cells":
        assert len(table.splitlines()) == count + 1
    assert "\x1b" not in table


def test_json_of_a_long_list_holds_every_page(daemon):
    daemon.admin.processes = [pb.Process(process_id=n, name=f"p{n}") for n in range(1, 26)]
    daemon.admin.page_items = 10
    document = json.loads(daemon.ctl("processes", "--format", "json")[1])
    assert [process["process_id"] for process in document["processes"]] == list(range(1, 26))


def test_status_is_told_as_picture_and_as_document(daemon):
    code, text, _ = daemon.ctl("status")
    assert code == 0
    assert "usmd 0.1.0  pid 4711" in text
    document = json.loads(daemon.ctl("status", "--format", "json")[1])
    assert set(document) == {field.name for field in pb.GetStatusResponse.DESCRIPTOR.fields}
    assert document["counters"]["faults"] == 12345


def test_watch_ends_with_the_stream(daemon):
    code, text, _ = daemon.ctl("watch")
    assert code == 0
    assert [line.split()[2] for line in text.splitlines()] == ["process_attached", "swap_error"]
    lines = daemon.ctl("watch", "--format", "json")[1].splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["process_attached", "swap_error"]


def test_watch_asks_for_kinds_and_processes_given_together_or_one_by_one(daemon):
    daemon.admin.processes.append(pb.Process(process_id=3, name="a,b"))
    kinds = ["--kind", "swap_error,policy_set", "--kind", "page_poisoned"]
    assert daemon.ctl("watch", *kinds, "--process", "indexer, 2", "--process", "a,b")[0] == 0
    (asked,) = [request for request in daemon.admin.requests if isinstance(request, pb.WatchEventsRequest)]
    assert list(asked.kinds) == ["swap_error", "policy_set", "page_poisoned"]
    assert list(asked.process_ids) == [1, 2, 3]
    assert daemon.ctl("watch", "--process", "nope")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "field", "key", "order"),
    [
        (["processes", "--sort", "res"], "processes", "process_id", [1, 2]),
        (["processes", "--sort", "name"], "processes", "process_id", [2, 1]),
        (["regions", "--sort", "-length"], "regions", "region_id", [2, 3, 1]),
        (["policies", "--sort", "errors"], "policies", "name", ["lru", "first_fit"]),
        (["hints", "--sort", "-pages"], "hint_ranges", "hint_id", [8, 7]),
        (["swap", "--sort", "share"], "swap_devices", "number", [0]),
    ],
)
def test_a_list_is_sorted_for_people_and_for_programs(daemon, arguments, field, key, order):
    document = json.loads(daemon.ctl(*arguments, "--format", "json")[1])
    assert [each[key] for each in document[field]] == order
    code, _, err = daemon.ctl(*arguments[:-1], "nope")
    assert (code, "names no column; allowed are" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["watch"], 2),
        (["watch", "--format", "json"], 2),
        (["map", "--watch", "--interval", "0.05", "--cells", "8"], 8),
        (["map", "--watch", "--interval", "0.05", "--cells", "8", "--format", "json"], 2),
    ],
)
def test_an_endless_command_writes_at_once_and_ctrl_c_ends_it_well(daemon, start, arguments, lines):
    daemon.admin.hold_events.clear()
    process = start(*arguments, stdout=True)
    for _ in range(lines):
        assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_a_closed_terminal_end_an_endless_command_as_ctrl_c_does(daemon, start, number):
    daemon.admin.hold_events.clear()
    process = start("watch", stdout=True)
    assert process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=90)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize(
    "arguments", [["map", "--watch", "--interval", "0.05"], ["watch"], ["watch", "--format", "json"]]
)
def test_a_reader_that_leaves_ends_the_command_quietly(daemon, start, arguments):
    daemon.admin.events = daemon.admin.events * 5000
    process = start(*arguments, stdout=True)
    assert process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=90)
    assert err == ""


def test_the_daemons_no_is_an_error_in_its_words(daemon):
    daemon.admin.failure = (grpc.StatusCode.NOT_FOUND, "process 9 does not exist")
    for arguments in (["status"], ["regions", "9"], ["explain", "9", "0"], ["watch"], ["drain", "--yes"]):
        assert daemon.ctl(*arguments) == (1, "", "usmctl: process 9 does not exist\n")


def test_an_ambiguous_name_lists_the_candidates(daemon):
    daemon.admin.processes[1].name = "indexer"
    code, _, err = daemon.ctl("regions", "indexer")
    assert code == 1
    assert "1 (pid 211), 2 (pid unknown)" in err


@pytest.mark.parametrize("command", [["status"], ["watch"], ["map", "--watch"], ["top"], ["drain", "--yes"]])
def test_no_daemon_is_an_error_that_says_what_to_do(tmp_path, capsys, command):
    address = f"unix:{tmp_path}/none.sock"
    assert main([*command, "--address", address]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"usmctl: no usmd at {address}: start it with 'usmd serve', or name it with --address\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["status", "--format", "xml"],
        ["status", "--address", "localhost:1"],
        ["regions", "0"],
        ["map", "--cells", "0"],
        ["map", "--cells", "65537"],
        ["map", "--by", "colour"],
        ["map", "--interval", "0"],
        ["explain", "1"],
        ["explain", "1", "index"],
        ["explain", "0", "0x10"],
        ["drain", "--yes", "--grace", "-1"],
    ],
)
def test_bad_usage_exits_2_with_an_explanation_and_asks_the_daemon_nothing(daemon, arguments, monkeypatch, capsys):
    monkeypatch.setenv("USM_ADMIN_ADDRESS", daemon.address)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err
    assert not daemon.admin.requests


def test_options_may_stand_before_the_command_and_its_own_win(daemon, capsys):
    assert main(["--address", daemon.address, "--format", "json", "swap"]) == 0
    assert json.loads(capsys.readouterr().out)["swap_devices"][0]["name"] == "file0"
    assert (
        main(
            [
                "--address",
                "unix:/none.sock",
                "--format",
                "json",
                "swap",
                "--address",
                daemon.address,
                "--format",
                "table",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.startswith("NO  NAME")


def test_the_variable_names_the_daemon(daemon, monkeypatch, capsys):
    monkeypatch.setenv("USM_ADMIN_ADDRESS", daemon.address)
    assert main(["policies"]) == 0
    assert "first_fit" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_each_command_by_example(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"usmctl {command}" in capsys.readouterr().out.split("Example", 1)[1]


def test_help_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)
    assert "usmctl status" in out


def test_the_version_is_told_without_a_daemon(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"usmctl {VERSION}\n"


def test_doctor_needs_no_daemon_and_its_exit_code_is_its_verdict(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("USM_ADMIN_ADDRESS", f"unix:{tmp_path}/none.sock")
    real = not uffd.usable(uffd.probe())
    assert main(["doctor"]) == (0 if real else 1)
    out, err = capsys.readouterr()
    assert err == ""
    assert "usmd will use: " + ("userfaultfd" if real else "simulated, because ") in out
    assert main(["doctor", "--format", "json"]) == (0 if real else 1)
    assert json.loads(capsys.readouterr().out)["mechanism"] == ("userfaultfd" if real else "simulated")


def test_doctor_runs_as_a_process_of_its_own(start):
    process = start("--format", "json", "doctor", stdout=True)
    out, err = process.communicate(timeout=90)
    assert err == ""
    assert process.returncode == (0 if json.loads(out)["mechanism"] == "userfaultfd" else 1)

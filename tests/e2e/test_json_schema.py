"""Every command's real output for programs is as its JSON schema says."""

import json

import pytest
from typer.testing import CliRunner

import lib_usm
from tests.support.daemon import running_daemon
from tests.support.documents import check
from usmd import cli as usmd_cli
from usmd.ctl.cli import main
from usmd.ctl.schema_command import COMMANDS

PAGE = 4096


@pytest.fixture
def written(tmp_path):
    """By command, how many of its documents were checked."""
    return dict.fromkeys(COMMANDS, 0)


def lines_of(process):
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    return [json.loads(line) for line in out.splitlines()]


def test_every_command_writes_what_its_schema_says(tmp_path, capsys, written):
    def keep(arguments, document):
        check(arguments, document)
        written[next(each for each in sorted(written, reverse=True) if " ".join(arguments).startswith(each))] += 1

    log, record, trace = tmp_path / "events.jsonl", tmp_path / "record.usm", tmp_path / "trace"
    trace.write_text("1\n2\n3\n1\n")
    flags = ("--memory", "256KiB", "--swap", f"file:{tmp_path / 'swap'}:1MiB", "--trace-events", str(log))
    with running_daemon(tmp_path, *flags, config="[policy]\nevict = 'lru'\n", exit_code=None) as daemon:

        def usmctl(*arguments, code=0):
            assert main(["--address", daemon.admin_address, "--format", "json", *arguments]) == code
            keep(arguments, json.loads(capsys.readouterr().out))

        watch = daemon.start_usmctl("watch", "--format", "json")
        with lib_usm.connect(daemon.address, name="app") as client:
            index, cache = client.mmap(16 * PAGE, name="index"), client.mmap(128 * PAGE, name="cache")
            shadow = daemon.start_usmctl("shadow", "app", "--evict", "arc", "--interval", "0.05", "--format", "json")
            client.usm_hint(index, "EVICTION=DENY; TTL=600")
            for _ in range(2):
                for region in (index, cache):
                    region.write(0, b"x" * len(region))
            for words in (
                "status", "processes", "regions", "policies", "swap", "hints", "map --cells 8", "top --interval 0.1",
                "explain app index+0", "explain app cache+0", "explain app --evictions 3",
                "policy set app --evict arc", "limit app memory_weight=50 max_regions=99",
                "limit --uid 99 max_sessions=5", "limits",
                "swap add memory:1MiB --name more",
                "swap retire more", "hints app --clear index",
                "debug validate", f"record --process app -o {record} --seconds 0.1",
                f"replay {trace} --trace-format text --frames 2", "reload",
            ):  # fmt: skip
                usmctl(*words.split())
            index.write(0, b"again")
            usmctl("drain", "--yes")
        for process, command in ((watch, "watch"), (shadow, "shadow")):
            for document in lines_of(process):
                keep([command], document)
        assert daemon.wait_exit() == 0
        usmctl("debug", "replay-events", str(log))
        assert main(["doctor", "--format", "json"]) in (0, 1)
        keep(["doctor"], json.loads(capsys.readouterr().out))
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[memory]\nsizes = 3\n")
    for code, *arguments in (
        (0, "config", "check", str(tmp_path / "usmd.toml")),
        (2, "config", "check", str(wrong)),
        (0, "config", "show", "--config", str(tmp_path / "usmd.toml")),
    ):
        done = CliRunner().invoke(usmd_cli.app, [*arguments, "--format", "json"])
        assert done.exit_code == code
        keep(arguments, json.loads(done.stdout))
    assert [command for command, count in written.items() if not count] == []

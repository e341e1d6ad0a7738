import json
import os
import pty
import subprocess

import grpc
import pytest

from tests.usmd.ctl.conftest import USMCTL
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl import record_command
from usmd.ctl.cli import main
from usmd.ctl.command import ENDING
from usmd.errors import InvalidArgument


def test_a_recording_is_a_file_that_replay_reads(daemon, tmp_path):
    file = tmp_path / "r.usm"
    code, text, err = daemon.ctl("record", "--process", "indexer", "-o", str(file))
    assert (code, err) == (0, "")
    assert daemon.admin.requests[-1] == pb.RecordAccessesRequest(process_id=1)
    assert f"3 accesses of indexer in 0.0 s to {file} (51 B)" in text
    assert "4 accesses were lost" in text
    assert "the process ended: detached" in text
    assert main(["replay", str(file), "--frames", "1", "--evict", "lru", "--format", "json"]) == 0
    document = json.loads(daemon.capsys.readouterr().out)
    assert (document["accesses"], document["distinct_pages"], document["writes"]) == (3, 2, 2)


def test_a_limit_of_accesses_is_exact(daemon, tmp_path):
    file = tmp_path / "r.usm"
    daemon.admin.hold_events.clear()
    code, text, _ = daemon.ctl("record", "--process", "1", "-o", str(file), "--limit", "2", "--format", "json")
    assert code == 0
    document = json.loads(text)
    assert (document["accesses"], document["faults"], document["writes"], document["ended"]) == (2, 2, 1, "")
    assert len(file.read_bytes().split(b"\n", 2)[2]) == 2 * 17


def test_a_limit_of_time_ends_it_well(daemon, tmp_path):
    daemon.admin.accesses.pop()
    daemon.admin.hold_events.clear()
    code, text, err = daemon.ctl("record", "--process", "1", "-o", str(tmp_path / "r"), "--seconds", "0.3")
    assert (code, err) == (0, "")
    assert "3 accesses of indexer" in text


@pytest.mark.parametrize("number", ENDING)
def test_ctrl_c_and_the_like_end_it_well_with_all_that_came(daemon, start, tmp_path, number):
    daemon.admin.accesses.pop()
    daemon.admin.hold_events.clear()
    file = tmp_path / "r.usm"
    leader, follower = pty.openpty()
    process = start("record", "--process", "1", "-o", str(file), stdout=True, given={2: follower})
    os.close(follower)
    seen = b""
    while b"3 accesses" not in seen:
        seen += os.read(leader, 4096)
    process.send_signal(number)
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    os.close(leader)
    assert b"recording indexer: 3 accesses" in seen
    assert out.startswith("3 accesses of indexer")
    assert file.stat().st_size > 3 * 17


def test_standard_output_has_the_recording_alone(daemon):
    done = subprocess.run(
        [*USMCTL, "record", "--process", "1", "-o", "-", "--address", daemon.address],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=90, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(b"USMTRACE1\n{")
    assert len(done.stdout.split(b"\n", 2)[2]) == 3 * 17
    assert b"3 accesses of indexer" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "/nowhere/r"], "/nowhere/r cannot be written: No such file or directory"),
        (["-o", "-", "--format", "json"], "name a file"),
        (["-o", "r", "--limit", "0"], "than or equal to"),
        (["-o", "r", "--seconds", "0"], "than or equal to"),
        ([], "-o"),
    ],
)
def test_what_cannot_be_is_bad_usage(daemon, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = daemon.ctl("record", "--process", "1", *arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_a_file_with_something_in_it_is_overwritten_only_when_that_is_asked_for(daemon, tmp_path):
    file = tmp_path / "r.usm"
    file.write_bytes(b"precious")
    code, out, err = daemon.ctl("record", "--process", "1", "-o", str(file))
    assert (code, out) == (2, "")
    assert f"{file} exists; give another file with -o, or --force" in err
    assert not daemon.admin.requests
    assert file.read_bytes() == b"precious"
    assert daemon.ctl("record", "--process", "1", "-o", str(file), "--force")[0] == 0
    assert file.read_bytes().startswith(b"USMTRACE1\n")


def test_an_empty_file_and_a_device_have_nothing_to_lose(daemon, tmp_path):
    (tmp_path / "empty").touch()
    for out in (str(tmp_path / "empty"), "/dev/null"):
        code, _, err = daemon.ctl("record", "--process", "1", "-o", out)
        assert (code, err) == (0, "")


def test_a_file_that_comes_after_the_first_look_stays_as_well(tmp_path):
    (tmp_path / "r").write_bytes(b"precious")
    with pytest.raises(InvalidArgument, match="exists"):
        record_command._file(str(tmp_path / "r"), force=False)
    assert (tmp_path / "r").read_bytes() == b"precious"


def test_the_daemons_no_is_an_error_in_its_words_and_leaves_no_file(daemon, tmp_path):
    daemon.admin.failure = (grpc.StatusCode.RESOURCE_EXHAUSTED, "process 1 is recorded already")
    file = tmp_path / "r"
    assert daemon.ctl("record", "--process", "1", "-o", str(file)) == (1, "", "usmctl: process 1 is recorded already\n")
    assert not file.exists()

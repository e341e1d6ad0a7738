"""The Containerfile has nothing that hadolint finds, and what it and deploy/README.md say is what the unit says."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.test_deploy import unit
from usmd.config import load

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILE = DEPLOY / "Containerfile"
TEXT = re.sub(r" *\\\n *", " ", FILE.read_text())
README = (DEPLOY / "README.md").read_text().partition("## In a container")[2].partition("\n## ")[0]


def lines(instruction):
    return re.findall(rf"^{instruction} (.*)$", TEXT, re.MULTILINE)


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        assert "CI" not in os.environ, "hadolint is not in the environment"
        pytest.skip("there is no hadolint for this machine")
    done = subprocess.run([hadolint, "--no-color", str(FILE)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_it_copies_is_there():
    sources = [line.split()[0] for line in lines("COPY") if not line.startswith("--from")]
    assert [each for each in sources if not (DEPLOY.parent / each).exists()] == []


def test_it_starts_the_unit_s_command_in_the_places_of_the_configuration():
    command = [*json.loads(lines("ENTRYPOINT")[0]), *json.loads(lines("CMD")[0])]
    assert [f"/usr/bin/{' '.join(command)}"] == unit()["ExecStart"]
    server = load(DEPLOY / "usmd.toml").server
    assert json.loads(lines("VOLUME")[0]) == [str(server.socket.parent), str(server.state_dir)]
    health = json.loads(lines("HEALTHCHECK")[0].partition(" CMD ")[2])
    assert health == ["usmctl", "--address", f"unix:{server.admin_socket}", "status"]
    assert [each for each in unit()["Environment"] if each not in lines("ENV")[0]] == []


def test_it_is_run_with_the_limits_of_the_unit():
    (files,), (memory,), (stop,) = (unit()[name] for name in ("LimitNOFILE", "MemoryMax", "TimeoutStopSec"))
    for flag in (
        f"--ulimit nofile={files}:{files}", f"--memory {memory.lower()}", f"--stop-timeout {stop.removesuffix('s')}",
        "--device /dev/userfaultfd", "--pid host", "--userns host",
    ):  # fmt: skip
        assert flag in README, flag
    (user,) = lines("USER")
    number = user.partition(":")[0]
    assert user == f"{number}:{number}"
    assert f"--uid {number} " in TEXT
    assert f"user and group {number}" in README


def test_both_stages_have_the_base_that_a_build_may_choose():
    (default,) = lines("ARG")
    name, _, image = default.partition("=")
    assert lines("FROM") == [f"${{{name}}} AS build", f"${{{name}}}"]
    assert f"--build-arg {name}=" in README
    assert image == "docker.io/library/python:3.11-slim-bookworm"


def test_its_health_check_needs_the_format_that_the_commands_name():
    assert lines("HEALTHCHECK")
    for text in (FILE.read_text(), README):
        assert "podman build --format docker " in text
    assert README.count("buildah bud --format docker ") == 1

import os
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from usm_wire.places import SOCKET_NAME, runtime_folder
from usmd.config import MemoryConfig, MetricsConfig, PageConfig, ServerConfig, load
from usmd.config_values import frames_of
from usmd.policy_rules import PolicyRule, PolicyRules, UserRule
from usmd.runtime_paths import ADMIN_SOCKET_NAME
from usmd.swap.mirror import LATE_SECONDS, REPAIR_RATE

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CONFIG = DEPLOY / "usmd.toml"
SECTIONS = {
    "server": ServerConfig,
    "memory": MemoryConfig,
    "policy": PolicyRules,
    "metrics": MetricsConfig,
    "page": PageConfig,
}
PLACES = ("socket", "admin_socket", "state_dir")


def unit():
    """Settings of the unit file, each with its values in order."""
    found = {}
    for line in (DEPLOY / "usmd.service").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def tool(name):
    path = shutil.which(name)
    if path is None:
        assert "CI" not in os.environ, f"{name} is not on this machine; .ci/run installs it"
        pytest.skip(f"{name} is not on this machine")
    return path


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_the_unit_file_verifies_without_a_word(tmp_path):
    analyze = tool("systemd-analyze")
    executable = tmp_path / "usmd"
    executable.write_text("#!/bin/sh\n")
    executable.chmod(0o755)
    text = (DEPLOY / "usmd.service").read_text()
    assert text.count("ExecStart=/usr/bin/usmd ") == 1
    copy = tmp_path / "usmd.service"
    text = text.replace("ExecReload=/usr/bin/usmctl ", f"ExecReload={executable} ")
    copy.write_text(text.replace("ExecStart=/usr/bin/usmd ", f"ExecStart={executable} "))
    assert run(analyze, "verify", str(copy)) == (0, "", "")
    copy.write_text(copy.read_text() + "NoSuchSetting=1\n")
    assert "NoSuchSetting" in run(analyze, "verify", str(copy))[2]


def exposure(most):
    """Whether systemd finds the unit exposed by so much at most, and what it says."""
    analyze = tool("systemd-analyze")
    threshold = f"--threshold={round(10 * most)}"
    code, out, complaint = run(analyze, "security", "--offline=true", threshold, str(DEPLOY / "usmd.service"))
    return code == 0, out + complaint


def test_the_unit_is_hardened():
    low, text = exposure(2.0)
    assert low, text
    assert not exposure(0.5)[0]  # or it does not look


def test_the_unit_starts_the_command_that_exists_with_the_configuration_that_is_installed(installed):
    assert unit()["ExecStart"] == ["/usr/bin/usmd serve --config /etc/usmd/usmd.toml"]
    assert (installed / "etc/usmd/usmd.toml").read_bytes() == CONFIG.read_bytes()


def test_the_unit_reloads_by_the_operators_socket_of_the_configuration_that_is_installed():
    assert unit()["ExecReload"] == [f"/usr/bin/usmctl --address unix:{load(CONFIG).server.admin_socket} reload"]


def test_the_unit_keeps_what_the_daemon_relies_on():
    settings = unit()
    assert (settings["Type"], settings["NotifyAccess"]) == (["notify"], ["main"])
    assert "PrivateUsers" not in settings  # or every client would be user 65534
    assert settings["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert settings["NoNewPrivileges"] == ["yes"]
    assert settings["RestartPreventExitStatus"] == ["2 3"]


def test_stopping_is_given_longer_than_the_drain():
    (seconds,) = unit()["TimeoutStopSec"]
    assert int(seconds.removesuffix("s")) > 2 * load(CONFIG).server.drain_grace


def test_the_units_folders_are_those_of_the_configuration():
    server = load(CONFIG).server
    assert unit()["RuntimeDirectory"] == [server.socket.parent.name]
    assert unit()["StateDirectory"] == [server.state_dir.name]


@pytest.mark.parametrize("section", SECTIONS)
def test_the_annotated_configuration_says_every_default(section):
    struct = SECTIONS[section]
    said = getattr(load(CONFIG), section)
    for field in msgspec.structs.fields(struct):
        if field.name not in PLACES:
            assert getattr(said, field.name) == field.default, field.name


def test_the_annotated_configuration_is_in_the_places_of_a_service():
    server = load(CONFIG).server
    folder = runtime_folder({}, uid=0)
    assert (server.socket, server.admin_socket) == (folder / SOCKET_NAME, folder / ADMIN_SOCKET_NAME)
    assert server.state_dir == Path("/var/lib/usmd")


def test_the_annotated_swap_is_the_default_one():
    assert load(CONFIG).swap == load(None).swap


@pytest.mark.parametrize("struct", [*SECTIONS.values(), PolicyRule, UserRule])
def test_the_annotated_configuration_has_every_key(struct):
    text = CONFIG.read_text()
    keys = [field for field in struct.__struct_fields__ if field not in ("rules", "users")]
    assert [key for key in keys if not re.search(rf"^#?{key} = ", text, re.MULTILINE)] == []


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("mechanism", ["auto:", "userfaultfd:", "simulated:", "usmctl doctor"]),
        ("sampling", ["auto:", "off:", "above 0 and up to 16", "usmctl doctor"]),
        ("fault_wakeup", ["auto:", "sleep:", "spin:US:", "follow:", "1 to 10000"]),
    ],
)
def test_the_annotated_configuration_explains_each_value_of_a_choice(key, words):
    before, _, _ = CONFIG.read_text().partition(f"\n{key} = ")
    lines = before.splitlines()
    comment = lines[max(n for n, line in enumerate(lines) if not line.startswith("#")) + 1 :]
    assert [word for word in words if word not in "\n".join(comment)] == []


def test_what_is_commented_out_can_be_used(tmp_path):
    path = tmp_path / "usmd.toml"
    path.write_text(re.sub(r"^#(?=[\[a-z])", "", CONFIG.read_text(), flags=re.MULTILINE))
    config = load(path)
    assert [spec.device.kind for spec in config.swap] == ["memory", "compressed", "file", "redis", "mirror"]
    mirror = config.swap[4]
    assert (mirror.late, mirror.repair_rate) == (LATE_SECONDS, REPAIR_RATE)
    assert [(rule.name, rule.glob, rule.uid) for rule in config.policy.rules] == [
        ("redis", None, None),
        (None, "batch-*", None),
        (None, "scratch-*", None),
        ("database", None, None),
        (None, "tenant-*", None),
        (None, "web-*", None),
        (None, None, 1000),
    ]
    assert [(user.uid, user.max_sessions) for user in config.policy.users] == [(1000, 64)]


def test_the_default_watermarks_leave_something_to_reclaim():
    memory = load(CONFIG).memory
    low, high = (
        frames_of(text, memory.frames, memory.page_size) for text in (memory.low_watermark, memory.high_watermark)
    )
    assert 0 < low < high < memory.frames


def test_the_user_and_its_folders_can_be_made(tmp_path):
    sysusers, tmpfiles = tool("systemd-sysusers"), tool("systemd-tmpfiles")
    (tmp_path / "etc").mkdir()
    state = tmp_path / "var" / "lib" / "usmd"
    state.mkdir(parents=True)
    (state / "swap0").touch()
    (state / "other").touch()
    code, _, complaint = run(sysusers, f"--root={tmp_path}", str(DEPLOY / "usmd.sysusers.conf"))
    assert code == 0, complaint
    _, _, uid, gid, _, home, shell = (tmp_path / "etc" / "passwd").read_text().strip().split(":")
    assert (home, Path(shell).name) == ("/var/lib/usmd", "nologin")
    if os.geteuid() != 0:
        pytest.skip("only root can give folders to another user")
    arguments = ("--create", "--remove", "--boot", f"--root={tmp_path}", str(DEPLOY / "usmd.tmpfiles.conf"))
    assert run(tmpfiles, *arguments) == (0, "", "")
    for folder, mode in ((tmp_path / "run" / "usmd", 0o755), (state, 0o700)):
        found = folder.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (int(uid), int(gid), mode)
    assert [entry.name for entry in state.iterdir()] == ["other"]


def make(target, folder):
    done = subprocess.run(
        ["make", "--no-print-directory", target, f"DESTDIR={folder}"],
        cwd=DEPLOY.parent, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def files_in(folder):
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture
def installed(tmp_path):
    folder = tmp_path / "destination with a blank"
    make("install-service", folder)
    return folder


PLACES_OF_FILES = {
    "etc/systemd/system/usmd.service": "usmd.service",
    "etc/sysusers.d/usmd.conf": "usmd.sysusers.conf",
    "etc/tmpfiles.d/usmd.conf": "usmd.tmpfiles.conf",
    "etc/udev/rules.d/60-usmd.rules": "60-usmd.rules",
    "etc/usmd/usmd.toml": "usmd.toml",
}


def test_the_service_is_installed_and_removed_as_a_whole(installed):
    found = files_in(installed)
    assert {place: path.read_bytes() for place, path in found.items()} == {
        place: (DEPLOY / name).read_bytes() for place, name in PLACES_OF_FILES.items()
    }
    assert {path.stat().st_mode & 0o777 for path in found.values()} == {0o644}
    make("install-service", installed)
    assert files_in(installed).keys() == found.keys()
    make("uninstall-service", installed)
    assert files_in(installed) == {}
    assert not (installed / "etc/usmd").exists()
    make("uninstall-service", installed)


def test_a_configuration_of_the_operator_stays(installed):
    config, unit_file = installed / "etc/usmd/usmd.toml", installed / "etc/systemd/system/usmd.service"
    config.write_text("[memory]\nsize = '1GiB'\n")
    unit_file.write_text("old")
    make("install-service", installed)
    assert unit_file.read_bytes() == (DEPLOY / "usmd.service").read_bytes()
    make("uninstall-service", installed)
    assert {place: path.read_text() for place, path in files_in(installed).items()} == {
        "etc/usmd/usmd.toml": "[memory]\nsize = '1GiB'\n"
    }


def test_the_readme_says_of_every_file_of_the_folder_how_it_is_installed():
    text = (DEPLOY / "README.md").read_text()
    files = {str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*.*") if path.is_file()}
    # Those of compose are used where they are.
    files -= {"README.md", "far/compose.yaml", "far/usmd.toml", *PLACES_OF_FILES.values()}
    assert "\n   make install-service\n" in text
    assert {name for name in files if f"install -D -m 0644 deploy/{name} " not in text} == set()

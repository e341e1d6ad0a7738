"""A real daemon reads its configuration again: by SIGHUP and by usmctl, right and wrong, while a client works."""

import contextlib
import os
import signal
import socket

import pytest

import lib_usm
from tests.support.daemon import environment, run_usmd, running_daemon
from tests.support.scraping import ask, families, metrics_of, values

PAGE = 4096
CONFIG = """
[memory]
low_watermark = "{low}"
high_watermark = "20%"
[server]
max_user_sessions = {sessions}
[metrics]
socket_mode = "{mode}"
[[policy.rules]]
name = "app"
evict = "{evict}"
"""


def config(low="5%", sessions=10, mode="0600", evict="lru", more=""):
    return CONFIG.format(low=low, sessions=sessions, mode=mode, evict=evict) + more


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reload")


@pytest.fixture(scope="module")
def manager(folder):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(folder / "notify"))
        listening.settimeout(90)
        yield listening


@pytest.fixture(scope="module")
def daemon(folder, manager):
    environ = environment(NOTIFY_SOCKET=str(folder / "notify"))
    flags = ("--memory", "1MiB", "--swap", "memory:8MiB")
    with running_daemon(folder, *flags, config=config(), environ=environ) as running:
        assert manager.recv(4096) == b"READY=1"
        yield running
        running.never("defect")


def write(folder, text):
    """Replace the file as an editor does."""
    (folder / "new").write_text(text)
    (folder / "new").replace(folder / "usmd.toml")


def scrape(daemon):
    with contextlib.closing(metrics_of(daemon.admin_address)) as connection:
        return values(families(ask(connection)[2]))


def told(manager):
    begin = manager.recv(4096).decode()
    assert begin.startswith("RELOADING=1\nMONOTONIC_USEC=")
    return manager.recv(4096).decode()


def test_a_signal_applies_what_can_change_while_a_client_works(daemon, folder, manager):
    with lib_usm.connect(daemon.address, name="app") as client:
        region = client.mmap(2 << 20)
        data = os.urandom(len(region))
        region.write(0, data)
        write(folder, config(low="10%", mode="0640", evict="arc"))
        daemon.signal(signal.SIGHUP)
        assert told(manager) == "READY=1\nSTATUS="
        line = daemon.wait_for("config_reloaded")
        assert line["applied"] == ["memory.low_watermark", "metrics.socket_mode", "policy.rules"]
        assert line["needs_restart"] == []
        assert scrape(daemon)["usmd_watermark_frames", "low"] == 25
        assert os.stat(f"{folder}/admin.sock.metrics").st_mode & 0o777 == 0o640
        assert region.read(0, len(data)) == data
        (process,) = daemon.admin.processes()
        assert process.evict_policy == "lru"  # it began before
    with lib_usm.connect(daemon.address, name="app"):
        (process,) = daemon.admin.processes()
        assert process.evict_policy == "arc"


def test_usmctl_says_what_is_in_force_and_what_needs_a_restart(daemon, folder, manager):
    write(folder, config(sessions=1, more='[[swap]]\nkind = "memory"\nsize = "1MiB"\n'))
    text = daemon.run_usmctl("reload")
    assert text.returncode == 0, text.stderr
    assert told(manager).startswith("READY=1")
    assert "server.max_user_sessions  10" in text.stdout
    assert "restart" not in text.stdout  # --swap goes before the file
    with lib_usm.connect(daemon.address), pytest.raises(lib_usm.LimitExceeded, match="max_user_sessions"):
        lib_usm.connect(daemon.address)
    write(folder, config(more="[policy]\ncall_timeout = 5\n"))
    assert [each["key"] for each in daemon.usmctl("reload")["needs_restart"]] == ["policy.call_timeout"]
    told(manager)


def test_a_bad_file_leaves_the_old_one_in_force_and_says_what_is_wrong(daemon, folder, manager):
    write(folder, config())
    daemon.usmctl("reload")
    told(manager)
    low = scrape(daemon)["usmd_watermark_frames", "low"]
    write(folder, config(low="90%", evict="mru", more="[memry]\n"))
    done = daemon.run_usmctl("reload")
    assert told(manager).startswith("READY=1\nSTATUS=the configuration is as before: memry is not a key")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "memry is not a key; did you mean memory?" in done.stderr
    assert "memory.low_watermark = '90%'" in done.stderr
    found = scrape(daemon)
    assert found["usmd_watermark_frames", "low"] == low
    assert found["usmd_config_last_reload_successful",] == 0
    daemon.signal(signal.SIGHUP)
    assert told(manager).startswith("READY=1\nSTATUS=the configuration is as before")
    refused = daemon.events("config_refused")[-1]
    assert len(refused["problems"]) == 2
    checked = run_usmd("config", "check", str(folder / "usmd.toml"))
    assert checked.returncode == 2
    write(folder, config())
    daemon.usmctl("reload")
    told(manager)
    assert scrape(daemon)["usmd_config_last_reload_successful",] == 1

"""Connecting where no daemon answers: one sentence for each mistake of the first hour, and nothing chained to it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import lib_usm
from lib_usm import channel
from lib_usm.address import SocketAddress
from lib_usm.reach import check_reachable, unreachable
from tests.support.clients import run_python


@pytest.fixture
def folder(tmp_path):
    """Places without a daemon, by name."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "left"))
    left.close()
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind(str(tmp_path / "datagrams"))
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(tmp_path / "other"))
    other.listen()
    yield tmp_path
    datagrams.close()
    other.close()


MISTAKES = {
    "none": "there is no such socket; start it with `usmd serve`, or give the address of a running one",
    "nowhere/usmd.sock": "there is no folder .*/nowhere; start it",
    "file/usmd.sock": "/file is not a folder; start it",
    "folder": "it is a directory, not a socket",
    "file": "it is a file, not a socket",
    "pipe": "it is a pipe, not a socket",
    "left": "what listened on it has ended; start it",
    "datagrams": "it is a socket of another kind, not usmd's",
}


@pytest.mark.parametrize("spelling", ["unix:{}", "{}", Path])
@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_one_sentence_and_one_error(folder, name, spelling):
    path = str(folder / name)
    address = spelling(path) if spelling is Path else spelling.format(path)
    with pytest.raises(lib_usm.DaemonUnavailable, match=rf"^no daemon answers at unix:{path}: .*{MISTAKES[name]}") as e:
        lib_usm.connect(address)
    assert isinstance(e.value, ConnectionError)
    assert (e.value.__cause__, e.value.__suppress_context__ or e.value.__context__ is None) == (None, True)
    assert "region" not in str(e.value)


def test_a_traceback_shows_one_error(folder):
    code = "import lib_usm, sys; lib_usm.connect(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "none")],
        env=os.environ | {"PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.splitlines()[-1].startswith("lib_usm.errors.DaemonUnavailable: no daemon answers at unix:")


def test_what_listens_and_is_not_usmd_is_said_to_be_that(folder, monkeypatch):
    monkeypatch.setattr(channel, "_ATTACH_TIMEOUT_SECONDS", 0.2)  # what listens never answers
    with pytest.raises(lib_usm.DaemonUnavailable, match="what listens there is not usmd, or too busy to answer") as e:
        lib_usm.connect(folder / "other")
    assert "connect again" not in str(e.value)
    assert e.value.__suppress_context__


def test_a_relative_path_is_of_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(lib_usm.DaemonUnavailable, match=f"unix:{folder}/none"):
        lib_usm.connect("none")


def test_a_daemon_is_reached_by_its_path_in_every_spelling(make_daemon):
    daemon = make_daemon()
    for address in (daemon.path, str(daemon.path), daemon.address):
        with lib_usm.connect(address) as client:
            assert client.address == daemon.address


@pytest.mark.parametrize("address", [5, b"/run/usmd.sock", ["x"]])
def test_an_address_of_another_type_is_refused(address):
    with pytest.raises(lib_usm.WrongType, match=r"a str such as unix:PATH, or a Path"):
        lib_usm.connect(address)


AS_NOBODY = """
    import os, sys
    import lib_usm
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    try:
        lib_usm.connect(sys.argv[1])
    except lib_usm.DaemonUnavailable as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("what", "mode", "group", "says"),
    [
        ("folder", 0o750, 1, "may not enter {folder}, which belongs to user root and group {group} and has mode 0750"),
        ("folder", 0o700, 0, "may not enter {folder}, which belongs to user root and group root and has mode 0700"),
        ("socket", 0o660, 1, "may not use {socket}, which belongs to user root and group {group} and has mode 0660"),
        ("socket", 0o600, 0, "may not use {socket}, which belongs to user root and group root and has mode 0600"),
    ],
)
def test_a_missing_right_names_user_group_and_what_to_do(what, mode, group, says):
    import grp
    import tempfile

    name = grp.getgrgid(group).gr_name
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        os.chmod(made, 0o755)
        folder = Path(made) / "usmd"
        folder.mkdir(mode=0o755)
        path = folder / "usmd.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            target = folder if what == "folder" else path
            os.chown(target, 0, group)
            os.chmod(target, mode)
            done = run_python(AS_NOBODY, path)
    assert done.returncode == 0, done.stderr
    assert says.format(folder=folder, socket=path, group=name) in done.stdout
    if group:
        assert f"to group {name} (`usermod -aG {name} " in done.stdout
    else:
        assert "only root may: start a daemon of your own with `usmd serve`" in done.stdout


def test_without_descriptors_left_the_limit_is_named(tmp_path):
    with pytest.raises(lib_usm.LimitExceeded, match="RLIMIT_NOFILE"):
        raise unreachable(OSError(24, "Too many open files"), "the socket")
    assert "cannot be used: Connection reset" in str(unreachable(ConnectionResetError(104, "Connection reset"), "it"))


def test_a_busy_listener_counts_as_reachable(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            try:
                each.connect(str(tmp_path / "s"))
            except BlockingIOError:
                break
        check_reachable(SocketAddress(f"unix:{tmp_path}/s"))
        for each in waiting:
            each.close()

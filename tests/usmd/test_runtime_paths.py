import os
import socket
from pathlib import Path

import pytest

from usm_wire.places import IDENTITY_SUFFIX, MAX_SOCKET_PATH_BYTES
from usmd.errors import ConfigError
from usmd.runtime_paths import parse_address, prepare_folder


def test_the_runtime_folder_is_made_for_its_owner_alone_whatever_the_umask(tmp_path):
    folder = tmp_path / "usmd"
    before = os.umask(0)
    try:
        prepare_folder(folder)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    prepare_folder(folder)


def test_a_runtime_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConfigError, match=r"belongs to user \d+.*--socket"):
        prepare_folder(tmp_path)


def test_a_runtime_folder_that_others_may_write_to_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match=r"mode 0777.*chmod 0700"):
        prepare_folder(tmp_path)


def test_a_symbolic_link_is_no_runtime_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="symbolic link"):
        prepare_folder(tmp_path / "link")


@pytest.mark.parametrize("missing", ["absent/usmd", "file/usmd", "file"])
def test_a_runtime_folder_that_cannot_be_made_is_an_error_of_the_configuration(tmp_path, missing):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made"):
        prepare_folder(tmp_path / missing)


@pytest.mark.parametrize("text", ["unix:/run/usmd/usmd.sock", "unix:///run/usmd/usmd.sock", "/run/usmd/usmd.sock"])
def test_an_address_is_an_absolute_path_with_or_without_its_scheme(text):
    assert parse_address(text) == Path("/run/usmd/usmd.sock")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "usmd.sock",
        "unix:usmd.sock",
        "unix://usmd.sock",
        "unix-abstract:usmd",
        "tcp://host:1",
        "/run/",
    ],
)
def test_any_other_address_is_refused_with_what_is_allowed(text):
    with pytest.raises(ConfigError) as caught:
        parse_address(text)
    assert repr(text) in str(caught.value)
    assert "unix:PATH" in str(caught.value)


def test_the_longest_address_leaves_room_for_the_identity_socket():
    path = "/" + "x" * (MAX_SOCKET_PATH_BYTES - len(IDENTITY_SUFFIX) - 1)
    assert parse_address(f"unix:{path}") == Path(path)
    with pytest.raises(ConfigError, match=r"99 bytes; .* at most 98 \(PATH\.identity is bound as well\)"):
        parse_address(f"unix:{path}x")
    assert parse_address(f"{path}x", identity=False) == Path(f"{path}x")
    with pytest.raises(ConfigError, match="at most 107; choose"):
        parse_address("/" + "x" * 107, identity=False)


def test_the_length_of_an_address_is_counted_in_bytes():
    with pytest.raises(ConfigError, match="at most 107"):
        parse_address("/" + "\u00e9" * 60, identity=False)


def test_the_limit_is_the_kernels(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX) as taken, pytest.raises(OSError, match="too long"):
        taken.bind("/" + "x" * MAX_SOCKET_PATH_BYTES)
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind("x" * MAX_SOCKET_PATH_BYTES)

"""libusm as a program in C uses it, and what its header promises to C++."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import SECONDS, environment, wait_equal
from tests.support.native import compiled, compiler, linked, require_native
from tests.support.real_daemon import in_use, real_daemon

CLIENT = Path(__file__).with_name("api_client.c")
HEADER = Path(__file__).parents[3] / "lib_usm" / "native" / "usm.h"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    require_native()
    return compiled(tmp_path_factory.mktemp("api"), CLIENT, options=linked())


def run(client, *arguments, **environ):
    command = [str(client), *arguments]
    return subprocess.run(
        command, env=environment(**environ), capture_output=True, text=True, timeout=SECONDS, check=False
    )


def test_every_call_does_what_it_says_or_says_why_not(tmp_path, client):
    with real_daemon(tmp_path) as daemon:
        done = run(client, USM_ADDRESS=daemon.address)
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
        daemon.wait_for("process_attached", name="api")
        wait_equal(lambda: in_use(daemon), (0, 0, 0), "nothing is left of it")


def test_without_usmd_each_call_says_so(tmp_path, client):
    done = run(client, f"unix:{tmp_path / 'nobody'}", USM_ADDRESS=str(tmp_path / "nobody"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_the_daemon_is_found_in_the_users_runtime_folder(tmp_path, client):
    folder = tmp_path / "usmd"
    folder.mkdir(mode=0o700)
    with real_daemon(folder):
        done = run(client, XDG_RUNTIME_DIR=str(tmp_path))
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_folder_of_another_user_is_not_trusted(tmp_path, client):
    folder = tmp_path / "usmd"
    folder.mkdir()
    os.chmod(folder, 0o777)
    done = run(client, XDG_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 3
    assert f"folder {folder} may be another user's; name a socket in $USM_ADDRESS" in done.stderr


def test_the_header_is_one_of_strict_c_and_of_cpp():
    require_native()
    for language in ("c -std=c99", "c++"):
        command = [*compiler(), "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-x", *language.split()]
        done = subprocess.run([*command, str(HEADER)], capture_output=True, text=True, check=False)
        if "cannot execute" in done.stderr or "not installed" in done.stderr:
            continue  # there is no compiler for C++ here
        assert done.returncode == 0, done.stderr

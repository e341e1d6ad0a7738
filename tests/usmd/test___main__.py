"""`python -m usmd` is the command line."""

import subprocess
import sys

import pytest

from usmd.version import VERSION


def test_python_m_usmd_runs_the_command_line():
    done = subprocess.run([sys.executable, "-m", "usmd", "--version"], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout.strip()) == (0, f"usmd {VERSION}")


def test_importing_it_runs_nothing():
    code = "import usmd.__main__; print('imported')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout) == (0, "imported\n")


@pytest.mark.parametrize("name", ["typer", "msgspec", "tomllib", "lib_usm", "fnmatch"])
def test_no_file_of_the_current_folder_is_taken_for_a_module(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("raise SystemExit(7)\n")
    done = subprocess.run(
        [sys.executable, "-m", "usmd", "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=90
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"usmd {VERSION}")

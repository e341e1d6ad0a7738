"""What applications import: everything named is there, and nothing of the daemon comes with it."""

import subprocess
import sys

import lib_usm


def test_every_name_that_is_offered_exists():
    assert [name for name in lib_usm.__all__ if not hasattr(lib_usm, name)] == []
    assert {"connect", "mmap", "usm_hint", "UsmError"} <= set(lib_usm.__all__)


def test_every_error_derives_from_one():
    errors = [getattr(lib_usm, name) for name in lib_usm.__all__]
    errors = [each for each in errors if isinstance(each, type) and issubclass(each, Exception)]
    assert len(errors) > 10
    assert all(issubclass(each, lib_usm.UsmError) for each in errors)


def test_importing_it_imports_nothing_of_the_daemon():
    program = "import sys, lib_usm; print([name for name in sys.modules if name.split('.')[0] == 'usmd'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

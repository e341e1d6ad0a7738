"""docs/native.md: its program in C runs, and its table has the options that `usmctl run` has."""

import re
import subprocess
from pathlib import Path

from tests.support.daemon import SECONDS, environment
from tests.support.native import compiled, linked, require_native
from tests.support.real_daemon import real_daemon
from usmd.ctl.cli import program

PAGE = Path(__file__).parents[2] / "docs" / "native.md"
HEADER = Path(__file__).parents[2] / "lib_usm" / "native" / "usm.h"


def test_the_program_in_c_runs_and_its_hints_are_in_force(tmp_path):
    require_native()
    (code,) = re.findall(r"^```c\n(.*?)^```\n", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    includes, _, body = code.partition("\n\n")
    source = tmp_path / "shown.c"
    source.write_text(f"{includes}\nint main(void) {{\n{body}\nreturn *usm_error(); }}\n")
    built = compiled(tmp_path, source, options=linked())
    with real_daemon(tmp_path) as daemon:
        done = subprocess.run(
            [str(built)], env=environment(USM_ADDRESS=daemon.address), capture_output=True, timeout=SECONDS, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert daemon.events("process_attached", name="shown")


def test_the_table_has_the_options_that_there_are():
    documented = {option for row in re.findall(r"^\| `(--.*?)`", PAGE.read_text(), re.MULTILINE) for option in [row]}
    names = {re.split(r"[ =]", each)[0] for each in documented}
    there = {option for parameter in program.commands["run"].params for option in parameter.opts if option[:2] == "--"}
    assert names == there - {"--help"}


def test_the_calls_are_those_of_the_header():
    header = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    declared = set(re.findall(r"^\w[\w *]*?(usm_\w+)\(", header, re.MULTILINE))
    assert set(re.findall(r"^\| `[\w *]*?(usm_\w+)\(", PAGE.read_text(), re.MULTILINE)) == declared

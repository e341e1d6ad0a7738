"""The examples in JavaScript and Go, by the commands of docs/other-languages.md: a file goes through memory."""

import os
import random
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import SECONDS, environment, running_daemon, wait_equal
from tests.support.native import need

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "other-languages.md").read_text(encoding="utf-8")
MADE = {"node": (".", "examples/node/node_modules/.package-lock.json"), "go": ("examples/go", "bin/copy")}
"""Folder of the Makefile, and the target, by language."""
PAGES, REST = 300, 123
"""Of the file: more than twice the memory."""


@pytest.fixture(params=MADE)
def program(request):
    """The language, and its command on the page, `… SOURCE TARGET`, as a function."""
    folder, made = MADE[request.param]
    current = subprocess.run(["make", "-q", "-C", str(ROOT / folder), made], capture_output=True, check=False)
    why_not = f"examples/{request.param} is not built, or was changed: `make other-languages` builds it"
    need(ROOT if current.returncode == 0 else None, why_not)
    (command,) = re.findall(rf"^(?:node )?examples/{request.param}/\S+ .*SOURCE TARGET$", PAGE, re.MULTILINE)

    def run(daemon, source, target, *more):
        given = command.replace("SOURCE", str(source)).replace("TARGET", str(target))
        given = given.replace("/run/usmd/admin.sock", daemon.admin_address)
        arguments = shlex.split(given)
        arguments[-2:-2] = more
        environ = environment(USM_ADDRESS=daemon.address)
        return subprocess.run(
            arguments, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False
        )

    return request.param, run


def test_every_byte_of_a_file_larger_than_memory_comes_back(program, tmp_path):
    language, run = program
    source, target = tmp_path / "source", tmp_path / "target"
    flags = ("--memory", "512KiB", "--swap", f"file:{tmp_path / 'swap'}:4MiB")
    with running_daemon(tmp_path, *flags, config=f'[[policy.rules]]\nuid = {os.getuid()}\nevict = "lru"\n') as daemon:
        frames, page_size = daemon.admin.status().frames, daemon.admin.status().page_size
        source.write_bytes(random.Random(1).randbytes(PAGES * page_size + REST))
        done = run(daemon, source, target)
        assert (done.returncode, done.stderr) == (0, "")
        assert target.read_bytes() == source.read_bytes()

        attached, hinted, copied, status = done.stdout.splitlines()
        session = daemon.expect("process_attached", name=f"{language}-copy", evict="lru")  # so usmd knows the user
        number = session["process_id"]
        assert attached == f"attached as process {number}: simulated memory in pages of {page_size} bytes"
        assert hinted == f"hint on {PAGES + 1} pages"
        assert (yields := re.fullmatch(rf"copied {PAGES * page_size + REST} bytes; (\d+) faults yielded", copied))
        assert int(yields[1]) > 0
        assert (free := re.fullmatch(rf"usmd \S+: (\d+) of {frames} frames are free, (\d+) pages went to swap", status))
        assert int(free[2]) > PAGES - frames

        done = run(daemon, source, target, "--hint", "PRIORITY=MAX")
        assert done.returncode == 1
        assert done.stderr == "INVALID_HINT: hint PRIORITY=MAX is not allowed; allowed is PRIORITY=LOW|NORMAL|HIGH\n"
        wait_equal(lambda: daemon.admin.status().processes, 0, "both sessions have ended")

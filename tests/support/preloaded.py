"""Imports the programs, and everything that they import only after they have read a command line.

For the process from which tests.support.forked forks. Starts nothing.
"""

import contextlib
import io

import usmd.server.daemon  # noqa: F401 - grpc too
from usmd import cli
from usmd.ctl import cli as ctl_cli

for program, arguments in ((cli.program, ["serve", "--help"]), (ctl_cli.program, ["status", "--help"])):
    with contextlib.redirect_stdout(io.StringIO()):
        program(arguments, standalone_mode=False)

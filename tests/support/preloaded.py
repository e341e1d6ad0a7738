"""Imports the programs, and everything that they import only after they have read a command line.

For the process from which tests.support.forked forks. Starts nothing.
"""

import contextlib
import gc
import io

import tests.support.forked  # what a forked process imports first
import tests.support.io_ways
import tests.support.served  # noqa: F401
import usmd.server.daemon  # noqa: F401 - grpc too
from usmd import cli
from usmd.ctl import cli as ctl_cli

for program, arguments in ((cli.program, ["serve", "--help"]), (ctl_cli.program, ["status", "--help"])):
    with contextlib.redirect_stdout(io.StringIO()):
        program(arguments, standalone_mode=False)

# A collection in a forked process would copy the pages of all that was imported: most of the CPU time of a start.
gc.collect()
gc.freeze()

"""Imports the programs and what clients need, and everything that they import only when they are at work.

For the process from which tests.support.forked forks. Starts nothing.
"""

import contextlib
import gc
import io
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # else numpy starts threads

import numpy  # noqa: F401

import lib_usm  # noqa: F401
import tests.support.forked  # what a forked process imports first
import tests.support.io_ways
import tests.support.served  # noqa: F401
import usmd.ctl.connect
import usmd.server.daemon  # noqa: F401 - grpc too
from usmd import cli
from usmd.ctl import cli as ctl_cli
from usmd.policies import registry

for program, arguments in ((cli.program, ["serve", "--help"]), (ctl_cli.program, ["status", "--help"])):
    with contextlib.redirect_stdout(io.StringIO()):
        program(arguments, standalone_mode=False)

for kind, names in registry.BUILT_IN.items():
    for name in names:
        registry.find(kind, name)

# A collection in a forked process would copy the pages of all that was imported: most of the CPU time of a start.
gc.collect()
gc.freeze()

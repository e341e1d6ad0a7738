"""The core, driven by any sequence of events in any order of I/O, against a plain dict of what was stored.

Covers safety (invariants, every byte) and liveness (every fault ends), of memory that is loaded and stored by call, and
of memory that threads touch as well. Particular behaviours are in the other files.
"""

from tests.support.core_machine import CoreMachine
from tests.support.examples import steps
from tests.support.real_core_machine import RealMachine

for machine in (CoreMachine, RealMachine):
    machine.TestCase.settings = steps(22, 50)


class TestCore(CoreMachine.TestCase):
    """Run by pytest."""


class TestCoreWithRealMemory(RealMachine.TestCase):
    """Run by pytest."""

"""Examples of properties: few and always the same in `make test`, many and new ones in `make soak`.

Tests use `examples(count)` in place of hypothesis' settings(max_examples=count).
"""

from __future__ import annotations

import os
from typing import Any, Final

from hypothesis import HealthCheck, settings

FACTOR: Final = int(os.environ.get("USM_TEST_EXAMPLES", "0"))
"""Factor for the number of examples, which are random; 0: the given number, the same in each run."""
_SUPPRESSED: Final = [HealthCheck.too_slow, HealthCheck.filter_too_much]

settings.register_profile(
    "usmd",
    deadline=None,  # a slow machine is not a failure
    derandomize=FACTOR == 0,
    max_examples=40 * max(FACTOR, 1),
    suppress_health_check=_SUPPRESSED,
)
settings.load_profile("usmd")


def examples(count: int, **more: Any) -> settings:
    """Try a property on `count` examples in `make test`. `more`: other settings of hypothesis."""
    suppressed = [*_SUPPRESSED, *more.pop("suppress_health_check", ())]
    return settings(max_examples=count * max(FACTOR, 1), suppress_health_check=suppressed, **more)


def steps(count: int, length: int) -> settings:
    """Run a state machine `count` times, each for at most `length` steps."""
    return examples(count, stateful_step_count=length)

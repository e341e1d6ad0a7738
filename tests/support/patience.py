"""Longer timeouts of lib_usm for tests, because a busy machine is slow.

An application gets an error if a daemon does not answer for two seconds. With that, tests would fail by chance.
"""

from __future__ import annotations

SECONDS = 60.0


def be_patient() -> None:
    """Make lib_usm wait longer in this process."""
    from lib_usm import channel, session

    for module, name, seconds in (
        (channel, "_ATTACH_TIMEOUT_SECONDS", SECONDS),
        (channel, "_WHY_TIMEOUT_SECONDS", SECONDS / 4),
        (session, "_DETACH_TIMEOUT_SECONDS", SECONDS),
    ):
        getattr(module, name)  # raises if the name no longer exists
        setattr(module, name, seconds)

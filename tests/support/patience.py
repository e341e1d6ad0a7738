"""How long lib_usm waits for a daemon, in tests: as long as a busy machine takes.

An application is told after two seconds that no daemon answers. That is right for it; a test would fail by chance.
"""

from __future__ import annotations

SECONDS = 60.0


def be_patient() -> None:
    """Have lib_usm wait longer in this process."""
    from lib_usm import channel, session

    for module, name, seconds in (
        (channel, "_ATTACH_TIMEOUT_SECONDS", SECONDS),
        (channel, "_WHY_TIMEOUT_SECONDS", SECONDS / 4),
        (session, "_DETACH_TIMEOUT_SECONDS", SECONDS),
    ):
        getattr(module, name)  # a name that is no more would make this a promise without effect
        setattr(module, name, seconds)

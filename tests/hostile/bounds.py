"""By how many MiB the daemon's own memory may grow in each hostile test; docs/security.md says the same."""

from typing import Final

GROWTH: Final = {
    "noise": 64,
    "messages": 96,
    "headers": 256,
    "connections": 64,
    "streams": 16,
    "unread": 48,
    "regions": 32,
    "killed": 32,
    "clocks": 16,
    "standard streams": 32,
}

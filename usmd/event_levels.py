"""The log level of every event that usmd reports, in one table; docs/operating.md has the same levels and the meanings.

`usmd.log.event` takes the level from here; no other code gives one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

UNLOGGED: Final = logging.NOTSET
"""Level of events that are too frequent for the log, or only for watchers."""

LOG_ONLY: Final[Mapping[str, int]] = {
    "ready": logging.INFO,
    "signal": logging.INFO,
    "config_reloaded": logging.INFO,
    "config_refused": logging.ERROR,
    "draining": logging.INFO,
    "stopped": logging.INFO,
    "log_lines_lost": logging.WARNING,
    "notify_failed": logging.WARNING,
    "client_ended": logging.WARNING,
    "loop_stands": logging.WARNING,
    "self_check_failed": logging.ERROR,
    "aftercare_late": logging.WARNING,
    "aftercare_failed": logging.ERROR,
    "defect": logging.ERROR,
    "swap_device_defect": logging.ERROR,
    "swap_tried_again": logging.WARNING,
    "swap_device_hangs": logging.ERROR,
    "swap_device_returned": logging.WARNING,
    "swap_server_away": logging.ERROR,
    "swap_server_returned": logging.WARNING,
    "swap_server_unsafe": logging.ERROR,
    "swap_server_safe": logging.WARNING,
    "swap_keyspace_lost": logging.ERROR,
    "swap_keyspace_regained": logging.WARNING,
    "swap_keyspace_was_free": logging.WARNING,
    "swap_extents_gone": logging.ERROR,
    "mirror_degraded": logging.WARNING,
    "mirror_in_step": logging.INFO,
    "command_failed": logging.ERROR,
    "event_refused": logging.INFO,
    "fill_failed": logging.ERROR,
    "sampling_ended": logging.INFO,
    "sampling_suspended": logging.INFO,
    "sampling_resumed": logging.INFO,
    "fault_wakeup_changed": logging.INFO,
    "faults_not_read": logging.ERROR,
    "unraisable": logging.ERROR,
    "thread_ended": logging.ERROR,
    "userfaultfd_refused": logging.ERROR,
    "attach_refused": logging.WARNING,
    "operator_acted": logging.INFO,
    "operator_refused": logging.WARNING,
    "identity_socket_refused": logging.ERROR,
    "operators_socket_refused": logging.ERROR,
    "memory_socket_refused": logging.ERROR,
    "metrics_socket_refused": logging.ERROR,
    "page_socket_refused": logging.ERROR,
    "swap_device_not_closed": logging.ERROR,
    "event_log_ended": logging.WARNING,
    "check_failed": logging.ERROR,
    "connections_closed": logging.WARNING,
    "connections_refused": logging.WARNING,
}
"""Events of the daemon itself."""

NOTICES: Final[Mapping[str, int]] = {
    "process_attached": logging.INFO,
    "process_detached": logging.INFO,
    "process_killed": logging.WARNING,
    "process_frozen": logging.WARNING,
    "process_thawed": logging.INFO,
    "policy_error": logging.WARNING,
    "policy_slow": logging.WARNING,
    "policy_replaced": logging.WARNING,
    "policy_restored": logging.INFO,
    "drain_notice": logging.WARNING,
    "limits_set": logging.INFO,
    "user_limits_set": logging.INFO,
    "policy_set": logging.INFO,
    "hints_cleared": logging.INFO,
    "pressure_high": logging.WARNING,
    "pressure_eased": logging.INFO,
    "deny_over_budget": logging.WARNING,
    "fault_over_budget": logging.WARNING,
    "swap_error": logging.WARNING,
    "swap_device_added": logging.INFO,
    "swap_device_retiring": logging.INFO,
    "swap_device_retired": logging.INFO,
    "swap_device_stays": logging.WARNING,
    "page_poisoned": logging.WARNING,
    "thread_blocked": logging.WARNING,
    "pages_evicted": UNLOGGED,
    "events_missed": UNLOGGED,
}
"""Events that `usmctl watch` shows too."""

_ALL: Final = {**LOG_ONLY, **NOTICES}


def level_of(kind: str) -> int:
    """The level of a kind of event; an unknown kind is a warning, so that it is seen."""
    return _ALL.get(kind, logging.WARNING)

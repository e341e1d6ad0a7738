"""Names and sizes of the protocol that the proto files do not define."""

from __future__ import annotations

import struct
from typing import Final

TOKEN_KEY: Final = "usm-session-token"  # noqa: S105 - the name of a key
"""Metadata of each call of a session."""
TICKET_KEY: Final = "usm-ticket"
"""Metadata of Attach: the ticket of the identity socket, so that the daemon reads the request at once."""
OVER_BUDGET_KEY: Final = "usm-over-budget"
"""Metadata of an answer: the number of pages that EVICTION=DENY could not keep, in decimal."""
ERROR_DOMAIN: Final = "usmd"
"""Domain of the ErrorInfo that every failed call carries; its reason is a FailureReason without REASON_PREFIX."""
REASON_PREFIX: Final = "FAILURE_REASON_"
"""Prefix of the names of FailureReason."""
REFUSAL: Final = "!"
"""First character of the line with which the identity or the operators' socket refuses; the reason follows."""
MAX_PRESSURE_THRESHOLDS: Final = 16
"""Thresholds of pressure that a session may have at a time."""
MAX_PACKET_BYTES: Final = 4096
"""Most bytes of a packet on the memory socket, in either direction."""
RANGE_TO_TAKE_OUT: Final = struct.Struct("=QQ")
"""Address and length in bytes of pages that a client is to take out of its page table."""
MAX_RANGES_TO_TAKE_OUT: Final = 256
"""Most such ranges in a packet."""

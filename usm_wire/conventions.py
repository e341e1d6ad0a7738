"""Names and sizes on the sockets that the proto files do not say."""

from __future__ import annotations

from typing import Final

TOKEN_KEY: Final = "usm-session-token"  # noqa: S105 - the name of a key
"""Metadata of each call of a session."""
TICKET_KEY: Final = "usm-ticket"
"""Metadata of Attach: the ticket of the identity socket, so that the daemon reads the request at once."""
OVER_BUDGET_KEY: Final = "usm-over-budget"
"""Metadata of an answer: how many pages EVICTION=DENY could not keep, in decimal."""
ERROR_DOMAIN: Final = "usmd"
"""Domain of the ErrorInfo that every failed call carries; its reason is a FailureReason without REASON_PREFIX."""
REASON_PREFIX: Final = "FAILURE_REASON_"
"""What names of FailureReason begin with."""
TICKET_REFUSAL: Final = "!"
"""What the identity socket's line begins with if it is no ticket, but says why there is none."""
MAX_PACKET_BYTES: Final = 4096
"""Of a packet on the memory socket, in either direction."""

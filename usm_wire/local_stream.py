"""The stream that the daemon hands over on the memory socket: its messages, each behind a prefix, on a stream socket.

The messages are those of StreamFaults. A prefix is a kind and the length of what follows. A message of the kind END is
the daemon's last: a MemoryReply with the reason why it ends the stream.
"""

from __future__ import annotations

import struct
from typing import Final

PREFIX: Final = struct.Struct(">BI")
"""Kind and length in bytes."""
MESSAGE: Final = 0
END: Final = 1
MAX_REQUEST_BYTES: Final = 256 << 10
"""Most bytes of a message to the daemon: 4,096 faults take less. Longer stores go by StreamFaults."""

"""The lines of `usmctl watch`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text

from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

_BAD = ("error", "failed", "killed", "loss", "poisoned", "blocked", "replaced")


def event_line(event: admin_pb2.Event) -> Text:
    """An event on one line: local time, kind, process, message, details."""
    time = datetime.fromtimestamp(event.time_seconds).astimezone()
    bad = any(word in event.kind for word in _BAD)
    line = Text(time.strftime("%Y-%m-%d %H:%M:%S.") + f"{time.microsecond // 1000:03d}", style="dim")
    line.append(f"  {printable(event.kind):<18}", style="bold red" if bad else "bold")
    line.append(f"  {f'process {event.process_id}' if event.process_id else '-':<12}")
    line.append(f"  {printable(event.message)}")
    for name in sorted(event.fields):
        line.append(f"  {printable(name)}={printable(event.fields[name])}", style="dim")
    return line

"""The names of the formats of traces; reading has their readers."""

from __future__ import annotations

from typing import Final

AUTO: Final = "auto"
"""In the place of a name: the format is detected."""
FORMATS: Final = ("csv", "lackey", "oracle_general", "perf", "text", "usm")

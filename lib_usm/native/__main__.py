"""`python -m lib_usm.native`: prints where libusm is, for PKG_CONFIG_PATH."""

from __future__ import annotations

import sys
from pathlib import Path

from usm_wire.native import WHY_NOT, library


def main() -> int:
    """Print the folder; returns 1 if libusm was not compiled."""
    found = library()
    if found is None:
        sys.stderr.write(f"lib_usm.native: {WHY_NOT}\n")
        return 1
    sys.stdout.write(f"{Path(found).parent}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A client process that faults and writes without end; tests drain the daemon under it, or kill it.

Run as `busy_client.py ADDRESS NAME LENGTH CHUNK`: it writes CHUNK bytes at a time over LENGTH bytes, prints `busy` when
it has been through once, and goes on until an error of lib_usm, whose class and text it prints as a JSON line.
"""

from __future__ import annotations

import json
import random
import sys

import lib_usm


def main(address: str, name: str, length: int, chunk: int) -> None:
    """Write until that fails."""
    source = random.Random(name)
    client = lib_usm.connect(address, name=name)
    try:
        region = client.mmap(length, name="busy")
        for offset in range(0, length - chunk + 1, chunk):
            region.write(offset, source.randbytes(chunk))
        say("busy")
        while True:
            region.write(source.randint(0, length - chunk), source.randbytes(chunk))
    except lib_usm.UsmError as error:
        say(json.dumps({"error": type(error).__name__, "message": str(error)}))
    finally:
        client.close()


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

"""`python -m usmd` is `usmd`.

With `-m` Python searches the current folder for modules first. usmd does not: a file there with the name of a module
that usmd imports later would run as the daemon.
"""

import sys
from pathlib import Path


def _without_current_folder(path: list[str], safe: bool) -> list[str]:
    """`path` without the folder that `-m` put first, unless usmd itself is imported from there."""
    own = Path(__file__).resolve().parents[1]
    return path if safe or not path or Path(path[0]).resolve() == own else path[1:]


if __name__ == "__main__":
    sys.path[:] = _without_current_folder(sys.path, sys.flags.safe_path)
    from usmd.cli import main

    main()

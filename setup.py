"""What pyproject.toml cannot say: which extensions are built depends on the machine, see tools/build_backend.py."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).resolve().parent / "tools"))

from build_backend import settings

setup(**settings(sys.argv[1:]))

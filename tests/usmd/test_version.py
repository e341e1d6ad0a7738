"""The version, installed or not."""

import re
from importlib.metadata import PackageNotFoundError

from usmd import version


def test_the_version_is_that_of_the_installed_package():
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", version.VERSION)


def test_a_source_tree_that_is_not_installed_says_so(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(version, "version", missing)
    assert version._installed() == "0+source"

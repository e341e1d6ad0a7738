"""Warnings name the line of the application that called."""

import warnings

import pytest

from lib_usm.user_warnings import warn, warn_over_budget


def deeper():
    warn_over_budget(3)


def test_a_warning_is_a_user_warning_at_the_callers_line():
    with pytest.warns(UserWarning, match="text") as seen:
        warn("text")
    assert [(each.category, each.filename) for each in seen] == [(UserWarning, __file__)]
    with pytest.warns(UserWarning, match="3 pages asked for EVICTION=DENY") as seen:
        deeper()
    assert [each.filename for each in seen] == [__file__]


def test_a_warning_can_be_made_an_error_by_the_application():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="text"):
            warn("text")

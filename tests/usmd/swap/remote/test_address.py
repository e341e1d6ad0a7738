"""URLs of Redis: what each form means, what is refused, and that no password is shown."""

import pytest

from usmd.errors import ConfigError
from usmd.swap.remote.address import Address, hide_passwords, parse_url


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://far", ("one", False, (("far", 6379),), "", "", 0, "")),
        ("valkey://far:7000/3", ("one", False, (("far", 7000),), "", "", 3, "")),
        ("rediss://swap@far.example", ("one", True, (("far.example", 6379),), "", "swap", 0, "")),
        ("valkeys://[::1]:6380", ("one", True, (("::1", 6380),), "", "", 0, "")),
        ("unix:///run/redis.sock", ("one", False, (), "/run/redis.sock", "", 0, "")),
        ("unix://us%40er@/run/r%20s.sock?db=7", ("one", False, (), "/run/r s.sock", "us@er", 7, "")),
        ("redis+sentinel://a,b:5/main/2", ("sentinel", False, (("a", 26379), ("b", 5)), "", "", 2, "main")),
        ("rediss+sentinel://u@a/main", ("sentinel", True, (("a", 26379),), "", "u", 0, "main")),
        ("redis+cluster://a:1,b:2", ("cluster", False, (("a", 1), ("b", 2)), "", "", 0, "")),
        ("valkeys+cluster://a", ("cluster", True, (("a", 6379),), "", "", 0, "")),
    ],
)
def test_forms(url, found):
    assert parse_url(url) == Address(url, *found)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("far:6379", "no scheme 'far'"),
        ("http://far", "no scheme 'http'"),
        ("redis+ring://far", "no scheme 'redis+ring'"),
        ("redis+://far", "no scheme 'redis+'"),
        ("redis://", "'' is not HOST or HOST:PORT"),
        ("redis://far:0", "'far:0' is not HOST or HOST:PORT"),
        ("redis://far:70000", "'far:70000' is not HOST or HOST:PORT"),
        ("redis://@far", "the user is empty"),
        ("redis://a,b", "several hosts are for +sentinel and +cluster"),
        ("redis://far/x", "'x' is not the number of a database"),
        ("redis://far?db=1", "nothing may stand behind '?'"),
        ("redis://far#x", "nothing may stand behind '#'"),
        ("redis+sentinel://far", "it names no service"),
        ("redis+cluster://far/1", "a cluster has database 0 alone"),
        ("unix://run/redis.sock", "the path is not absolute"),
        ("unix:///run/redis.sock?name=x", "there is no option 'name'"),
        ("unix:///run/redis.sock?db=x", "'x' is not the number of a database"),
    ],
)
def test_what_is_no_url_of_redis_is_refused_with_the_reason_and_what_is_allowed(url, why):
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert why in str(caught.value)
    assert "allowed is redis://[USER@]HOST[:PORT][/DB], " in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://swap:s3cret@far",
        "redis://:s3cret@far",
        "redis://:s3/cr@s3cret@far",
        "redis+cluster://swap:s3cret@a,b",
        "redis://sw@p:s3cret@a",
        "unix://swap:s3cret@/run/redis.sock",
        "unix:///run/redis.sock?password=s3cret",
        "unix:///run/redis.sock?db=0&PassWord=s3cret",
    ],
)
def test_a_password_is_refused_told_where_it_belongs_and_not_shown(url):
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert "password_file" in str(caught.value)
    assert "USMD_REDIS_PASSWORD" in str(caught.value)
    assert "s3c" not in str(caught.value)
    assert "s3/c" not in str(caught.value)


def test_long_text_is_looked_through_quickly():
    text = "redis" * 1_000_000
    assert hide_passwords(text) == text
    assert hide_passwords(f"redis://u:{text}@far") == "redis://...@far"


def test_text_without_a_password_is_shown_as_it_is():
    text = "redis:redis+sentinel://user@a:1,b:2/main:8GiB file:/a@b:1GiB password=x"
    assert hide_passwords(text) == text

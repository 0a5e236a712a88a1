"""Where the key may go."""

import pytest

from airflow_incident.core.account import DEFAULT_BASE_URL, Account, Fields, is_loopback, read_account
from airflow_incident.core.settings import Settings


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({}, DEFAULT_BASE_URL),
        ({"host": "https://api.incident.io/"}, DEFAULT_BASE_URL),
        ({"host": "api.incident.io"}, DEFAULT_BASE_URL),
        ({"host": "gateway.example.com/incident-io/"}, "https://gateway.example.com/incident-io"),
        ({"host": "gateway.example.com", "port": 8443}, "https://gateway.example.com:8443"),
        ({"host": "gateway.example.com:9000", "port": 8443}, "https://gateway.example.com:9000"),
        ({"host": "127.0.0.1", "port": 8910, "schema": "http"}, "http://127.0.0.1:8910"),
        ({"host": "http://localhost:8910"}, "http://localhost:8910"),
        ({"host": "http://[::1]:8910"}, "http://[::1]:8910"),
    ],
)
def test_a_host_is_read_in_every_form_that_people_write(fields, base_url):
    """A name, a name and a port, a URL, with or without path."""
    account, problems = read_account(Fields(password="key", **fields), Settings())
    assert problems == []
    assert account.base_url == base_url


@pytest.mark.parametrize(
    "host",
    [
        "http://api.incident.io",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://10.0.0.1",
        "ftp://api.incident.io",
        "https://",
        "https://user:pw@api.incident.io",
        "https://api.incident.io?x=1",
        "https://api.incident.io#x",
        "https://api.incident.io:port",
        "https://[::1",
    ],
)
def test_no_host_that_would_leak_the_key_is_accepted(host):
    """Plain http is for this machine only, and an address is an address only."""
    _, problems = read_account(Fields(password="key", host=host), Settings())
    assert [p.where for p in problems] == ["Base URL"]


@pytest.mark.parametrize("key", [None, "", "  ", "two words", "new\nline", "schlüssel", "tab\tkey"])
def test_a_key_that_cannot_be_one_is_refused(key):
    """Nothing that an HTTP header cannot carry, and the key itself is not told."""
    _, problems = read_account(Fields(password=key), Settings())
    assert [p.where for p in problems] == ["API key"]
    assert not key or not key.strip() or key not in str(problems[0])


def test_space_around_a_copied_key_does_not_matter():
    """People copy line ends."""
    assert read_account(Fields(password=" key\n"), Settings())[0].api_key == "key"


def test_an_account_shows_no_secret():
    """Neither the key nor the proxy's password is in a repr."""
    account = Account(api_key="key-1", proxy="http://u:hunter2@proxy:3128")
    assert "key-1" not in repr(account)
    assert "hunter2" not in repr(account)


def test_a_proxy_needs_a_scheme():
    """`proxy:3128` is not a URL."""
    assert [p.where for p in read_account(Fields(password="k"), Settings(proxy="proxy:3128"))[1]] == ["Proxy"]


def test_loopback_is_told_by_address_or_the_one_name():
    """Names that merely begin like it are others'."""
    assert all(map(is_loopback, ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]"]))
    assert not any(map(is_loopback, ["", None, "0.0.0.0", "localhost.example.com", "127.0.0.1.example.com"]))

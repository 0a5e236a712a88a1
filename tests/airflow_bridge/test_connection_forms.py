"""The forms in which people write a connection, as Airflow itself reads them."""

import json
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_incident.airflow_bridge.compat import BaseHook
from airflow_incident.airflow_bridge.config import read_airflow_config, read_config, read_lenient_config
from airflow_incident.constants import CONN_TYPE
from airflow_incident.core.account import DEFAULT_BASE_URL, Fields, is_loopback, read_account
from airflow_incident.core.settings import Settings
from airflow_incident.errors import ConfigurationError
from tests.airflow_versions import AIRFLOW, BASE_URL

CONN_ID = "one_of_many_forms"
LOCAL = "http://localhost:8910"

URIS = {
    "incident-io://:KEY@": DEFAULT_BASE_URL,
    "incident-io://:KEY@/": DEFAULT_BASE_URL,
    "incident-io://:KEY@api.incident.io": DEFAULT_BASE_URL,
    "INCIDENT-IO://:KEY@API.Incident.IO/": DEFAULT_BASE_URL,
    "incident-io://:KEY@api.incident.io/v1": DEFAULT_BASE_URL,
    "incident-io://:KEY@api.incident.io/v2/incidents": DEFAULT_BASE_URL,
    "incident-io://:KEY@api.incident.io:443": f"{DEFAULT_BASE_URL}:443",
    "incident-io://somebody:KEY@api.incident.io": DEFAULT_BASE_URL,
    "incident-io://:KEY@https%3A%2F%2Fapi.incident.io%2F": DEFAULT_BASE_URL,
    "incident-io://:KEY@http%3A%2F%2Flocalhost%3A8910": LOCAL,
    "incident-io://http://:KEY@localhost:8910": LOCAL,
    "incident-io://:KEY@localhost:8910/http": LOCAL,
    "incident-io://:KEY@[::1]:8910/http": "http://[::1]:8910",
    "incident-io://:KEY@gateway.example.com/incident/v2": "https://gateway.example.com/incident",
    "incident-io://https://:KEY@gateway.example.com/v1": "https://gateway.example.com",
    "incident-io://:KEY@/?severity=Major": DEFAULT_BASE_URL,
    "incident_io://:KEY@": DEFAULT_BASE_URL,
    "incident_io://:KEY@/": DEFAULT_BASE_URL,
    "incident_io://:KEY@api.incident.io": DEFAULT_BASE_URL,
    "incident_io://:KEY@api.incident.io/v1": DEFAULT_BASE_URL,
    "incident_io://somebody:KEY@api.incident.io": DEFAULT_BASE_URL,
    "incident_io://:KEY@localhost:8910/http": LOCAL,
    "incident_io://:KEY@http%3A%2F%2Flocalhost%3A8910": LOCAL,
    "incident_io://:KEY@gateway.example.com:8443": "https://gateway.example.com:8443",
    "incident_io://:KEY@api.incident.io?severity=Major": DEFAULT_BASE_URL,
    "incident.io://:KEY@api.incident.io": DEFAULT_BASE_URL,
    "incidentio://:KEY@api.incident.io": DEFAULT_BASE_URL,
}
FIELDS = [
    ({}, DEFAULT_BASE_URL),
    ({"conn_type": "incident-io"}, DEFAULT_BASE_URL),
    ({"conn_type": "Incident.IO"}, DEFAULT_BASE_URL),
    ({"conn_type": "INCIDENT_IO"}, DEFAULT_BASE_URL),
    ({"conn_type": ""}, DEFAULT_BASE_URL),
    ({"conn_type": "generic"}, DEFAULT_BASE_URL),
    ({"host": "api.incident.io"}, DEFAULT_BASE_URL),
    ({"host": " https://api.incident.io/ "}, DEFAULT_BASE_URL),
    ({"host": "HTTPS://API.INCIDENT.IO"}, DEFAULT_BASE_URL),
    ({"host": "//api.incident.io"}, DEFAULT_BASE_URL),
    ({"host": "https:/api.incident.io"}, DEFAULT_BASE_URL),
    ({"host": "https//api.incident.io"}, DEFAULT_BASE_URL),
    ({"host": "https://api.incident.io/v1"}, DEFAULT_BASE_URL),
    ({"host": "https://api.incident.io/v2/"}, DEFAULT_BASE_URL),
    ({"host": "https://api.incident.io/v1/incidents"}, DEFAULT_BASE_URL),
    ({"host": "api.incident.io/v1"}, DEFAULT_BASE_URL),
    ({"host": "gateway.example.com/incident-io"}, "https://gateway.example.com/incident-io"),
    ({"host": "gateway.example.com", "schema": "HTTPS"}, "https://gateway.example.com"),
    ({"host": "gateway.example.com:9000", "port": 8443}, "https://gateway.example.com:9000"),
    ({"host": "localhost:8910", "schema": "http"}, LOCAL),
    ({"host": "localhost", "schema": "http", "port": "8910"}, LOCAL),
    ({"host": "http://localhost", "port": 8910}, LOCAL),
    ({"host": "http://localhost:8910", "schema": "https"}, LOCAL),
    ({"host": "::1", "schema": "http", "port": 8910}, "http://[::1]:8910"),
    ({"host": "[::1]:8910", "schema": "http"}, "http://[::1]:8910"),
    ({"host": "2001:db8::1"}, "https://[2001:db8::1]"),
]
REFUSED = [
    ("incident-io://KEY@api.incident.io", "API key: missing; it belongs into the password"),
    ("incident_io://KEY@api.incident.io", "API key: missing; it belongs into the password"),
    ("incident-io://api.incident.io", "API key: missing; create one"),
    ("https://:KEY@api.incident.io", "Connection type: is 'https'; it must be 'incident_io'"),
    ("incident-io://:KEY@api.incident.io/http", "Base URL: plain http would send the API key unencrypted"),
    ("incident_io://:KEY@http%3A%2F%2Fapi.incident.io", "Base URL: plain http would send the API key unencrypted"),
    ("incident_io://:KEY@gateway.example.com:https", "Base URL: has a port that is no number"),
    ("incident-io://:KEY@app.incident.io", f"Base URL: is incident.io's website; use {DEFAULT_BASE_URL}"),
    ("incident-io://:KEY@ftp%3A%2F%2Fapi.incident.io", "Base URL: begins with ftp://; use https://"),
]


@pytest.fixture
def define(monkeypatch):
    """Define a connection by an environment variable, as a URI or as JSON."""

    def write(given):
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", given if isinstance(given, str) else json.dumps(given))

    return write


@pytest.mark.parametrize(("uri", "base_url"), URIS.items())
def test_a_uri_is_read_as_its_author_meant_it(define, uri, base_url):
    """With Airflow's hyphen, with the type's own underscore, which no URI may have, and with a dot."""
    define(uri)
    config = read_config(CONN_ID)
    assert (config.account.base_url, config.account.api_key) == (base_url, "KEY")
    assert config.conn_type == CONN_TYPE
    assert config.settings.severity == ("Major" if "severity" in uri else None)


@pytest.mark.parametrize("scheme", ["incident-io", "incident_io"])
def test_a_key_may_be_quoted_in_a_uri(define, scheme):
    """Keys have characters that mean something else there."""
    define(f"{scheme}://:K%2FE%2BY%3D%40%3A@api.incident.io")
    assert read_config(CONN_ID).account.api_key == "K/E+Y=@:"


@pytest.mark.parametrize(("fields", "base_url"), FIELDS)
def test_fields_are_read_as_their_author_meant_them(define, fields, base_url):
    """A name, a name and a port, a URL, with slashes too many or too few, with a version of the API behind it."""
    define({"conn_type": "incident_io", "password": "KEY"} | fields)
    account = read_config(CONN_ID).account
    assert (account.base_url, account.api_key) == (base_url, "KEY")


@pytest.mark.parametrize(("uri", "said"), REFUSED)
def test_what_cannot_be_meant_is_told_without_the_key(define, uri, said):
    """One message, and the failure waits until somebody has fixed it."""
    define(uri)
    with pytest.raises(ConfigurationError) as caught:
        read_config(CONN_ID)
    assert said in str(caught.value)
    assert "KEY@" not in str(caught.value).replace("incident-io://:KEY@)", "")
    assert read_lenient_config(CONN_ID).unusable


def test_a_login_beside_a_key_does_not_matter(define):
    """Some write a name of the key there."""
    define({"conn_type": "incident_io", "login": "airflow", "password": "KEY"})
    assert read_config(CONN_ID).account.api_key == "KEY"
    define({"conn_type": "incident_io", "login": "KEY"})
    with pytest.raises(ConfigurationError, match="it belongs into the password, and the connection has a login only"):
        read_config(CONN_ID)


def test_what_airflow_makes_of_a_uri_is_what_the_table_says(define):
    """The underscore's forms lean on it: if another Airflow reads them otherwise, this says so."""
    define("incident_io://:KEY@api.incident.io")
    connection = BaseHook.get_connection(CONN_ID)
    assert (connection.conn_type, connection.schema) == ("", "ncident_io//:KEY@api.incident.io")


@given(host=st.text(max_size=30), schema=st.none() | st.text(max_size=8), port=st.none() | st.integers(0, 70_000))
def test_no_text_for_a_host_leads_to_anywhere_unencrypted(host, schema, port):
    """Whatever is read is https, or this machine."""
    account, problems = read_account(Fields(password="KEY", host=host, schema=schema, port=port), Settings())
    url = urlsplit(account.base_url)
    assert problems or url.scheme == "https" or is_loopback(url.hostname)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://airflow.example.com/af", "https://airflow.example.com/af"),
        ("airflow.example.com/af", "https://airflow.example.com/af"),
        ("airflow.example.com:8443", "https://airflow.example.com:8443"),
        ("//airflow.example.com", "https://airflow.example.com"),
        ("localhost:8080", "http://localhost:8080"),
        ("http://airflow.example.com/", "http://airflow.example.com/"),
        ("https://me:pa55word@airflow.example.com/af", "https://airflow.example.com/af"),
        ("me:pa55word@airflow.example.com", "https://airflow.example.com"),
        ("https://[2001:db8::1]:8080", "https://[2001:db8::1]:8080"),
        ("/af", None),
        ("https://", None),
        ("https://airflow.example.com:port", None),
        ("https://[::1", None),
        ("", None),
    ],
)
def test_the_address_of_airflow_s_pages_is_read_as_its_author_meant_it(monkeypatch, written, read):
    """Without a scheme it is https; a path alone leads nowhere; no password goes into a link."""
    monkeypatch.setenv(BASE_URL, written)
    assert read_airflow_config().base_url == read


def test_numbers_in_a_connection_of_json_are_text(monkeypatch):
    """Airflow itself says that there is no connection; where it cannot make one of them, the failure is kept."""
    told = {"conn_type": "incident_io", "password": 12345678, "login": 5, "host": "gateway.example.com"}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(told))
    config = read_lenient_config(CONN_ID)
    if AIRFLOW < (3, 2):
        assert config.unusable.retryable
    else:
        assert config.unusable is None
        assert config.account.api_key == "12345678"


@pytest.mark.skipif(AIRFLOW >= (3, 0), reason="Airflow 3 says whether it could look")
@pytest.mark.parametrize("conn_id", ["incident_io_default", "team"])
def test_a_database_that_fails_has_not_said_that_there_is_no_connection(monkeypatch, conn_id):
    """Airflow 2 passes over it."""
    from airflow.secrets.metastore import MetastoreBackend

    def broken(*_, **__):
        raise ConnectionError("the database is away")

    monkeypatch.delenv(f"AIRFLOW_CONN_{conn_id.upper()}", raising=False)
    monkeypatch.setattr(MetastoreBackend, "get_connection", broken)
    config = read_lenient_config(conn_id)
    assert not config.is_absent
    assert "ConnectionError" in str(config.unusable)

"""A connection's client: built once per account and process, with its trust store."""

import json
import os
import ssl
import threading
from pathlib import Path

import certifi
import pytest

from airflow_incident.airflow_bridge.config import read_config
from airflow_incident.api import client
from airflow_incident.errors import ConfigurationError
from tests.doors import report


def _ask(config, found):
    found.append(config.client)


def test_threads_that_ask_together_share_one_client(connected):
    """Whoever comes first builds it."""
    config = read_config("incident_io_default")
    found = []
    threads = [threading.Thread(target=_ask, args=(config, found)) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 30
    assert len({id(client) for client in found}) == 1


def no_tls(*_):
    raise OSError("no TLS here")


def test_plain_http_loads_no_trust_store(connected, monkeypatch):
    """It needs none, so that a TLS that is broken must not cost its incident."""
    monkeypatch.setattr(client, "_trust_store", no_tls)
    report()
    assert len(connected.incidents) == 1


def test_a_tls_that_cannot_begin_is_told_each_time_and_tried_anew(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(ssl, "SSLContext", no_tls)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="no TLS here"):
                client._trust_store(None)
    assert client._trust_store(None).check_hostname


def test_a_store_is_what_python_makes_of_it(monkeypatch):
    """It verifies as strictly, host name included, and holds the same authorities; the environment may name others."""

    def seen(context):
        names = ("check_hostname", "verify_mode", "verify_flags", "options", "minimum_version", "maximum_version")
        return [getattr(context, name) for name in names], context.cert_store_stats()

    for name in ("SSL_CERT_DIR", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    usual = ssl.create_default_context(cafile=certifi.where())
    monkeypatch.setenv("SSLKEYLOGFILE", "/no/such/folder/keys")  # whoever reads it could read the API key
    assert seen(client._trust_store(None)) == seen(client._trust_store(certifi.where())) == seen(usual)
    for name in ("SSL_CERT_DIR", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "/no/such")
    with pytest.raises(ConfigurationError, match="CA bundle"):
        client._trust_store(None)


def test_what_could_not_be_built_is_tried_anew(connect, tmp_path):
    """A CA bundle that is mended counts at the next failure, in the same process."""
    bundle = tmp_path / "ca.pem"
    connect("https://api.incident.io", extra=json.dumps({"ca_bundle": str(bundle)}))
    config = read_config("incident_io_default")
    with pytest.raises(ConfigurationError, match="CA bundle"):
        _ = config.client
    bundle.write_bytes(Path(certifi.where()).read_bytes())
    assert config.client.connector.base_url == "https://api.incident.io"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_builds_its_own_client(connected):
    """Two processes never share a socket, also when the first was forked in the middle of building."""
    config = read_config("incident_io_default")
    mine = config.client
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"same" if config.client is mine else b"own")
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"own"
    os.close(reader)


def test_without_a_thread_to_be_had_the_incident_opens(connected, monkeypatch):
    """Late is better than never."""
    real = threading.Thread.start

    def none_of_ours(thread):
        if thread.name.startswith("incident.io"):
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", none_of_ours)
    report()
    assert len(connected.incidents) == 1

"""A connection's client: built once per account and process; its trust store is loaded while a failure is read."""

import importlib
import json
import os
import ssl
import subprocess
import sys
import threading
import types
from pathlib import Path

import certifi
import pytest

from airflow_incident.airflow_bridge.compat import AirflowNotFoundException
from airflow_incident.airflow_bridge.config import read_config
from airflow_incident.api import trust
from airflow_incident.errors import ConfigurationError
from tests.airflow_versions import AIRFLOW
from tests.doors import report


def _ask(config, found):
    found.append(config.client)


def _supervisor():
    name = "airflow.sdk.execution_time.supervisor"
    return importlib.import_module(name) if AIRFLOW >= (3, 0) else types.ModuleType(name)


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


def test_preparing_does_not_wait_for_the_trust_store(connect, monkeypatch):
    """Whoever prepares goes on at once; whoever asks for the client gets it when it is there."""
    connect("https://api.incident.io")
    go_on = threading.Event()
    real = trust._load

    def slow(*arguments):
        assert go_on.wait(10)
        real(*arguments)

    monkeypatch.setattr(trust, "_load", slow)
    trust._stores.clear()
    config = read_config("incident_io_default")
    config.prepare_client()
    go_on.set()  # reached only because the line before did not wait for this
    assert config.client.connector.base_url == "https://api.incident.io"


def test_plain_http_loads_no_trust_store(connected):
    trust._stores.clear()
    config = read_config("incident_io_default")
    config.prepare_client()
    assert config.client.connector.base_url == connected.url
    assert trust._stores == {}


def test_a_store_is_what_python_makes_of_it(monkeypatch):
    """It verifies as strictly, host name included, and holds the same authorities; the environment may name others."""

    def seen(context):
        names = ("check_hostname", "verify_mode", "verify_flags", "options", "minimum_version", "maximum_version")
        return [getattr(context, name) for name in names], context.cert_store_stats()

    for name in ("SSL_CERT_DIR", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    usual = ssl.create_default_context(cafile=certifi.where())
    assert seen(trust.trust(None)) == seen(trust.trust(certifi.where())) == seen(usual)
    for name in ("SSL_CERT_DIR", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "/no/such")
    with pytest.raises(ConfigurationError, match="CA bundle"):
        trust.trust(None)


def test_a_process_that_ends_meanwhile_ends_well():
    """OpenSSL cleans up when a process exits; a thread that was still loading made four of five crash."""
    source = "import time; from airflow_incident.api.trust import begin; begin(None); time.sleep(0.002)"
    for _ in range(8):
        assert subprocess.run([sys.executable, "-c", source], timeout=60, check=False).returncode == 0


def test_what_raises_before_the_thread_leaves_nobody_waiting(monkeypatch):
    """A TLS that cannot even begin is an error each time, and is tried anew."""

    def broken():
        raise OSError("no TLS here")

    trust._stores.clear()
    with monkeypatch.context() as patch:
        patch.setattr(trust, "_context", broken)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="no TLS here"):
                trust.trust(None)
    assert trust.trust(None).check_hostname


@pytest.mark.parametrize("loaded", [True, False])
def test_a_fork_of_the_supervisor_loads_while_it_asks_for_the_connection(connected, monkeypatch, loaded):
    """There Airflow answers from another process, and most connections need the store; elsewhere it would be in the way."""
    supervisor = _supervisor()
    monkeypatch.delitem(sys.modules, supervisor.__name__, raising=False)
    if loaded:
        monkeypatch.setitem(sys.modules, supervisor.__name__, supervisor)
    trust._stores.clear()
    begun = []

    def asked(conn_id):
        begun.append(len(trust._stores))
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr("airflow_incident.airflow_bridge.connections.BaseHook.get_connection", asked)
    report()
    assert begun == [int(loaded)]


def test_nothing_is_lost_where_no_store_can_be_begun(connected, monkeypatch):
    """Plain HTTP needs none, so that a TLS that is broken must not cost its incident."""
    monkeypatch.setitem(sys.modules, _supervisor().__name__, _supervisor())
    trust._stores.clear()

    def broken():
        raise OSError("no TLS here")

    monkeypatch.setattr(trust, "_context", broken)
    report()
    assert len(connected.incidents) == 1


def test_what_could_not_be_built_is_tried_anew(connect, tmp_path):
    """A CA bundle that is mended counts at the next failure, in the same process."""
    bundle = tmp_path / "ca.pem"
    connect("https://api.incident.io", extra=json.dumps({"ca_bundle": str(bundle)}))
    config = read_config("incident_io_default")
    config.prepare_client()
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

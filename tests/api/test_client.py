"""The two drivers."""

import asyncio
import inspect
import threading
import time

import httpx
import pytest

from airflow_incident.api.calls import Call
from airflow_incident.api.client import AsyncClient, Client, Connector
from airflow_incident.api.endpoints import list_incidents, show_identity
from airflow_incident.errors import ConfigurationError, TransportError

CALL = Call(method="GET", path="/v1/identity", parse=bytes)


def errors_of_httpx():
    """Every error that httpx can raise for a request, found by asking httpx."""
    classes = [c for _, c in inspect.getmembers(httpx, inspect.isclass) if issubclass(c, Exception)]
    return [c for c in classes if c not in {httpx.CookieConflict, httpx.HTTPStatusError}]


def raised(kind):
    match kind:
        case httpx.StreamConsumed | httpx.StreamClosed | httpx.ResponseNotRead | httpx.RequestNotRead:
            return kind()
        case _:
            return kind("said")


@pytest.mark.parametrize("kind", [*errors_of_httpx(), OSError, ConnectionResetError], ids=lambda k: k.__name__)
@pytest.mark.parametrize("driver", ["sync", "async"])
def test_every_error_of_httpx_becomes_a_transport_error(kind, driver, monkeypatch):
    """None escapes under its own name, and only those before the first byte are sure not to have arrived."""

    def fail(*_, **__):
        raise raised(kind)

    monkeypatch.setattr("airflow_incident.api.exchange.ATTEMPTS", 1)
    monkeypatch.setattr(httpx.Client, "stream", fail)
    monkeypatch.setattr(httpx.AsyncClient, "stream", fail)
    connector = Connector(base_url="http://127.0.0.1:9", api_key="k")
    create = Call(method="POST", path="/", body={}, parse=bytes)

    def call():
        if driver == "sync":
            return Client(connector).call(create, budget=5)
        return asyncio.run(AsyncClient(connector).call(create, budget=5))

    with pytest.raises(TransportError, match=kind.__name__) as caught:
        call()
    before = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "InvalidURL"}
    assert caught.value.maybe_delivered is (kind.__name__ not in before)


def test_both_drivers_say_the_same_to_the_same(sandbox):
    """One exchange, two drivers: the requests differ in nothing."""
    connector = Connector(base_url=sandbox.url, api_key=sandbox.api_key)
    client = Client(connector)
    one = client.call(show_identity(), budget=5)
    client.close()
    two = asyncio.run(AsyncClient(connector).call(show_identity(), budget=5))
    assert one == two
    first, second = sandbox.requests
    assert (first.method, first.path, first.headers) == (second.method, second.path, second.headers)
    assert first.headers["user-agent"].startswith("airflow-incident/")


def test_a_listing_reads_every_page(sandbox, monkeypatch):
    """Three incidents on pages of two."""
    monkeypatch.setattr("airflow_incident.api.calls.PAGE_SIZE", 2)
    for number in range(3):
        _post(sandbox, str(number))
    client = Client(Connector(base_url=sandbox.url, api_key=sandbox.api_key))
    found = client.call(list_incidents(status=["triage", "fixing"]), budget=5)
    assert sorted(i.reference for i in found) == ["INC-1", "INC-2", "INC-3"]
    assert client.call(list_incidents(status=["closed"]), budget=5) == []
    client.close()


def _post(sandbox, key):
    body = {"idempotency_key": key, "visibility": "public", "name": key}
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    with httpx.Client(trust_env=False) as http:
        http.post(f"{sandbox.url}/v1/incidents", json=body, headers=headers).raise_for_status()


def test_a_machine_without_a_thread_to_spare_still_sends(sandbox, monkeypatch):
    """Late is better than never."""

    def refuse(self):
        raise RuntimeError("can't start new thread")

    client = Client(Connector(base_url=sandbox.url, api_key=sandbox.api_key))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert client.call(CALL, budget=5)
    client.close()


def test_work_that_hangs_is_left_behind(monkeypatch):
    """The budget is a limit, whatever the network does."""
    release = threading.Event()
    monkeypatch.setattr(httpx.Client, "stream", lambda *_, **__: release.wait())
    began = time.monotonic()
    with pytest.raises(TransportError, match=r"no answer within 0\.2 s"):
        Client(Connector(base_url="http://127.0.0.1:9", api_key="k")).call(CALL, budget=0.2)
    assert time.monotonic() - began < 10
    release.set()


def test_a_proxy_that_cannot_be_used_is_a_wrong_setting():
    connector = Connector(base_url="https://api.incident.io", api_key="k", proxy="gopher://x")
    with pytest.raises(ConfigurationError, match="Proxy"):
        Client(connector)


def test_a_ca_bundle_that_cannot_be_read_is_a_wrong_setting(tmp_path):
    """Missing, or no certificate in it."""
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for path in (tmp_path / "missing.pem", empty):
        with pytest.raises(ConfigurationError, match="CA bundle"):
            Connector(base_url="https://api.incident.io", api_key="k", ca_bundle=str(path))


def test_a_client_shows_no_key():
    connector = Connector(base_url="http://127.0.0.1:9", api_key="key-1")
    assert "key-1" not in repr(connector) + repr(Client(connector)) + repr(AsyncClient(connector))

"""The fault proxy breaks the wire exactly as its names say."""

import concurrent.futures
import datetime as dt
import email.utils
import gzip
import json
import socket
import time

import httpx
import pytest

from airflow_incident.sandbox import fault_answers
from airflow_incident.sandbox.fault import FAULTS, FaultProxy, parse
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_response

from .conftest import BODY, speak

HEADERS = {"Authorization": "Bearer sandbox-key"}


def speak_through(proxy, timeout=5.0):
    return httpx.Client(base_url=proxy.url, headers=HEADERS, timeout=timeout, trust_env=False)


def create(client, number=0):
    return client.post("/v1/incidents", json={**BODY, "idempotency_key": str(number)})


def test_without_a_fault_everything_passes_on_one_connection(box):
    with FaultProxy(box.direct_port) as proxy, speak_through(proxy) as client:
        assert [create(client, number).status_code for number in range(3)] == [200] * 3
        assert client.get("/v1/incidents").json()["pagination_meta"]["total_record_count"] == 3
        assert [seen.method for seen in proxy.requests] == ["POST", "POST", "POST", "GET"]
        seen = proxy.requests[0]
        assert (seen.path, seen.headers["authorization"]) == ("/v1/incidents", "Bearer sandbox-key")
        assert json.loads(seen.body)["idempotency_key"] == "0"


def test_a_body_in_chunks_passes(box):
    with FaultProxy(box.direct_port) as proxy, speak_through(proxy) as client:
        raw = json.dumps(BODY).encode()
        pieces = iter([raw[:10], raw[10:]])
        answer = client.post("/v1/incidents", content=pieces, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200
        assert box.requests[0].raw == raw


@pytest.mark.parametrize(
    ("fault", "error", "opened"),
    [
        ("hang", httpx.ReadTimeout, 0),
        ("drip-head", httpx.ReadTimeout, 1),
        ("drip-body", httpx.ReadTimeout, 1),
        ("slow", httpx.ReadTimeout, 1),
        ("drop-before", httpx.ReadError, 0),
        ("drop-after-accept", httpx.RemoteProtocolError, 1),
    ],
)
def test_a_broken_wire_fails_once_and_then_heals(box, fault, error, opened):
    """The name tells whether the request took effect; the proxy itself neither repeats nor loses it."""
    with (
        FaultProxy(box.direct_port, fault, times=1, delay=30, pace=30) as proxy,
        speak_through(proxy, timeout=0.2) as client,
    ):
        with pytest.raises(error):
            create(client)
        assert len(box.incidents) == opened
        assert create(client).json()["incident"]["reference"] == "INC-1"


@pytest.mark.parametrize("fault", ["drip-head", "drip-body", "slow"])
def test_what_is_late_arrives_whole_in_the_end(box, fault):
    with FaultProxy(box.direct_port, fault, pace=0, delay=0) as proxy, speak_through(proxy) as client:
        assert create(client).json()["incident"] == box.incidents[0]


def test_nobody_listens_until_it_is_healed(box):
    with FaultProxy(box.direct_port, "refuse") as proxy, speak_through(proxy) as client:
        with pytest.raises(httpx.ConnectError):
            create(client)
        proxy.heal()
        assert create(client).status_code == 200
        proxy.heal()


def test_nobody_ever_listens_where_nothing_heals_it(box):
    with FaultProxy(box.direct_port, "refuse") as proxy, pytest.raises(httpx.ConnectError):
        httpx.get(proxy.url, trust_env=False)


def test_a_stale_connection_fails_at_its_second_request(box):
    with FaultProxy(box.direct_port, "stale", times=1) as proxy, speak_through(proxy) as client:
        assert create(client, 1).status_code == 200
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            create(client, 2)
        assert create(client, 3).status_code == 200
        assert [row["reference"] for row in box.incidents] == ["INC-1", "INC-2"]


@pytest.mark.parametrize("fault", sorted(name for name in FAULTS if name.startswith("error-")))
def test_an_error_is_answered_as_documented_and_nothing_is_created(box, fault):
    with FaultProxy(box.direct_port, fault, times=1) as proxy, speak_through(proxy) as client:
        answer = create(client)
        assert answer.status_code == int(fault.split("-")[1])
        if fault.endswith("html"):
            assert answer.headers["Content-Type"].startswith("text/html")
            assert "<html>" in answer.text
        else:
            check_response("POST", "/v1/incidents", answer.status_code, answer.json())
        assert box.incidents == []
        assert create(client).status_code == 200


@pytest.mark.parametrize(
    ("fault", "read"),
    [
        ("error-429-seconds", lambda header, _: time.time() + int(header)),
        ("error-429-float", lambda header, _: time.time() + float(header)),
        ("error-429-rfc3339", lambda _, told: dt.datetime.fromisoformat(told).timestamp()),
        ("error-429-http-gmt", lambda header, _: _http(header, "GMT")),
        ("error-429-http-utc", lambda header, _: _http(header, "UTC")),
        ("error-429-body-utc", lambda _, told: _http(told, "UTC")),
    ],
)
def test_each_form_of_a_retry_date_lies_a_little_ahead(box, fault, read):
    with FaultProxy(box.direct_port, fault, wait=4.5) as proxy, speak_through(proxy) as client:
        answer = create(client)
        moment = read(answer.headers.get("Retry-After"), answer.json()["rate_limit"].get("retry_after"))
        assert 2 < moment - time.time() < 6


def _http(text, zone):
    assert text.endswith(zone)
    return email.utils.parsedate_to_datetime(text.replace("UTC", "GMT")).timestamp()


def test_a_plain_429_tells_no_date(box):
    with FaultProxy(box.direct_port, "error-429") as proxy, speak_through(proxy) as client:
        answer = create(client)
        assert "Retry-After" not in answer.headers
        assert "retry_after" not in answer.json()["rate_limit"]


def test_an_unreadable_answer_hides_an_incident_that_exists(box):
    with FaultProxy(box.direct_port, "invalid-json", times=1) as proxy, speak_through(proxy) as client:
        answer = create(client)
        assert answer.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            answer.json()
        assert create(client).json()["incident"]["reference"] == "INC-1"


def test_a_wrong_shape_is_json_without_an_id(box):
    with FaultProxy(box.direct_port, "wrong-shape") as proxy, speak_through(proxy) as client:
        assert "id" not in create(client).json()["incident"]
        assert len(box.incidents) == 1


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_leads_to_the_target(box, status):
    with (
        FaultProxy(box.direct_port, f"redirect-{status}", target="http://127.0.0.1:9") as proxy,
        speak_through(proxy) as client,
    ):
        answer = create(client)
        assert (answer.status_code, answer.headers["Location"]) == (status, "http://127.0.0.1:9/v1/incidents")
        assert box.incidents == []


def test_a_huge_answer_is_valid_but_has_50_megabytes(box):
    with FaultProxy(box.direct_port, "huge") as proxy, speak_through(proxy) as client:
        answer = create(client)
        assert len(answer.content) > fault_answers.HUGE
        assert answer.json()["incident"] == box.incidents[0]


def test_a_client_may_leave_a_huge_answer_early(box):
    with FaultProxy(box.direct_port, "huge", times=1) as proxy, speak_through(proxy) as client:
        with client.stream("POST", "/v1/incidents", json=BODY) as answer:
            assert next(answer.iter_raw())
        assert create(client).status_code == 200


def test_a_gzip_bomb_is_small_on_the_wire_and_100_megabytes_when_opened(box):
    with FaultProxy(box.direct_port, "gzip-bomb") as proxy, speak_through(proxy) as client:
        with client.stream("POST", "/v1/incidents", json=BODY) as answer:
            wire = b"".join(answer.iter_raw())
        assert answer.headers["Content-Encoding"] == "gzip"
        assert len(wire) < 500_000
        opened = gzip.decompress(wire)
        assert len(opened) > fault_answers.BOMB
        assert opened[-4:] == b'xx"}'


def test_padding_keeps_even_an_empty_object_valid():
    before, after = fault_answers.padded(b"{}")
    assert json.loads(before + b"x" + after) == {"padding": "x"}


def test_a_count_is_shared_by_all_connections(box):
    with FaultProxy(box.direct_port, "error-503", times=5) as proxy, speak_through(proxy) as client:
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            statuses = sorted(pool.map(lambda n: create(client, n).status_code, range(10)))
        assert statuses == [200] * 5 + [503] * 5


def test_it_stops_at_once_whatever_its_connections_do(box):
    with FaultProxy(box.direct_port, "hang") as proxy, socket.socket() as idle, socket.socket() as hanging:
        idle.connect(("127.0.0.1", proxy.port))
        hanging.connect(("127.0.0.1", proxy.port))
        hanging.sendall(b"GET /v1/identity HTTP/1.1\r\n\r\n")
        while not proxy.requests:
            time.sleep(0.01)
        began = time.monotonic()
        proxy.stop()
        assert time.monotonic() - began < 5
        assert (idle.recv(1), hanging.recv(1)) == (b"", b"")


@pytest.mark.parametrize(
    "raw",
    [b"\x16\x03\x01" + b"x" * 200_000 + b"\n", b"GET /v1/x HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"GET"],
)
def test_a_client_that_speaks_no_http_is_left(box, raw):
    with FaultProxy(box.direct_port) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as wild:
        try:
            wild.sendall(raw)
            wild.shutdown(socket.SHUT_WR)
            assert wild.recv(1) == b""
        except ConnectionError:
            assert raw.startswith(b"\x16")


def test_a_sandbox_that_is_gone_ends_the_connection():
    with Sandbox() as box:
        pass
    with FaultProxy(box.direct_port) as proxy, speak_through(proxy) as client:
        for path in ("/v1/identity", "/"):
            with pytest.raises(httpx.RemoteProtocolError):
                client.get(path)


def test_a_taken_port_is_an_error_at_once(box):
    with pytest.raises(OSError, match="in use"):
        FaultProxy(box.direct_port, port=box.direct_port)


def test_a_sandbox_can_stand_behind_a_fault():
    """Clients are told the address where the fault is, and only the API is broken."""
    with Sandbox(fault="error-503:1") as box, speak(box) as client:
        assert box.port == box.proxy.port != box.direct_port
        assert client.get("/nothing").json()["errors"][0]["code"] == "not_found"
        assert create(client).status_code == 503
        incident = create(client).json()["incident"]
        assert incident["permalink"].startswith(box.url)


@pytest.mark.parametrize(
    ("text", "meaning"), [("hang", ("hang", None)), ("hang:3", ("hang", 3)), ("refuse", ("refuse", None))]
)
def test_a_fault_is_told_in_one_word(text, meaning):
    assert parse(text) == meaning


@pytest.mark.parametrize("text", ["", "nope", "hang:", "hang:0", "hang:x", "hang:-1", "refuse:2", "hang:²"])
def test_a_fault_that_makes_no_sense_is_refused(text):
    with pytest.raises(ValueError, match=r"known|whole number|counted"):
        Sandbox(fault=text)


def test_faults_and_tls_exclude_each_other():
    with pytest.raises(ValueError, match="plain HTTP"):
        Sandbox(fault="hang", certfile="x")

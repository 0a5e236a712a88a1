"""Laws 2, 3 and 4 on a broken wire: the callback returns in time, tells what was lost, and keeps the key to itself."""

import asyncio
import datetime as dt
import email.utils
import functools
import gc
import json
import logging
import math
import pickle
import random
import socket
import threading
import time
import tracemalloc

import pytest
import trustme

from airflow_incident import CreateIncidentOperator, IncidentHook, open_incident
from airflow_incident import errors as errors_module
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.sandbox.fault import FaultProxy
from airflow_incident.sandbox.fault_answers import answer
from airflow_incident.sandbox.options import REPEATS
from airflow_incident.sandbox.server import Sandbox
from tests.airflow_versions import BATCH_TIMEOUT
from tests.doors import (
    API_KEY,
    CREATED,
    Scripted,
    by_hand,
    call_async,
    call_sync,
    dag_context,
    listen,
    report,
    task_context,
)

SLACK = 0.8
"""Seconds that a busy machine may add to a budget."""
EVERY_DOOR = pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
KEY = "airflow/tests/dag/orders/run/run-1"
OK = answer(200, CREATED)


@pytest.fixture(autouse=True)
def _unspent():
    """Give each test its own time to spend."""
    PROCESS.reset()


@pytest.fixture(scope="module")
def served():
    with Sandbox(api_key=API_KEY, rate_limit=1_000_000) as box:
        yield box


@pytest.fixture
def box(served):
    served.clear()
    return served


@pytest.fixture(scope="module")
def repeating():
    """Serve one sandbox for each answer that a repeated key may get."""
    boxes = {repeat: Sandbox(api_key=API_KEY, repeat=repeat, rate_limit=1_000_000).start() for repeat in REPEATS}
    yield boxes
    for one in boxes.values():
        one.stop()


@pytest.fixture
def link(connect):
    """Define the default connection with the key that must never be seen."""
    return functools.partial(connect, password=API_KEY)


@pytest.fixture
def budget(monkeypatch):
    """Give a callback so many seconds."""

    def give(seconds):
        monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", str(6 + seconds))
        return seconds

    give(4)
    return give


def check_lost(heard, *words):
    """Fail unless one error line tells what was lost, what to do, and how to send it by hand."""
    line = heard.error
    assert "NO incident was opened for DAG orders, run run-1" in line
    for word in words:
        assert word in line
    body = by_hand(line)
    assert body["idempotency_key"] == KEY
    assert body["visibility"] == "public"
    assert "orders" in body["name"]
    return line, body


# Refusals


AFTERWARDS = {404: ("GET /v1/incidents?page_size=1", "POST /v2/incidents"), 422: ("GET /v1/severities",)}


@EVERY_DOOR
@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "Put a valid API key into the connection's password."),
        (403, "Give the API key the role that the request needs; creating needs 'incident creator'."),
        (404, "Check the base URL of the connection and the ID."),
        (422, "Fix the field that the answer names."),
    ],
)
def test_a_refusal_is_told_at_once_with_its_request_id_and_not_repeated(box, link, budget, status, advice, call):
    """A refusal that time does not mend is one create and one error line with the id that support asks for.

    After a 404 v1 is asked whether it is there at all, and then v2; after a 422 for a severity, which there are.
    """
    with FaultProxy(box.direct_port, f"error-{status}") as proxy:
        link(proxy.url)
        heard, took = report(call=call)
        asked = [f"{seen.method} {seen.path}" for seen in proxy.requests]
    assert asked == ["POST /v1/incidents", *AFTERWARDS.get(status, ())]
    line, body = check_lost(heard, str(status), "(request_id ", advice)
    assert took < 2
    assert "may have been opened" not in line
    assert body == json.loads(proxy.requests[-1 if status == 404 else 0].body)


def test_a_refused_field_is_named(box, link, budget):
    """The incident's text names every field that incident.io refused, and the log its words."""
    link(box.url)
    unknown = "01H00000000000000000000000"
    heard, _ = report(severity=unknown, custom_fields={unknown: {"value_text": "x"}})
    (incident,) = box.incidents
    assert "Left out: Severity, which incident.io refused (there is no such severity)." in heard.everything
    assert "Left out: Custom fields, which incident.io refused" in heard.everything
    for label in ("Severity", "Custom fields"):
        assert any(label in line for line in incident["summary"].splitlines() if line.startswith("_Left out: "))


@EVERY_DOOR
def test_a_conflict_means_that_the_incident_is_open(box, link, budget, call):
    """A 409 is no error: one info line says that the incident is open already."""
    with FaultProxy(box.direct_port, "error-409") as proxy:
        link(proxy.url)
        heard, _ = report(call=call)
    assert "already open for DAG orders, run run-1" in heard.sole(logging.INFO)


@pytest.mark.parametrize("status", [400, 402, 405, 408, 410, 413, 415, 418, 425, 451, 499, 501, 504, 520, 599])
def test_any_other_status_is_one_error_line(link, budget, status):
    """A status that nobody documents is told like the others."""
    body = b"<html>" + b"x" * 100
    head = f"HTTP/1.1 {status} Odd\r\nContent-Length: {len(body)}\r\nRetry-After: 3600\r\n\r\n".encode()
    with Scripted([head + body]) as server:
        link(server.url)
        heard, took = report()
    check_lost(heard, f"incident.io answered {status}")
    assert took < 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"errors": 5, "type": {}, "request_id": [], "rate_limit": "no"}',
        b'{"errors": [null, 5, {"source": 3}, {"source": {"field": {"a": 1}}, "message": ["x"], "code": 7}]}',
        b'{"errors": [{"message": "two\\nlines \\ud800 \\u2028 and more"}], "request_id": "r\\n1"}',
    ],
)
@pytest.mark.parametrize("status", [401, 422, 429, 500])
def test_an_error_body_of_any_shape_is_survived(link, budget, status, body):
    """Nothing in an error's body is taken for granted."""
    with Scripted([answer(status, body, Retry_After="3600")]) as server:
        link(server.url)
        heard, _ = report()
    check_lost(heard, f"answered {status}")


@EVERY_DOOR
def test_a_server_that_shows_the_key_is_not_quoted(link, budget, call):
    """An error text that holds the API key is told without it."""
    told = {"errors": [{"code": "x", "message": f"Invalid key 'Bearer {API_KEY}', or {API_KEY}"}]}
    shown = {"type": "authentication_error", "status": 401, "request_id": f"req-{API_KEY}", **told}
    with Scripted([answer(401, json.dumps(shown).encode())]) as server:
        link(server.url)
        heard, _ = report(call=call)
        check_lost(heard, "Invalid key", "***")
        with pytest.raises(errors_module.AuthenticationError) as raised:
            IncidentHook().create_incident(idempotency_key="k")
        operator = CreateIncidentOperator(task_id="tell")
        with pytest.raises(Exception, match="401") as failed:
            operator.execute(task_context())
        good, text = IncidentHook().test_connection()
    assert not good
    for shown in (raised.value, failed.value):
        assert API_KEY not in f"{shown!s} {shown!r} {shown.__dict__} {shown.args}"
    assert API_KEY not in text


# Errors that pass


def _dates():
    def iso(at):
        return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def offset(at):
        return dt.datetime.fromtimestamp(at, dt.timezone(dt.timedelta(hours=5, minutes=30))).isoformat()

    def http(at):
        return email.utils.formatdate(at, usegmt=True)

    def utc(at):
        return http(at).replace("GMT", "UTC")

    return [
        ("seconds", None, "header"),
        ("float", None, "body"),
        ("rfc3339", iso, "body"),
        ("offset", offset, "header"),
        ("http-gmt", http, "header"),
        ("http-utc", utc, "body"),
    ]


@pytest.mark.parametrize(("name", "form", "place"), _dates())
def test_the_second_request_comes_no_earlier_than_asked(link, budget, name, form, place):
    """Retry-After is honoured in every form that incident.io has used, in the header and in the body."""
    asked = []

    def limit(client):
        if form is None:
            seconds = 1 if name == "seconds" else 0.6
            asked.append(time.time() + seconds)
            text = str(seconds)
        else:
            asked.append(math.ceil(time.time() + 0.2))
            text = form(asked[0])
        said = {"retry_after": text} if place == "body" else {}
        body = {"type": "too_many_requests", "status": 429, "request_id": "r", "errors": [], "rate_limit": said}
        headers = {"Retry_After": text} if place == "header" else {}
        client.sendall(answer(429, json.dumps(body).encode(), **headers))

    with Scripted([limit, OK]) as server:
        link(server.url)
        heard, _ = report()
        first, second = server.arrivals
    assert second.at >= asked[0] - 0.01
    assert second.at < asked[0] + SLACK
    assert first.body == second.body
    assert heard.texts() == []


@EVERY_DOOR
@pytest.mark.parametrize("text", ["60", "1e9", "inf", "Fri, 31 Dec 2099 23:59:59 GMT", "2099-12-31T23:59:59Z"])
def test_a_wait_that_does_not_fit_ends_early(link, budget, text, call):
    """If the asked wait is longer than what is left, no further request is made and nobody waits."""
    with Scripted([answer(429, b"{}", Retry_After=text), OK]) as server:
        link(server.url)
        heard, took = report(call=call)
        assert len(server.arrivals) == 1
    check_lost(heard, "answered 429", "Wait, or ask incident.io for a higher rate limit.")
    assert took < 1


@pytest.mark.parametrize("text", ["-5", "nan", "soon", "", "Fri, 99 Foo 2025 25:61:61 XYZ", "0", "\u0661", "9" * 5000])
def test_a_retry_date_that_makes_no_sense_is_survived(link, budget, text):
    """A wait that cannot be read, or lies in the past, is not obeyed, and harms nothing."""
    head = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nRetry-After: " + text.encode() + b"\r\n\r\n"
    with Scripted([head, OK]) as server:
        link(server.url)
        heard, took = report()
    assert took < 4 + SLACK
    assert len(heard.texts()) == (1 if text == "9" * 5000 else 0)


@EVERY_DOOR
@pytest.mark.parametrize("fault", ["error-500-html", "error-502-html", "error-503", "error-429", "drop-before"])
@pytest.mark.usefixtures("brisk")
def test_what_fails_once_is_sent_again_byte_for_byte(box, link, budget, fault, call):
    """A retry carries the same key and the same bytes."""
    with FaultProxy(box.direct_port, fault, times=1) as proxy:
        link(proxy.url)
        heard, _ = report(call=call)
        first, second = proxy.requests
    assert first.body == second.body
    assert first.headers["authorization"] == second.headers["authorization"] == f"Bearer {API_KEY}"
    assert len(box.incidents) == 1
    assert "INC-1" in heard.sole(logging.INFO)


@pytest.mark.parametrize("fault", ["error-500-html"])
def test_an_outage_is_tried_some_times_and_then_told(box, link, budget, fault):
    """An outage costs at most the budget, five requests, and one error line that says it may pass."""
    budget(12)
    with FaultProxy(box.direct_port, fault) as proxy:
        link(proxy.url)
        heard, took = report()
        bodies = {seen.body for seen in proxy.requests}
        assert 2 <= len(proxy.requests) <= 5
    assert len(bodies) == 1
    check_lost(heard, "It may have been opened all the same.", "https://status.incident.io")
    assert took < 12 + SLACK


# Silence


@pytest.mark.parametrize(
    ("context", "call"),
    [(dag_context, call_sync), (task_context, call_sync), (dag_context, call_async)],
    ids=["dag", "task", "deadline"],
)
@pytest.mark.parametrize("fault", ["hang", "drip-head", "drip-body", "slow"])
def test_silence_ends_with_the_budget(box, link, budget, fault, context, call):
    """Whatever trickles or hangs, the callback returns when its time is over and tells what was lost."""
    seconds = budget(1)
    with FaultProxy(box.direct_port, fault, pace=0.2, delay=30) as proxy:
        link(proxy.url)
        heard, took = report(context(), call=call)
        assert {seen.body for seen in proxy.requests} == {proxy.requests[0].body}
        check_lost(heard, "It may have been opened all the same.", "Check the base URL, DNS, proxy and CA bundle")
    assert took < seconds + SLACK


def test_a_true_budget_is_twelve_seconds_and_leaves_room_for_a_second_try(box, link):
    """With Airflow's own settings a hanging request is given up in time for another one."""
    with FaultProxy(box.direct_port, "hang") as proxy:
        link(proxy.url)
        heard, took = report()
        assert len(proxy.requests) >= 2
    check_lost(heard)
    assert took < 12 + SLACK


def test_a_request_that_hangs_once_still_opens_its_incident(box, link):
    """One hanging request does not lose the failure."""
    with FaultProxy(box.direct_port, "hang", times=1) as proxy:
        link(proxy.url)
        heard, took = report()
        first, second = proxy.requests
    assert first.body == second.body
    assert "INC-1 " in heard.sole(logging.INFO)
    assert took < 12


@EVERY_DOOR
@pytest.mark.usefixtures("brisk")
def test_nobody_listens(box, link, budget, call):
    """A refused connection is tried again, then told; it cannot have been delivered."""
    seconds = budget(4)
    with FaultProxy(box.direct_port, "refuse") as proxy:
        link(proxy.url)
        heard, took = report(call=call)
    line, _ = check_lost(heard, "ConnectError")
    assert "may have been opened" not in line
    assert took < seconds + SLACK


@pytest.fixture
def dead():
    """Four loopback addresses whose queues are full, so that a connection is never made."""
    listeners, fillers = [], []
    for _ in range(4):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        listeners.append(listener)
        for _ in range(3):
            filler = socket.socket()
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
    time.sleep(0.05)
    yield [listener.getsockname() for listener in listeners]
    for one in (*listeners, *fillers):
        one.close()


@EVERY_DOOR
def test_four_dead_addresses_cost_one_budget(monkeypatch, link, budget, dead, call):
    """A name that leads to four addresses where nobody answers does not cost four time-outs."""
    seconds = budget(1)
    real = socket.getaddrinfo

    def resolve(host, *args, **kwargs):
        if host not in ("incident.test", b"incident.test"):
            return real(host, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in dead]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    link("https://incident.test")
    heard, took = report(call=call)
    check_lost(heard, "Check the base URL, DNS")
    assert took < seconds + SLACK


@pytest.fixture
def mute_dns(monkeypatch):
    """Keep names unanswered until this is set."""
    released = threading.Event()
    real = socket.getaddrinfo

    def resolve(host, *args, **kwargs):
        if host not in ("incident.test", b"incident.test"):
            return real(host, *args, **kwargs)
        released.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield released
    released.set()


def test_a_mute_name_service_costs_one_budget(link, budget, mute_dns):
    """A name that is never resolved ends with the budget: no socket time-out would end it."""
    seconds = budget(1)
    link("https://incident.test")
    heard, took = report()
    check_lost(heard, "no answer within ")
    assert took < seconds + SLACK


def test_a_mute_name_service_costs_the_event_loop_one_budget(link, budget, mute_dns):
    """The triggerer's loop goes on after the budget, whatever its resolver's thread does."""
    seconds = budget(1)
    link("https://incident.test")

    async def triggerer():
        began = time.monotonic()
        await open_incident().async_notify(dag_context())
        took = time.monotonic() - began
        mute_dns.set()  # asyncio.run() waits for its threads; a triggerer's loop does not end
        return took

    with listen() as heard:
        took = asyncio.run(triggerer())
    check_lost(heard, "no answer within ")
    assert took < seconds + SLACK


@pytest.mark.parametrize("host", ["https://" + "a" * 64 + ".test", "https://a..test", "https://*.test"])
@pytest.mark.usefixtures("brisk")
def test_a_name_that_no_resolver_takes_is_told_with_the_body(link, budget, host):
    """A host name that cannot be asked for loses nothing that could be sent by hand."""
    budget(1)
    link(host)
    heard, _ = report()
    check_lost(heard, "Check the base URL")


# Lost answers


@EVERY_DOOR
@pytest.mark.parametrize("repeat", REPEATS)
@pytest.mark.parametrize("fault", ["drop-after-accept", "invalid-json", "wrong-shape", "huge"])
@pytest.mark.usefixtures("brisk")
def test_a_lost_answer_never_makes_a_second_incident(repeating, link, budget, repeat, fault, call):
    """When a request took effect but its answer was lost, the retry finds the same incident, whatever a repeat says."""
    budget(12)
    box = repeating[repeat]
    box.clear()
    with FaultProxy(box.direct_port, fault, times=1) as proxy:
        link(proxy.url)
        heard, _ = report(call=call)
        assert len({seen.body for seen in proxy.requests}) == 1
        assert len(box.incidents) == 1
    assert "open for DAG orders, run run-1" in heard.sole(logging.INFO)


@pytest.mark.parametrize("repeat", REPEATS)
@pytest.mark.usefixtures("brisk")
def test_answers_that_are_lost_for_ever_leave_one_incident(repeating, link, budget, repeat):
    """However often the answer is lost there is one incident, and the line says that there may be one."""
    budget(1)
    box = repeating[repeat]
    box.clear()
    with FaultProxy(box.direct_port, "drop-after-accept") as proxy:
        link(proxy.url)
        heard, _ = report()
        assert len(box.incidents) == 1
    check_lost(heard, "It may have been opened all the same.")


def test_a_refusal_after_a_lost_answer_says_that_it_may_be_open(link, budget):
    """A refused retry does not hide that the first attempt may have taken effect."""
    with Scripted([lambda client: client.close(), answer(403, b'{"type": "resource_forbidden"}')]) as server:
        link(server.url)
        heard, _ = report()
    check_lost(heard, "answered 403", "It may have been opened all the same.")


def test_a_second_notification_survives_a_connection_that_died_in_the_pool(box, link, budget):
    """A pooled connection that breaks at its second request is replaced without a word."""
    with FaultProxy(box.direct_port, "stale", times=1) as proxy:
        link(proxy.url)
        first, _ = report(dag_context("run-1"))
        second, _ = report(dag_context("run-2"))
    assert len(box.incidents) == 2
    assert "INC-1" in first.sole(logging.INFO)
    assert "INC-2" in second.sole(logging.INFO)


def test_a_second_notification_survives_a_connection_that_was_closed_silently(link, budget):
    """A pooled connection that the server closed meanwhile is replaced without a word."""

    def answer_and_close(client):
        client.sendall(OK)

    with Scripted([answer_and_close]) as server:
        link(server.url)
        for number in range(3):
            heard, _ = report(dag_context(f"run-{number}"))
            assert "INC-7" in heard.sole(logging.INFO)
        assert len(server.arrivals) == 3


def test_one_connection_serves_many_notifications(link, budget):
    """A process keeps its connection, so that a burst of failures pays for one handshake."""
    with Scripted() as server:
        link(server.url)
        for number in range(5):
            report(dag_context(f"run-{number}"))
        assert (server.connections, len(server.arrivals)) == (1, 5)


# Answers nobody wants


@EVERY_DOOR
@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("invalid-json", "not what incident.io documents"),
        ("wrong-shape", "not what incident.io documents"),
        ("huge", "larger than 1024 KiB"),
        ("gzip-bomb", "larger than 1024 KiB"),
    ],
)
@pytest.mark.usefixtures("brisk")
def test_an_answer_that_cannot_be_read_may_have_been_a_success(box, link, budget, fault, word, call):
    """An unreadable success is asked for again, then told as perhaps delivered."""
    with FaultProxy(box.direct_port, fault) as proxy:
        link(proxy.url)
        heard, took = report(call=call)
        assert len(proxy.requests) >= 2
    check_lost(heard, word, "It may have been opened all the same.", "Check that the base URL leads to incident.io")
    assert len(box.incidents) == 1
    assert took < 4 + SLACK


@EVERY_DOOR
@pytest.mark.parametrize("fault", ["huge", "gzip-bomb"])
@pytest.mark.usefixtures("brisk")
def test_no_answer_fills_the_memory(box, link, budget, fault, call):
    """Fifty megabytes of answer, or a hundred in a small parcel, take no more than a few."""
    budget(1)
    with FaultProxy(box.direct_port, fault) as proxy:
        link(proxy.url)
        report(call=call)
        tracemalloc.start()
        try:
            report(dag_context("run-2"), call=call)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 32 * 1024 * 1024


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.usefixtures("brisk")
def test_an_endless_answer_ends(link, budget, status):
    """A body without end is cut, whether it is a success or an error page."""
    seconds = budget(2)

    def pour(client):
        client.sendall(f"HTTP/1.1 {status} Odd\r\nContent-Type: text/html\r\n\r\n".encode())
        while True:
            client.sendall(b"x" * 65536)

    with Scripted([pour]) as server:
        link(server.url)
        heard, took = report()
    check_lost(heard, f"answered {status}")
    assert took < seconds + SLACK


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.7\r\n\r\n",
        b"\x00" * 4096,
        b"HTTP/1.1 two hundred OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 2000,
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe://x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=none\r\nSet-Cookie: \x80=\x81\r\nContent-Length: 0\r\n\r\n",
    ],
)
@pytest.mark.usefixtures("brisk")
def test_what_is_no_answer_at_all_is_told(link, budget, raw):
    """Garbage on the wire is one error line like everything else."""
    seconds = budget(1)

    with Scripted([functools.partial(_send, raw)]) as server:
        link(server.url)
        heard, took = report()
    check_lost(heard)
    assert took < seconds + SLACK


def test_an_answer_with_new_shapes_around_the_id_is_good(link, budget):
    """Only the id is needed: what else changes its shape one day does not lose the incident."""
    odd = {
        "id": "01NEW", "reference": 7, "status": {"new": "shape"}, "severity": "Major", "created_at": "yesterday",
        "custom_field_entries": None, "incident_role_assignments": None, "timestamps": None, "creator": [],
        "incident_type": {"name": "no id"}, "never_heard_of": {"x": 1},
    }  # fmt: skip
    with Scripted([answer(200, json.dumps({"incident": odd, "more": None}).encode())]) as server:
        link(server.url)
        heard, _ = report()
        assert len(server.arrivals) == 1
    assert "01NEW" in heard.sole(logging.INFO)


# Where the key must not go


@EVERY_DOOR
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(box, link, budget, status, call):
    """Another host never sees the key, nor any request."""
    with Scripted() as stranger:
        where = answer(status, b"", Location=f"http://localhost:{stranger.port}/v1/incidents")
        with Scripted([where]) as server:
            link(server.url)
            heard, _ = report(call=call)
            assert len(server.arrivals) == 1
        assert (stranger.connections, stranger.arrivals) == (0, [])
    check_lost(heard, "points to another address, where the API key must not go")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def _files(folder, certificate):
    pem = folder / "server.pem"
    pem.write_bytes(certificate.private_key_and_cert_chain_pem.bytes())
    return str(pem)


BAD_CERTIFICATES = {
    "unknown authority": (["127.0.0.1"], False, False),
    "another name": (["other.test"], True, False),
    "expired": (["127.0.0.1"], True, True),
}


@EVERY_DOOR
@pytest.mark.parametrize("case", BAD_CERTIFICATES)
@pytest.mark.usefixtures("brisk")
def test_a_bad_certificate_stops_the_key(tmp_path, authority, link, budget, case, call):
    """A server that cannot prove who it is gets no request."""
    names, trusted, expired = BAD_CERTIFICATES[case]
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    when = {"not_before": yesterday - dt.timedelta(days=1), "not_after": yesterday} if expired else {}
    pem = _files(tmp_path, authority.issue_cert(*names, **when))
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    seconds = budget(4)
    with Sandbox(api_key=API_KEY, certfile=pem, keyfile=pem) as box:
        link(box.url, extra=json.dumps({"ca_bundle": str(bundle)} if trusted else {}))
        heard, took = report(call=call)
        good, text = IncidentHook().test_connection()
        assert box.requests == []
    line, _ = check_lost(heard, "CERTIFICATE_VERIFY_FAILED", "CA bundle")
    assert "may have been opened" not in line
    assert (good, "CERTIFICATE_VERIFY_FAILED" in text) == (False, True)
    assert took < seconds + SLACK


@EVERY_DOOR
def test_a_good_certificate_is_trusted(tmp_path, authority, link, budget, call):
    """With the authority in the connection's CA bundle the incident opens over TLS."""
    pem = _files(tmp_path, authority.issue_cert("127.0.0.1"))
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with Sandbox(api_key=API_KEY, certfile=pem, keyfile=pem) as box:
        link(box.url, extra=json.dumps({"ca_bundle": str(bundle)}))
        heard, _ = report(call=call)
        assert len(box.incidents) == 1
        IncidentHook().get_conn().close()  # else the server waits for it
    assert "INC-1" in heard.sole(logging.INFO)


# A cancelled handshake leaves asyncio's transport to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@EVERY_DOOR
def test_a_stalled_handshake_ends_with_the_budget(link, budget, call):
    """A server that accepts and never says hello costs no more than the budget."""
    seconds = budget(1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        link(f"https://127.0.0.1:{server.getsockname()[1]}")
        heard, took = report(call=call)
    gc.collect()
    check_lost(heard)
    assert took < seconds + SLACK


@pytest.mark.usefixtures("brisk")
def test_plain_http_behind_https_is_told(box, link, budget):
    """Speaking TLS to a server that does not is an error like others."""
    budget(1)
    link(box.url.replace("http:", "https:"))
    heard, _ = report()
    check_lost(heard, "SSL")


# Many at once, and after an outage


def test_a_batch_in_an_outage_stays_below_its_time(box, link, monkeypatch):
    """However many failures one DAG-processor batch has to report, together they stay clear of its time limit."""
    monkeypatch.setenv(BATCH_TIMEOUT, "8")
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "10")
    with FaultProxy(box.direct_port, "hang") as proxy:
        link(proxy.url)
        began = time.monotonic()
        lines = [report(dag_context(f"run-{number}"))[0].error for number in range(8)]
        took = time.monotonic() - began
        proxy.heal()
        assert sorted(by_hand(line)["idempotency_key"] for line in lines) == [
            f"airflow/tests/dag/orders/run/run-{number}" for number in range(8)
        ]
    assert took < 8 * 3 / 4 + SLACK


@pytest.mark.parametrize("fault", ["hang", "error-429-seconds"])
def test_the_callbacks_of_a_task_end_before_airflow_kills_them(box, link, monkeypatch, fault):
    """Airflow ends all of them together; a task that is killed there may be tried again although it failed for good."""
    overtime = 11.0
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", str(overtime))
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "False")
    with FaultProxy(box.direct_port, fault, wait=2.0) as proxy:
        link(proxy.url)
        began = time.monotonic()
        for number, scope in enumerate(["run", "task", "task_instance"]):
            heard, _ = report(task_context(f"run-{number}"), scope=scope)
            assert "NO incident was opened" in heard.error
        took = time.monotonic() - began
    assert took < overtime


def test_thirty_hanging_callbacks_end_together(box, link, budget):
    """Threads do not wait for one another, and none outlives its budget."""
    seconds = budget(1.5)
    with FaultProxy(box.direct_port, "hang") as proxy:
        link(proxy.url)
        notifier = open_incident()
        with listen() as heard:
            threads = [threading.Thread(target=notifier, args=(task_context(f"run-{number}"),)) for number in range(30)]
            began = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            took = time.monotonic() - began
    assert took < seconds + 3 * SLACK
    assert len({by_hand(line)["idempotency_key"] for line in heard.texts()}) == 30


def test_no_request_leaves_after_the_callback_has_returned(box, link, budget):
    """A thread that was left behind does not open an incident after the line that says there is none."""
    budget(1)
    with FaultProxy(box.direct_port, "hang", times=1) as proxy:
        link(proxy.url)
        heard, _ = report()
        check_lost(heard)
        seen = len(proxy.requests)
        time.sleep(1.5)
        assert len(proxy.requests) == seen


# The operator and the connection test


def _operate(**options):
    operator = CreateIncidentOperator(task_id="tell", **options)
    return operator.execute(task_context())


@pytest.mark.parametrize("status", [401, 403, 404, 422])
def test_an_operator_fails_for_good_where_a_retry_cannot_help(box, link, status):
    """A refusal fails the task without retries and says what to do."""
    from airflow.providers.common.compat.sdk import AirflowFailException

    with FaultProxy(box.direct_port, f"error-{status}") as proxy:
        link(proxy.url)
        with pytest.raises(AirflowFailException, match=rf"answered {status}: .*request_id .* \S+\.$") as raised:
            _operate()
        assert len(proxy.requests) == (3 if status == 404 else 1)
    assert API_KEY not in repr(raised.value)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("error-500-html", "ServerError"),
        ("error-429-rfc3339", "RateLimitError"),
        ("hang", "TransportError"),
        ("drip-head", "TransportError"),
        ("refuse", "TransportError"),
        ("invalid-json", "UnexpectedResponseError"),
        ("drop-after-accept", "TransportError"),
    ],
)
@pytest.mark.usefixtures("brisk")
def test_an_operator_raises_what_a_retry_may_mend(monkeypatch, box, link, fault, kind):
    """An outage is raised as it is, so that Airflow retries the task; the error survives pickling."""
    monkeypatch.setattr("airflow_incident.core.timing.BUDGET", 1.0)
    with FaultProxy(box.direct_port, fault, wait=30, pace=0.2) as proxy:
        link(proxy.url)
        with pytest.raises(getattr(errors_module, kind)) as raised:
            _operate()
    assert raised.value.retryable
    again = pickle.loads(pickle.dumps(raised.value))
    assert (type(again), str(again)) == (type(raised.value), str(raised.value))
    assert API_KEY not in f"{raised.value!r} {raised.value!s} {raised.value.__dict__}"


def test_an_operator_that_is_retried_lands_on_the_same_incident(monkeypatch, box, link):
    """The next attempt of a task whose answer was lost opens nothing new."""
    monkeypatch.setattr("airflow_incident.core.timing.BUDGET", 1.0)
    with FaultProxy(box.direct_port, "drip-body", pace=0.2, times=1) as proxy:
        link(proxy.url)
        with pytest.raises(errors_module.TransportError) as raised:
            _operate()
        assert raised.value.maybe_delivered
        context = task_context(try_number=2)
        context["ti"].xcom_push = lambda **_: None
        opened = CreateIncidentOperator(task_id="tell").execute(context)
    assert opened["reference"] == "INC-1"
    assert len(box.incidents) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("error-401", "Put a valid API key into the connection's password."),
        ("error-500-html", "https://status.incident.io"),
        # Whichever clock is first, the request's or the call's: they are set to the same second.
        ("hang", "Check the base URL, DNS, proxy and CA bundle"),
        ("drip-head", "no answer within 1 s"),
        ("refuse", "Check the base URL, DNS, proxy and CA bundle"),
        ("invalid-json", "Check that the base URL leads to incident.io"),
    ],
)
@pytest.mark.usefixtures("brisk")
def test_the_connection_test_tells_what_is_wrong(monkeypatch, box, link, fault, words):
    """The connection's test returns in time, says what to mend, and opens nothing."""
    from airflow_incident import hooks

    monkeypatch.setattr(hooks, "TEST_BUDGET", 1.0)
    with FaultProxy(box.direct_port, fault, pace=0.2) as proxy:
        link(proxy.url)
        began = time.monotonic()
        good, text = IncidentHook().test_connection()
        took = time.monotonic() - began
    assert not good
    assert words in text
    assert API_KEY not in text
    assert took < 1 + SLACK
    assert box.incidents == []


def test_the_connection_test_fails_without_the_one_role(link):
    """A key that may not open incidents fails the test; other gaps are told only."""
    with Sandbox(api_key=API_KEY, roles=("viewer",)) as box:
        link(box.url)
        good, text = IncidentHook().test_connection()
    assert (good, "lacks the role 'incident creator'" in text) == (False, True)
    with Sandbox(api_key=API_KEY, roles=("incident_creator",)) as box:
        link(box.url)
        good, text = IncidentHook().test_connection()
    assert (good, "'viewer'" in text) == (True, True)


def test_every_key_is_hidden_in_what_can_be_printed(box, link):
    """No object that a debugger, a log or a traceback may print shows the key."""
    link(box.url, extra=json.dumps({"proxy": "http://user:hunter2secret@127.0.0.1:9"}))
    config = IncidentHook().config()
    shown = " ".join(map(repr, (config, config.account, config.settings, config.client, IncidentHook())))
    assert API_KEY not in shown
    assert "hunter2secret" not in shown


def _send(noise, client):
    client.sendall(noise)
    client.shutdown(socket.SHUT_WR)


@pytest.mark.usefixtures("brisk")
def test_random_noise_never_escapes(link, budget):
    """Random answers are each an incident or one line, and never an exception."""
    budget(1)
    rng = random.Random(20261123)
    parts = [b"HTTP/1.1 ", b"200", b"429", b"500", b" OK", b"\r\n", b"\r\n\r\n", b"Content-Length: 3", b"{}", b"\xff"]
    parts += [b"Retry-After: 1", b"Content-Encoding: gzip", b"\x00", b"Location: //", b'{"incident":{"id":"x"}}', b"0"]
    with Scripted() as server:
        link(server.url)
        for number in range(15):
            noise = b"".join(rng.choices(parts, k=rng.randint(1, 12)))
            server.script[:] = [functools.partial(_send, noise), OK]
            heard, took = report(task_context(f"run-{number}"))
            assert len(heard.ours) == 1, heard.texts(0)
            assert took < 1 + SLACK

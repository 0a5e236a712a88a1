"""What the journal does when its store fails, or holds what nobody here has written; and a batch in an outage."""

import asyncio
import json
import logging
import threading
import time
from collections import Counter
from datetime import UTC, datetime

import pytest

from airflow_incident.airflow_bridge.compat import BaseHook
from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.delivery import driver, run
from airflow_incident.delivery.record import PREFIX, Record, read_record, record_name
from airflow_incident.sandbox.fault import FaultProxy
from airflow_incident.sandbox.fault_answers import answer
from airflow_incident.sandbox.server import Sandbox
from tests.airflow_versions import BATCH_TIMEOUT, since
from tests.doors import (
    API_KEY,
    Scripted,
    by_hand,
    call_async,
    call_sync,
    dag_context,
    forget_process,
    listen,
    report,
    task_context,
)
from tests.journal_records import forget_all
from tests.memory_store import Texts

EVERY_DOOR = pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
KEY = "airflow/tests/dag/orders/run/run-1"
NAME = record_name("orders", KEY)


@pytest.fixture(autouse=True)
def _journal(monkeypatch):
    """Turn the journal on, with a process that has met no outage and spent no time."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    forget_process()
    yield
    forget_process()


@pytest.fixture
def store(monkeypatch):
    texts = Texts()
    monkeypatch.setattr(run, "Variables", lambda: texts)
    return texts


def _call_async_and(then, notifier, context):
    """Call as the triggerer does, and do something before asyncio.run() waits for its threads."""

    async def run():
        await notifier.async_notify(context)
        then()

    asyncio.run(run())


def raises(error):
    def fail():
        raise error

    return fail


# A store that fails


@EVERY_DOOR
@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("set", OSError("attempt to write a readonly database")),
        ("get", ValueError("the secrets backend is sealed")),
        ("get", SystemExit(3)),
        ("set", RecursionError()),
        ("set", NotImplementedError()),
    ],
    ids=["read-only", "backend", "exit", "recursion", "not-implemented"],
)
def test_a_store_that_fails_costs_one_warning(connected, store, call, what, error):
    """The incident opens all the same, with the same key."""
    store.failing[what] = raises(error)
    heard, took = report(call=call)
    assert [seen.body["idempotency_key"] for seen in connected.requests] == [KEY]
    assert "the journal cannot be used" in heard.texts()[0]
    assert len(heard.texts()) == 1
    assert took < 2


@EVERY_DOOR
@pytest.mark.parametrize("what", ["get", "set"])
def test_a_store_that_hangs_does_not_keep_the_incident_waiting(connected, store, call, what, monkeypatch):
    """The request goes out when its patience is over; what the store says late is still written down, in time."""
    monkeypatch.setattr(driver, "STORE_PATIENCE", 0.4)
    store.failing[what] = lambda: time.sleep(1.2)
    began = time.time()
    heard, took = report(call=call)
    (row,) = connected.store.all()
    assert 0.3 < row.opened_at - began < 1.2
    assert row.request["idempotency_key"] == KEY
    assert took < 12
    assert heard.texts() == []
    assert [record.state for record in store.records() if record.scope == "run"] == ["open"]


@EVERY_DOOR
@pytest.mark.parametrize("what", ["get", "set"])
def test_a_store_that_hangs_for_ever_costs_one_warning(connected, store, call, what, monkeypatch):
    """The callback ends in its time; a coroutine's thread is left behind."""
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "8")
    monkeypatch.setattr(driver, "STORE_PATIENCE", 0.4)
    over = threading.Event()
    store.failing[what] = over.wait
    try:
        heard, took = report(call=call if call is call_sync else lambda *given: _call_async_and(over.set, *given))
    finally:
        over.set()
    assert len(connected.store.all()) == 1
    (line,) = heard.texts()
    assert "the journal cannot be used: Airflow gave no answer within" in line
    assert took < (2 if call is call_sync else 3)


def test_without_store_and_api_one_line_holds_the_failure(connect, store, monkeypatch):
    """Nothing could be written, nothing sent: the line is all that is left, and it is enough."""
    connect("http://127.0.0.1:9")
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "7")
    store.failing["set"] = raises(OSError("read-only"))
    heard, _ = report()
    (line,) = [text for text in heard.texts() if "NO incident" in text]
    assert by_hand(line)["idempotency_key"] == KEY


def test_no_secret_is_written(connect, store):
    """Neither from the failure's own text nor from what a server quotes."""
    quoting = json.dumps({"type": "x", "errors": [{"message": f"no access with {API_KEY}"}]}).encode()
    with Scripted([answer(422, quoting)]) as server:
        connect(server.url, password=API_KEY)
        report(task_context(exception=ValueError(f"cannot log in with {API_KEY} as token={API_KEY}")))
    (record,) = store.records()
    assert record.state == "dead"
    assert "no access with ***" in record.error
    assert API_KEY not in json.dumps(store.texts)


# Texts that nobody here has written


def waiting(**changes):
    """Write a record that waits, as text."""
    body = {"idempotency_key": KEY, "visibility": "public", "name": "forged"}
    fields = {
        "state": "pending",
        "key": KEY,
        "dag_id": "orders",
        "run_id": "run-1",
        "conn_id": "incident_io_default",
        "level": "dag",
        "written_at": datetime.now(UTC),
        "body": body,
    }
    return Record(**(fields | changes)).text()


def with_more(**more):
    return json.dumps(json.loads(waiting()) | more)


FOREIGN = {
    "empty": "",
    "null": "null",
    "cut": waiting()[:100],
    "number": "1e999",
    "deep": "[" * 100_000,
    "older": with_more(version=0),
    "newer": with_more(version=2),
    "unknown-state": with_more(state="sent"),
    "body-with-a-path": with_more(body={"idempotency_key": KEY, "path": "/v1/api_keys"}),
    "another-key": with_more(body={"idempotency_key": "airflow/other"}),
    "no-body": with_more(body=None),
    "naive-time": with_more(written_at="2026-11-23T09:00:00"),
    "surrogate": waiting().replace("forged", "\\ud800"),
    "surrogate-key": waiting().replace(KEY, "\\udc00"),
    "surrogate-text": waiting().replace("forged", "\ud800"),
    "huge": with_more(body={"idempotency_key": KEY, "name": 1}, error="x" * 1_000_000),
    "long-key": with_more(key="k" * 201),
}


def test_a_field_of_a_newer_version_is_ignored(connected, store):
    """The failure is delivered, to the connection's host, whatever else the record says."""
    store.set(NAME, with_more(host="https://evil.example"))
    assert [r.state for r in run.flush().opened] == ["open"]
    assert len(connected.incidents) == 1


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_what_cannot_be_read_is_left_alone_by_a_flush(connected, store, text):
    """It is told by name, not sent, not changed."""
    store.texts[NAME] = text
    store.texts["incident_io.other"] = "not ours"
    result = run.flush()
    assert set(result.unreadable) == {NAME, "incident_io.other"}
    assert store.texts == {NAME: text, "incident_io.other": "not ours"}
    assert connected.requests == []


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_what_cannot_be_read_keeps_no_failure_from_being_told(connected, store, text):
    """A report finds it under its own name, and opens its incident."""
    store.texts[NAME] = text
    heard, _ = report()
    (seen,) = connected.requests
    assert seen.body["idempotency_key"] == KEY
    assert seen.body["name"] == "DAG orders failed"
    assert [text for text in heard.texts() if "NO incident" in text] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"conn_type": "postgres"},
        {"conn_type": "http"},
        {"conn_type": "generic"},
        {"conn_type": "aws", "password": None},
    ],
    ids=["postgres", "http", "generic", "aws"],
)
def test_a_record_cannot_borrow_another_connection(connected, store, connect, fields):
    """A host that is no incident.io never gets a request, nor its password a reader."""
    with Scripted() as elsewhere:
        connect(elsewhere.url, conn_id="warehouse", **({"password": "swordfish-77"} | fields))
        store.texts[NAME] = waiting(conn_id="warehouse")
        result = run.flush()
        assert elsewhere.connections == 0
    assert connected.requests == []
    assert result.opened == []
    (record,) = store.records()
    assert record.error
    assert "swordfish-77" not in json.dumps(store.texts)


@pytest.mark.parametrize("conn_id", ["", "missing", "no such/one", "a" * 300, "x\x00y", "broken"])
def test_a_record_with_an_impossible_connection_does_not_end_a_flush(connected, store, monkeypatch, conn_id):
    """The others are delivered."""
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", "{not json")
    store.texts[NAME] = waiting(conn_id=conn_id)
    other = KEY.replace("run-1", "run-2")
    body = {"idempotency_key": other, "visibility": "public", "name": "fine"}
    store.texts[record_name("orders", other)] = waiting(key=other, run_id="run-2", body=body)
    result = run.flush()
    assert [record.run_id for record in result.opened] == ["run-2"]
    assert [seen.body["name"] for seen in connected.requests] == ["fine"]


def test_a_secrets_backend_that_fails_for_one_connection_does_not_end_a_flush(connected, store, monkeypatch):
    """Its records wait on; the others are delivered."""
    read = BaseHook.get_connection

    def sealed(conn_id):
        if conn_id == "sealed":
            raise OSError("the vault is sealed")
        return read(conn_id)

    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(sealed))
    store.texts[NAME] = waiting(conn_id="sealed")
    other = KEY.replace("run-1", "run-2")
    body = {"idempotency_key": other, "visibility": "public", "name": "fine"}
    store.texts[record_name("orders", other)] = waiting(key=other, run_id="run-2", body=body)
    result = run.flush()
    assert [record.run_id for record in result.opened] == ["run-2"]
    assert [record.run_id for record in result.pending] == ["run-1"]


def test_a_waiting_record_of_another_connection_is_left_to_that_one(connected, store, connect):
    """Whatever connection a record names, a report asks that one nothing, and sends its own one none of these words."""
    with Scripted() as elsewhere:
        connect(elsewhere.url, conn_id="warehouse", conn_type="http", password="swordfish-77")
        store.texts[NAME] = waiting(conn_id="warehouse")
        report()
        assert elsewhere.connections == 0
    assert connected.requests == []
    assert [record.state for record in store.records()] == ["pending"]


# Airflow's own batch, and its own Variables


@since("3.0", "batch of callbacks that one function runs")
def test_twenty_failures_of_one_batch_in_an_outage_are_all_written_down(airflow_db, connect, sandbox, monkeypatch):
    """The batch ends far inside the time that Airflow gives it, and a flush delivers every one."""
    import structlog
    from airflow.callbacks.callback_requests import DagCallbackRequest
    from airflow.dag_processing.processor import _execute_callbacks

    from tests.airflow_dags import load_dag

    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMIT", "0")
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMIT_PER_DAG", "0")
    monkeypatch.setenv(BATCH_TIMEOUT, "16")
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "10")
    source = """
from airflow_incident.airflow_bridge.compat import DAG
from airflow_incident import open_incident

with DAG("batch", schedule=None, on_failure_callback=open_incident()) as dag:
    pass
"""
    dag = load_dag(airflow_db, source, "batch")
    bag = type("Bag", (), {"dags": {"batch": dag}, "get_dag": lambda self, dag_id: dag})()
    requests = [
        DagCallbackRequest(
            filepath="batch.py",
            bundle_name="dags-folder",
            bundle_version=None,
            msg="task_failure",
            dag_id="batch",
            run_id=f"run-{number}",
        )
        for number in range(20)
    ]
    for name in Variables().names("incident_io"):
        Variables().delete(name)
    with FaultProxy(sandbox.direct_port, "hang") as proxy:
        connect(proxy.url)
        began = time.monotonic()
        with listen() as heard:
            _execute_callbacks(bag, requests, structlog.get_logger())
        took = time.monotonic() - began
    print(f"\ntwenty failures of one batch in an outage: {took:.1f} s")  # noqa: T201 -- a figure worth seeing
    assert took < 8
    assert [text for text in heard.texts() if "NO incident" in text] == []
    records = [read_record(name, Variables().get(name)) for name in Variables().names(PREFIX)]
    assert Counter(record.state for record in records) == {"pending": 20}
    connect(sandbox.url)
    assert len(run.flush().opened) == 20
    assert len(sandbox.incidents) == 20


def test_real_variables_hold_a_report_and_a_flush(airflow_db, connected):
    """Through Airflow's own database: once, suppressed, and read again."""
    for name in Variables().names("incident_io"):
        Variables().delete(name)
    for _ in range(3):
        report(dag_context("variables"))
    (name,) = Variables().names(PREFIX)
    assert read_record(name, Variables().get(name)).suppressed == 2
    assert len(connected.requests) == 1
    assert run.flush().pending == []


def test_a_variable_that_two_processes_write_at_once_costs_no_record(airflow_db, connect, monkeypatch):
    """Airflow before 3.1 deletes and inserts it: the second to insert is refused, and writes it once more."""
    from airflow.models import Variable as Stored
    from sqlalchemy.exc import IntegrityError

    with Sandbox() as box:  # away by now, so that nothing but the journal keeps the failure
        connect(box.url)
    write, refused = Stored.set, set()  # noqa: AIR311 -- the one that has a table

    def write_late(key, *args, **more):
        if key not in refused:
            refused.add(key)
            raise IntegrityError("INSERT INTO variable", {}, Exception("variable_key_uq"))
        return write(key, *args, **more)

    forget_all()
    monkeypatch.setattr("airflow.models.Variable.set", staticmethod(write_late))
    report(dag_context("at-once"))
    (name,) = Variables().names(PREFIX)
    assert read_record(name, Variables().get(name) or "").state == "pending"
    assert name in refused
    forget_all()


# A version that goes


@EVERY_DOOR
@pytest.mark.usefixtures("alone", "brisk")
def test_what_only_a_person_can_decide_says_so(connect, store, call):
    """A create is cut off, then v1 is gone and v2 knows of no such incident: one line names both commands."""
    nowhere = answer(404, b'{"type": "not_found", "status": 404, "errors": []}')
    nothing = answer(200, b'{"incidents": [], "pagination_meta": {"page_size": 250}}')
    with Scripted([lambda client: client.close(), nowhere, nowhere, nothing]) as server:
        connect(server.url, password=API_KEY)
        heard, _ = report(call=call)
    line = heard.sole(logging.WARNING)
    assert "is kept in the journal and waits for a decision" in line
    assert "airflow-incident journal drop RECORD" in line
    assert "airflow-incident journal retry RECORD" in line
    paths = [each.head.split()[1].partition(b"?")[0] for each in server.arrivals]
    assert paths[-3:] == [b"/v1/incidents", b"/v1/incidents", b"/v2/incidents"]
    assert [record.state for record in store.records()] == ["pending"]

"""A connection that cannot be used costs time: the failure is kept in the journal, and delivered once it is fixed."""

import json
import logging
import os
import subprocess
import sys

import pytest

from airflow_incident import open_incident, resolve_incident
from airflow_incident.airflow_bridge.compat import BaseHook
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.cli import main as cli
from airflow_incident.delivery.record import PREFIX, read_record
from airflow_incident.delivery.run import flush
from airflow_incident.sandbox.server import Sandbox
from tests.doors import API_KEY, call_async, call_sync, dag_context, listen, report, task_context
from tests.journal_records import forget_all

EVERY_DOOR = pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
CONN = "on_call"


@pytest.fixture(autouse=True)
def _journal(airflow_db, monkeypatch, brisk, alone):
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    PROCESS.reset()
    forget_all()
    yield
    forget_all()


@pytest.fixture
def box():
    with Sandbox(api_key=API_KEY) as served:
        yield served


@pytest.fixture
def define(connect, monkeypatch):
    """Define the connection that the callbacks name, or take it away."""

    def define(**fields):
        if not fields:
            monkeypatch.delenv(f"AIRFLOW_CONN_{CONN.upper()}", raising=False)
            return
        if isinstance(fields.get("extra"), dict):
            fields["extra"] = json.dumps(fields["extra"])
        connect(**{"password": API_KEY, "conn_id": CONN} | fields)

    return define


def records():
    store = Variables()
    return [read_record(name, store.get(name)) for name in store.names(PREFIX)]


HTTPS = "https://127.0.0.1:9"
UNUSABLE = {
    "no connection of that name": {},
    "no key": {"host": HTTPS, "password": None},
    "a key with a space": {"host": HTTPS, "password": "a b"},
    "plain http to another machine": {"host": "http://api.incident.io"},
    "a user in the address": {"host": "https://me:secret@api.incident.io"},
    "a port that is no number": {"host": "https://api.incident.io:https"},
    "another scheme": {"host": "ftp://api.incident.io"},
    "another type": {"host": HTTPS, "conn_type": "http"},
    "a CA bundle that is not there": {"host": HTTPS, "extra": {"ca_bundle": "/no/such.pem"}},
    "a proxy that cannot be parsed": {"host": HTTPS, "extra": {"proxy": "http://["}},
    "a proxy of another scheme": {"host": HTTPS, "extra": {"proxy": "socks9://proxy.test"}},
}


@EVERY_DOOR
@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_connection_that_cannot_be_used_keeps_the_failure(box, define, capsys, kind, call):
    """It is one error line, `journal list` and `explain` know of it, and a flush delivers it once it is fixed."""
    define(**UNUSABLE[kind])
    heard, _ = report(task_context(), call=call, conn_id=CONN)
    line = heard.error
    assert "DAG orders, run run-1 is kept in the journal and waits until the connection is fixed" in line
    assert f"'{CONN}'" in line
    (record,) = records()
    assert record.state == "pending"
    assert record.error
    report(dag_context(), call=call, conn_id=CONN)
    assert len(records()) == 1
    capsys.readouterr()
    assert cli.main(["journal", "list"]) == 0
    assert "orders" in capsys.readouterr().out
    assert cli.main(["explain", "orders", "run-1", "--conn-id", CONN]) == 0
    assert "pending" in capsys.readouterr().out
    assert flush().opened == []
    assert [r.state for r in records()] == ["pending"]
    define(host=box.url)
    flushed = flush()
    assert [r.state for r in flushed.opened] == ["open"]
    assert len(box.incidents) == 1


@pytest.fixture
def closed_to_us():
    """Serve an incident.io where the key lacks the role that it needs."""
    with Sandbox(api_key=API_KEY, roles=("viewer",)) as served:
        yield served


@EVERY_DOOR
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_key_or_an_address_that_incident_io_refuses_keeps_it_too(box, closed_to_us, define, call, status):
    """Nothing in the request is to blame, so the same request passes once somebody has fixed the connection."""
    fields = {
        401: {"host": box.url, "password": "another-key"},
        403: {"host": closed_to_us.url},
        404: {"host": f"{box.url}/elsewhere"},
    }[status]
    define(**fields)
    heard, _ = report(call=call, conn_id=CONN)
    assert f"answered {status}" in heard.error
    assert "waits until the connection is fixed" in heard.error
    assert [r.state for r in records()] == ["pending"]
    define(host=box.url)
    flush()
    assert [r.state for r in records()] == ["open"]
    assert len(box.incidents) == 1


@pytest.mark.parametrize(
    "error", [RuntimeError("vault is sealed: token=s.abcdefgh"), SystemExit(1), OSError("no route"), KeyError("x")]
)
def test_a_secrets_backend_that_raises_keeps_it(box, define, monkeypatch, error):
    """Whatever it raises, also under the default id; its text has no secret."""

    def fail(*_):
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(BaseHook, "get_connection", fail)
        heard, _ = report()
        assert type(error).__name__ in heard.error
        assert "s.abcdefgh" not in heard.everything
        flush()
    assert [r.state for r in records()] == ["pending"]
    define(host=box.url, conn_id="incident_io_default")
    flush()
    assert len(box.incidents) == 1


@pytest.mark.parametrize("call", ["sync", "async"])
def test_a_secrets_backend_that_airflow_asked_in_vain_keeps_it(box, define, call):
    """A real one, in a process of its own: to Airflow its failure is as good as no connection, under the default id too."""
    from airflow.configuration import conf

    settings = {
        "AIRFLOW__SECRETS__BACKEND": "tests.delivery.sealed_backend.SealedBackend",
        "AIRFLOW__CORE__FERNET_KEY": conf.get("core", "fernet_key"),
    }
    command = [sys.executable, "-m", "tests.delivery.sealed_backend", call]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | settings, timeout=60)
    ours = [line for line in (ended.stderr + ended.stdout).splitlines() if "incident.io:" in line]
    assert "is kept in the journal" in "".join(ours)
    assert "s.abcdefgh" not in "".join(ours)
    assert [r.state for r in records()] == ["pending"]
    define(host=box.url, conn_id="incident_io_default")
    flush()
    assert len(box.incidents) == 1


@EVERY_DOOR
def test_what_a_connection_says_counts_once_it_can_be_read(box, define, monkeypatch, call):
    """Written down without it, delivered with it: private stays private, and an argument goes before it."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__SEVERITY", "Minor")
    report(call=call, conn_id=CONN, mode="test")
    define(host=box.url, extra={"visibility": "private", "mode": "real", "severity": "Critical"})
    flush()
    (incident,) = box.incidents
    assert (incident["visibility"], incident["mode"], incident["severity"]["name"]) == ("private", "test", "Critical")


def test_a_failure_that_is_reported_again_says_all_of_it(box, define):
    """The DAG's callback meets the connection that the task's could not read."""
    report(task_context(), conn_id=CONN)
    define(host=box.url, extra={"visibility": "private"})
    report(dag_context(), conn_id=CONN)
    (incident,) = box.incidents
    assert incident["visibility"] == "private"
    assert [r.state for r in records()] == ["open"]


@EVERY_DOOR
@pytest.mark.parametrize("is_reported_again", [True, False])
def test_a_deployment_that_the_connection_names_makes_no_second_incident(box, define, call, is_reported_again):
    """The key that was made without it is made anew, and meets what was opened under it meanwhile."""
    report(task_context(), call=call, conn_id=CONN)
    define(host=box.url, extra={"deployment": "finance"})
    if is_reported_again:
        report(dag_context(), call=call, conn_id=CONN)
    flush()
    assert len(box.incidents) == 1
    assert [(r.state, r.key) for r in records()] == [("open", "airflow/finance/dag/orders/run/run-1")]
    (body,) = [r.body for r in box.requests if r.method == "POST"]
    assert body["idempotency_key"] == "airflow/finance/dag/orders/run/run-1"


@EVERY_DOOR
def test_one_connection_that_cannot_be_used_holds_up_no_other(box, connect, call):
    """The failures of the others are delivered."""
    report(dag_context("r1"), call=call, conn_id=CONN)
    connect("http://127.0.0.1:9", password=API_KEY)
    report(dag_context("r2"), call=call)
    connect(box.url, password=API_KEY)
    flush()
    assert sorted(r.state for r in records()) == ["open", "pending"]


@EVERY_DOOR
def test_nothing_at_all_is_one_line(call):
    """On a laptop nobody has set it up: no record, one warning."""
    heard, _ = report(call=call)
    assert "airflow connections add incident_io_default" in heard.sole(logging.WARNING)
    assert records() == []


@EVERY_DOOR
def test_a_recovery_waits_for_the_connection_too(box, define, call):
    """What was opened is closed by a flush, once that can be done."""
    define(host=box.url)
    report(call=call, conn_id=CONN)
    define(host=box.url, password=None)
    success = dag_context() | {"reason": "success"}
    run = task_context(clear=1)["dag_run"]
    with listen():
        call(resolve_incident(conn_id=CONN), success | {"dag_run": run})
    assert box.incidents[0]["status"] == "triage"
    define(host=box.url)
    flush()
    assert box.incidents[0]["status"] == "closed"
    assert records() == []


def test_without_a_journal_the_line_has_what_to_send(monkeypatch):
    """Neither incident.io nor the journal is within reach."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "False")
    with listen() as heard:
        open_incident(conn_id=CONN)(dag_context())
    assert "To send it by hand: POST /v1/incidents" in heard.error

"""An alert source beside an API key, or without one."""

import json

import pytest

from airflow_incident import open_incident
from airflow_incident.journalled import _breaker, flush_journal
from airflow_incident.sandbox.fault_answers import answer
from tests.doors import Scripted, report, task_context
from tests.journal_records import forget_all

AWAY = "http://127.0.0.1:9"


@pytest.mark.airflow
def test_an_alert_that_was_kept_is_delivered_without_an_api_key(airflow_db, sandbox, connect, monkeypatch):
    """A connection for alerts alone has a source and its token; a flush asks for no more than a callback does."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "7")
    _breaker.cache_clear()
    forget_all()
    options = sandbox.options
    source = {"alert_source_id": options.alert_source_id, "alert_source_token": options.alert_source_token}
    connect(AWAY, password=None, extra=source)
    open_incident(channel="alert")(task_context())
    connect(sandbox.url, password=None, extra=source)
    assert [record.state for record in flush_journal().opened] == ["open"]
    (alert,) = sandbox.alerts
    assert alert["deduplication_key"] == "airflow/tests/dag/orders/run/run-1"


def test_an_alert_is_never_sent_without_its_deduplication_key(connect):
    """Without it each repeat would be an alert of its own."""
    refused = {"code": "invalid", "message": "is odd", "source": {"field": "deduplication_key"}}
    said = {"type": "validation_error", "status": 422, "request_id": "r", "errors": [refused]}
    with Scripted([answer(422, json.dumps(said).encode())]) as server:
        connect(server.url, extra={"alert_source_id": "01SOURCE", "alert_source_token": "t0ken"})
        heard, _ = report(channel="alert")
    assert len(server.arrivals) == 1
    assert "NO alert was sent" in heard.error


@pytest.mark.airflow
def test_an_incident_that_a_dag_has_open_takes_no_alert(airflow_db, sandbox, connect, monkeypatch):
    """At scope `dag`, and so for backfills, it takes the next failures; a page that it took would reach nobody."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    _breaker.cache_clear()
    forget_all()
    options = sandbox.options
    source = {"alert_source_id": options.alert_source_id, "alert_source_token": options.alert_source_token}
    connect(sandbox.url, extra=source)
    for run in ("run-1", "run-2"):
        open_incident(scope="dag")(task_context(run))
        open_incident(scope="dag", channel="alert")(task_context(run))
    opened = [request.body["name"] for request in sandbox.requests if request.path == "/v1/incidents"]
    assert len(opened) == 1
    assert [alert["deduplication_key"].rpartition("/")[2] for alert in sandbox.alerts] == ["run-1", "run-2"]

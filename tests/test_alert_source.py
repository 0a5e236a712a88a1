"""An alert source beside an API key, or without one."""

import pytest

from airflow_incident import open_incident
from airflow_incident.journalled import _breaker, flush_journal
from tests.doors import task_context
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

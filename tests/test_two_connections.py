"""Two connections are two accounts, or two teams: what one has told, waits for or has open, the other never gets."""

import logging

import pytest

from airflow_incident import resolve_incident
from airflow_incident.delivery.run import flush
from airflow_incident.sandbox.fault import FaultProxy
from airflow_incident.sandbox.server import Sandbox
from tests.doors import (
    call_async,
    call_sync,
    dag_context,
    forget_process,
    listen,
    report,
    succeeded,
    task_context,
    use_store,
)
from tests.memory_store import Texts

AWAY = "http://127.0.0.1:9"
EVERY_DOOR = pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])


@pytest.fixture
def ours():
    with Sandbox() as box:
        yield box


@pytest.fixture
def theirs():
    with Sandbox() as box:
        yield box


@pytest.fixture(autouse=True)
def journal(ours, theirs, connect, monkeypatch, brisk):
    """Turn the journal on beside two connections, of which the other one's incidents are private."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "10")
    forget_process()
    connect(ours.url)
    connect(theirs.url, conn_id="theirs")
    return use_store(monkeypatch, Texts())


def statuses(box):
    return [row["incident_status"]["name"] for row in box.incidents_v2]


@EVERY_DOOR
def test_what_waits_for_one_connection_is_not_sent_through_the_other(ours, theirs, connect, journal, call):
    """The task's callback names a team's connection, which is away; the DAG's has the default one."""
    connect(AWAY, conn_id="theirs", extra={"visibility": "private"})
    report(task_context(), call, conn_id="theirs")
    heard, _ = report(dag_context(), call)
    assert "it waits for connection 'theirs', through which it was reported first" in heard.sole(logging.WARNING)
    assert ours.requests == []
    connect(theirs.url, conn_id="theirs")
    forget_process()
    flush()
    assert [row["visibility"] for row in theirs.incidents] == ["private"]
    with listen():
        call(resolve_incident(conn_id="theirs"), succeeded(dag_context()))
    assert statuses(theirs) == ["Closed"]
    assert (ours.incidents, journal.records()) == ([], [])


@EVERY_DOOR
def test_what_one_account_refuses_the_other_is_asked(ours, theirs, connect, call):
    with FaultProxy(theirs.direct_port, "error-422") as proxy:
        connect(proxy.url, conn_id="theirs")
        report(task_context(), call, conn_id="theirs")
    heard, _ = report(dag_context(), call)
    assert "INC-1" in heard.sole(logging.INFO)
    assert (len(ours.incidents), len(theirs.incidents)) == (1, 0)


@EVERY_DOOR
def test_a_connection_that_is_not_there_keeps_the_failure_from_nobody(ours, call):
    """It was written down for a connection that nobody has defined; the DAG's callback has one that works."""
    report(task_context(), call, conn_id="nobody_s")
    report(dag_context(), call)
    assert statuses(ours) == ["Triage"]
    with listen():
        call(resolve_incident(), succeeded(dag_context()))
    assert statuses(ours) == ["Closed"]


@EVERY_DOOR
def test_of_two_callbacks_with_two_connections_the_second_says_who_has_it(ours, theirs, call):
    """A failure has one incident, whatever the connections."""
    report(task_context(), call, conn_id="theirs")
    heard, _ = report(task_context(), call)
    assert "INC-1 " in heard.sole(logging.WARNING)
    assert "is already open for DAG orders, run run-1 through connection 'theirs'; no new request" in heard.sole(
        logging.WARNING
    )
    assert ours.requests == []
    assert statuses(theirs) == ["Triage"]


def test_what_a_dag_has_open_is_of_one_connection(ours, theirs):
    """At scope `dag`, with a rule that gives the runs of a kind another connection."""

    def context(number, conn_id, **more):
        run = task_context(f"r{number}")["dag_run"]
        run.logical_date = f"2026-03-0{number}T00:00:00+00:00"
        return dag_context(f"r{number}", dag_run=run, **more), {"scope": "dag"} | (
            {"conn_id": conn_id} if conn_id else {}
        )

    for number, conn_id in enumerate(["", "theirs", "", "theirs"], 1):
        failed, options = context(number, conn_id)
        report(failed, **options)
    assert (statuses(ours), statuses(theirs)) == (["Triage"], ["Triage"])
    well, options = context(5, "")
    resolve_incident(**options)(succeeded(well))
    assert (statuses(ours), statuses(theirs)) == (["Closed"], ["Triage"])
    well, options = context(6, "theirs")
    resolve_incident(**options)(succeeded(well))
    assert statuses(theirs) == ["Closed"]


def test_a_storm_does_not_mix_what_two_connections_keep_apart(ours, theirs, monkeypatch):
    """Each has its limits and its storm, and reads of its own DAGs alone."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMIT", "2")
    for number in range(5):
        report(dag_context(dag_id=f"ours-{number}"))
        report(dag_context(dag_id=f"theirs-{number}"), conn_id="theirs")
    for box, mine, other in ((ours, "ours-", "theirs-"), (theirs, "theirs-", "ours-")):
        texts = [f"{row['name']}\n{row['summary']}" for row in box.incidents]
        assert len(texts) == 3
        assert sum(mine in text for text in texts) == 3
        assert not any(other in text for text in texts)

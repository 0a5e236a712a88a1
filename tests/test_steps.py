"""A step's incident is the step's own: neither a storm's nor a DAG's, never closed for another, and never green for nothing."""

import json

import pytest

from airflow_incident import (
    CreateIncidentOperator,
    RateLimitError,
    ResolveIncidentOperator,
    TransportError,
    open_incident,
)
from airflow_incident.airflow_bridge.compat import AirflowFailException
from airflow_incident.sandbox.fault_answers import answer
from tests.doors import Scripted, forget_process, task_context, use_store
from tests.memory_store import Texts

LATER = {"type": "rate_limit", "status": 429, "rate_limit": {"retry_after": "Tue, 01 Dec 2099 00:00:00 UTC"}}


@pytest.fixture(autouse=True)
def journal(monkeypatch, brisk):
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    forget_process()
    return use_store(monkeypatch, Texts())


def of_run(run_id, run_type="scheduled"):
    context = task_context(run_id)
    context["dag_run"].run_type = run_type
    context["ti"].xcom_push = lambda **_: None
    return context


def of_success(*args):
    context = of_run(*args)
    del context["exception"]
    return context


def migrate(*args):
    return CreateIncidentOperator(task_id="tell", name="Migrating", key="migration").execute(of_run(*args))


def end(opened, *args):
    return ResolveIncidentOperator(task_id="close", incident_id=opened["id"]).execute(of_success(*args))


def seen(box):
    return [(row["name"].partition(" (")[0], row["incident_status"]["name"]) for row in box.incidents_v2]


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_step_in_a_backfill_takes_no_failures_and_closes_none(connected, run_type, is_first):
    """A backfill's failures share one incident, but another step closes what a step has opened."""
    if not is_first:
        open_incident()(of_run("b2", run_type))
    opened = migrate("b1", run_type)
    if is_first:
        open_incident()(of_run("b2", run_type))
    end(opened, "b1", run_type)
    assert sorted(seen(connected)) == [("DAG orders failed: load", "Triage"), ("Migrating", "Closed")]


def test_a_step_in_a_storm_opens_and_closes_its_own(connected, monkeypatch):
    """The storm's incident stands for others, who still fail."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMIT", "1")
    for number in range(3):
        open_incident()(of_run(f"r{number}"))
    end(migrate("r9"), "r9")
    assert [status for _, status in seen(connected)] == ["Triage", "Triage", "Closed"]


def test_a_step_that_has_to_wait_is_not_green(connect):
    """Airflow tries again before incident.io wants to be asked again."""
    with Scripted([answer(429, json.dumps(LATER).encode())]) as server:
        connect(server.url)
        for error in (RateLimitError, TransportError):
            with pytest.raises(error) as caught:
                migrate("r1")
            assert caught.value.retryable


@pytest.mark.parametrize("rendered", ["", " ", "None"])
def test_an_id_that_renders_to_nothing_closes_nothing_else(connected, rendered):
    open_incident()(of_run("r1"))
    step = ResolveIncidentOperator(task_id="close", incident_id="{{ params.incident }}")
    step.incident_id = rendered
    with pytest.raises(AirflowFailException, match="names none; see what the template renders to"):
        step.execute(of_success("r1"))
    assert [status for _, status in seen(connected)] == ["Triage"]

"""Failures and successes that come after an incident opened, through the callbacks: whom it is for stays as it was."""

import json
import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_incident import resolve_incident
from airflow_incident.delivery import run as delivery
from airflow_incident.sandbox.fault import FaultProxy
from tests.airflow_dags import load_dag
from tests.airflow_versions import BASE_URL
from tests.doors import dag_context, forget_process, listen, report, succeeded, task_context, use_store
from tests.memory_store import Texts

DAY = datetime(2026, 11, 20, tzinfo=UTC)
MAPPED = """
from airflow_incident.airflow_bridge.compat import DAG, task
from airflow_incident import open_incident, resolve_incident

callbacks = {"on_failure_callback": open_incident(scope="task"), "on_success_callback": resolve_incident(scope="task")}
with DAG("mapped", schedule=None, default_args=callbacks) as dag:
    @task(retries=0)
    def load(number):
        if number == 0:
            raise ValueError("three bad rows")

    load.expand(number=[0, 1, 2])
"""


@pytest.fixture(autouse=True)
def journal(monkeypatch, connected, brisk):
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "10")
    monkeypatch.setenv(BASE_URL, "https://airflow.example.com")
    forget_process()
    return use_store(monkeypatch, Texts())


def run(run_id="r1", clear=0, *, day=0, tasks=(), run_type="manual"):
    """Build a run; each day's stands for another moment."""
    at, failed = DAY + timedelta(days=day), [SimpleNamespace(task_id=each, map_index=-1) for each in tasks]
    facts = {"logical_date": at, "run_after": at, "run_type": run_type, "get_task_instances": lambda **_: failed}
    return SimpleNamespace(dag_id="orders", run_id=run_id, clear_number=clear, **facts)


def of_dag(*args, reason="task_failure", **facts):
    dag_run = run(*args, **facts)
    return dag_context(dag_run.run_id, dag_run=dag_run, reason=reason)


def of_task(task_id, *args, **facts):
    dag_run = run(*args, **facts)
    return task_context(dag_run.run_id, task_id=task_id) | {"dag_run": dag_run}


def statuses(box):
    return [row["incident_status"]["name"] for row in box.incidents_v2]


def let_pass(monkeypatch, minutes):
    now = delivery.utc_now
    monkeypatch.setattr(delivery, "utc_now", lambda: now() + timedelta(minutes=minutes))


@pytest.mark.parametrize("scope", ["run", "dag"])
def test_a_recovery_that_waits_does_not_close_what_has_failed_again(connected, connect, scope):
    """It met an outage; before a flush came, a later failure joined the incident."""
    well, again = {
        "run": (of_dag("r1", 1, reason="success"), of_dag("r1", 2)),
        "dag": (of_dag("r2", day=1, reason="success"), of_dag("r3", day=2)),
    }[scope]
    report(of_dag("r1"), scope=scope)
    with FaultProxy(connected.direct_port, "error-503") as away:
        connect(away.url)
        resolve_incident(scope=scope)(well)
    connect(connected.url)
    forget_process()
    report(again, scope=scope)
    delivery.flush()
    assert statuses(connected) == ["Triage"]


@pytest.mark.parametrize("scope", ["run", "dag"])
@pytest.mark.parametrize(
    ("first", "then"),
    [({}, {"visibility": "private"}), ({"mode": "test"}, {}), ({}, {"mode": "test"})],
    ids=["private", "real", "test"],
)
def test_what_is_not_for_the_same_people_does_not_join(connected, scope, first, then):
    """A private failure has no place in a public incident, nor a real one in a test."""
    report(of_task("load", "r1"), scope=scope, **first)
    again = {"run": of_task("export", "r1", 1), "dag": of_task("export", "r2", day=1)}[scope]
    report(again | {"exception": ValueError("Jane Roe has no IBAN")}, scope=scope, **then)
    one, other = connected.incidents
    assert "Jane Roe" not in one["summary"]
    assert "Jane Roe" in other["summary"]
    assert {name: other[name] for name in then} == then


def test_a_member_of_a_storm_is_told_once_however_long_its_run_goes_on(connected, monkeypatch):
    """The DAG's callback comes 70 minutes after its task's."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMIT_PER_DAG", "1")
    for number in (1, 2):
        report(of_task("load", f"r{number}"))
    let_pass(monkeypatch, 70)
    report(of_dag("r2"))
    assert len(connected.incidents) == 2


def test_an_alert_that_was_resolved_does_not_fire_again_for_the_same_failure(connected, connect, monkeypatch):
    """Somebody on call has ended it, while other branches of the run went on."""
    options = connected.options
    source = {"alert_source_id": options.alert_source_id, "alert_source_token": options.alert_source_token}
    connect(connected.url, extra=json.dumps(source))
    report(of_task("load"), channel="alert")
    connected.alerts[0]["status"] = "resolved"
    asked = len(connected.requests)
    let_pass(monkeypatch, 70)
    report(of_dag(), channel="alert")
    assert len(connected.requests) == asked


def test_a_storm_is_not_told_what_one_of_its_members_knows(connected, monkeypatch):
    """Its text counts all of them, and stays known as ours."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMIT_PER_DAG", "1")
    for number in range(1, 7):
        report(of_task("load", f"r{number}"))
        report(of_dag(f"r{number}", tasks=["load", "check"]))
    delivery.flush()
    assert connected.incidents[1]["summary"].startswith("**5 failures** came on top")
    assert "check" not in connected.incidents[1]["summary"]


def test_the_incident_of_a_backfill_keeps_the_tasks_of_the_run_that_opened_it(connected):
    """Another run's would stand beside the first one's error and link."""
    report(of_task("load", "b1", run_type="backfill"))
    report(of_task("mail", "b2", run_type="backfill", day=1))
    report(of_dag("b2", run_type="backfill", day=1, tasks=["mail", "print"]))
    (incident,) = connected.incidents
    assert "print" not in incident["summary"]


def test_an_instance_that_succeeds_does_not_close_what_another_one_has_open(airflow_db, connected):
    """At scope `task` a mapped task has one incident for all of its instances."""
    with listen() as heard:
        load_dag(airflow_db, MAPPED, "mapped").test()
    assert statuses(connected) == ["Triage"], heard.texts(logging.INFO)


@pytest.mark.parametrize("others", [["success", "skipped"], ["success", "running"], ["success", "failed"], []])
def test_the_last_instance_that_succeeds_closes_the_incident_of_a_mapped_task(connected, others):
    """Cleared, all of them succeed; nobody knows it before the last one."""
    failed = task_context(map_index=0)
    report(failed, scope="task")
    again = succeeded(task_context(map_index=0, clear=1))
    states = [SimpleNamespace(task_id="load", map_index=index, state=state) for index, state in enumerate(others, 1)]
    again["dag_run"].get_task_instances = lambda **_: states
    resolve_incident(scope="task")(again)
    assert statuses(connected) == (["Closed"] if others == ["success", "skipped"] else ["Triage"])


def test_a_private_incident_is_named_only_in_others_that_are_private(connected):
    """The DAG's earlier incidents are listed in the text of its next one, whoever may read that."""
    report(of_task("load_pii", "r1"), visibility="private")
    report(of_task("export", "r2", day=1))
    report(of_task("load_pii", "r3", day=2), visibility="private")
    first, public, private = connected.incidents
    assert first["reference"] not in public["summary"]
    assert all(each["reference"] in private["summary"] for each in (first, public))


def test_a_private_callback_of_the_dag_tells_a_public_incident_nothing(connected):
    """Its tasks' callbacks are public; which others failed is for invited people."""
    report(of_task("load", "r1"))
    report(of_dag("r1", tasks=["load", "patients"]), visibility="private")
    assert "patients" not in connected.incidents[0]["summary"]
    report(of_task("load", "r2", day=1), visibility="private")
    report(of_dag("r2", tasks=["load", "patients"], day=1), visibility="private")
    assert "patients" in connected.incidents[1]["summary"]


@pytest.mark.parametrize("apart", [{"mode": "test"}, {"visibility": "private"}])
def test_what_stands_apart_leaves_the_dags_open_incident_to_the_dag(connected, apart):
    """At scope `dag`: the next failure joins the first one's, and a later success closes it."""
    report(of_dag("r1"), scope="dag")
    report(of_dag("by-hand", day=1), scope="dag", **apart)
    report(of_dag("r2", day=2), scope="dag")
    resolve_incident(scope="dag")(of_dag("r3", day=3, reason="success"))
    assert statuses(connected) == ["Closed", "Triage"]
    resolve_incident(scope="dag")(of_dag("by-hand", 1, day=1, reason="success"))
    assert statuses(connected) == ["Closed", "Closed"]


def test_a_real_failure_takes_the_place_of_a_test_as_what_the_dag_has_open(connected):
    """Else each real one would stand apart from it."""
    report(of_dag("by-hand"), scope="dag", mode="test")
    for number in (1, 2):
        report(of_dag(f"r{number}", day=number), scope="dag")
    assert [each["mode"] for each in connected.incidents] == ["test", "real"]


def test_a_later_run_that_makes_good_what_a_dag_has_open_is_named(connected):
    """The run that failed did not recover."""
    report(of_dag("r1"), scope="dag")
    with listen() as heard:
        resolve_incident(scope="dag")(of_dag("r2", day=1, reason="success"))
    assert (
        "is closed because DAG orders, run r1 was followed by run r2, which succeeded" in heard.texts(logging.INFO)[0]
    )


def test_a_cleared_run_that_stands_apart_joins_its_own_incident(connected):
    """And leaves the DAG's alone, as often as it is cleared."""
    report(of_dag("r1"), scope="dag")
    for clear in range(3):
        report(of_dag("by-hand", clear, day=1), scope="dag", visibility="private")
    assert len(connected.incidents) == 2


def test_a_failure_that_waits_for_its_connection_stays_private(connected, connect):
    """The DAG's callback, which comes while it waits, takes the place of its words, not of who may read them."""
    report(of_task("load_pii", "r1"), visibility="private", conn_id="team")
    report(of_dag("r1", tasks=["load_pii"]), conn_id="team")
    forget_process()
    connect(connected.url, conn_id="team")
    delivery.flush()
    assert [each["visibility"] for each in connected.incidents] == ["private"]


@pytest.mark.parametrize("scope", ["run", "dag"])
def test_a_failure_of_another_type_joins_no_public_incident(connected, scope):
    """Some types are for private incidents only, which nobody can tell by their name."""
    report(of_task("load", "r1"), scope=scope)
    again = of_task("patients", "r1", 1) if scope == "run" else of_task("patients", "r2", day=1)
    report(again | {"exception": ValueError("Jane Roe")}, scope=scope, incident_type="Security")
    assert [each["visibility"] for each in connected.incidents] == ["public", "private"]
    assert "Jane Roe" not in connected.incidents[0]["summary"]


def test_failures_of_one_type_join_as_ever(connected):
    report(of_task("load", "r1"), incident_type="Data pipeline")
    report(of_task("load", "r1", 1), incident_type="Data pipeline")
    report(of_dag("r1", 1, tasks=["load", "check"]), incident_type="Data pipeline")
    (incident,) = connected.incidents
    assert "check" in incident["summary"]


def test_a_callback_of_another_type_tells_a_public_incident_nothing(connected):
    report(of_task("load", "r1"))
    report(of_dag("r1", tasks=["load", "patients"]), incident_type="Security")
    assert "patients" not in connected.incidents[0]["summary"]


@pytest.mark.parametrize("wanted", [{}, {"incident_type": "Data pipeline", "visibility": "private"}, {"mode": "test"}])
@pytest.mark.parametrize("told_by", ["flush", "later failure"])
def test_what_fails_in_an_outage_joins_what_the_dag_has_open(connected, connect, told_by, wanted):
    """At scope `dag`, once incident.io is back: an incident for each run would be left open by the success."""
    report(of_dag("r1"), scope="dag", **wanted)
    with FaultProxy(connected.direct_port, "error-503") as away:
        connect(away.url)
        for number in (2, 3, 4):
            report(of_dag(f"r{number}", day=number), scope="dag", **wanted)
    connect(connected.url)
    forget_process()
    if told_by == "flush":
        flushed = delivery.flush()
        assert (len(flushed.opened), len(flushed.pending)) == (3, 0)
        events = flushed.log_events(str)
        assert {(event.outcome, event.level) for event in events} == {("replayed", logging.INFO)}
        assert all("is grouped under INC-1" in event.line for event in events)
    else:
        report(of_dag("r5", day=5), scope="dag", **wanted)
        delivery.flush()
    resolve_incident(scope="dag")(of_dag("r9", day=9, reason="success"))
    assert statuses(connected) == ["Closed"]


def test_what_failed_in_an_outage_joins_what_a_later_failure_opens(connected, connect, monkeypatch):
    """The one before was closed meanwhile; whoever delivers it, having time for it, says so."""
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "30")
    report(of_dag("r1"), scope="dag")
    with FaultProxy(connected.direct_port, "error-503") as away:
        connect(away.url)
        report(of_dag("r2", day=2), scope="dag")
    connect(connected.url)
    forget_process()
    connected.close("INC-1")
    with listen() as heard:
        report(of_dag("r5", day=5), scope="dag")
    assert len(connected.incidents) == 2
    assert any("run r2" in text and "is grouped under INC-2" in text for text in heard.texts(logging.INFO))
    assert not delivery.flush().opened


def test_a_run_whose_incident_the_dags_recovery_closed_is_settled_with_it(connected):
    """Its own record says nothing any more, and no line says that the incident stays as it is."""
    for number in (1, 2):
        report(of_dag(f"r{number}", day=number), scope="dag")
    with listen() as heard:
        for number in (2, 1):
            resolve_incident(scope="dag")(of_dag(f"r{number}", 1, day=number, reason="success"))
    assert statuses(connected) == ["Closed"]
    assert not any("stays as it is" in text for text in heard.texts(logging.INFO))
    assert [record.is_dags for record in delivery.list_records()[0]] == [True]


def test_what_nobody_knows_the_visibility_of_is_named_in_no_public_incident(connected, journal):
    """An earlier version did not write it down."""
    report(of_task("load_pii", "r1"), visibility="private")
    for name, text in list(journal.texts.items()):
        journal.texts[name] = text.replace('"visibility":"private"', '"later":1')
    report(of_task("export", "r2", day=1))
    assert connected.incidents[0]["reference"] not in connected.incidents[1]["summary"]

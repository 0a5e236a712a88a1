"""Runs that recover, in a whole Airflow that runs: failed, cleared, and well again."""

import shutil

import pytest

from airflow_incident.sandbox import catalogue
from airflow_incident.sandbox.server import Sandbox
from tests.airflow.running_airflow import RunningAirflow
from tests.airflow_versions import RUNS_WHOLE
from tests.contract import check_all

pytestmark = [pytest.mark.airflow, RUNS_WHOLE]

HEAD = """
from pathlib import Path
from airflow.providers.common.compat.sdk import DAG, task
from airflow_incident import CreateIncidentOperator, open_incident, resolve_incident

@task
def load(dag_run=None):
    if not Path(NOTES, f"mended-{dag_run.run_id}").exists():
        raise ValueError("three bad rows")
"""
DAGS = {
    name: f"""
with DAG("{name}", default_args={{"on_failure_callback": open_incident()}}, on_failure_callback=open_incident(),
         on_success_callback=resolve_incident()):
    load()
"""
    for name in ("orders", "stock")
} | {
    "leaf": """
with DAG("leaf", on_failure_callback=open_incident(), on_success_callback=resolve_incident()):
    load() >> CreateIncidentOperator(task_id="tell", name="Late, but there")
""",
    "daily": """
with DAG("daily", on_failure_callback=open_incident(scope="dag"), on_success_callback=resolve_incident(scope="dag")):
    load()
""",
    "swapped": """
with DAG("swapped", on_failure_callback=resolve_incident(), on_success_callback=open_incident(), default_args={
    "on_failure_callback": [open_incident(scope="task"), resolve_incident(scope="task")],
    "on_success_callback": open_incident(scope="task"),
}):
    load()
""",
}
LEAD = {"incident_role_id": catalogue.ROLES[0]["id"], "assignee": {"email": "bob@example.com"}}


@pytest.fixture(scope="module")
def served():
    """Serve one sandbox for all of these tests."""
    with Sandbox() as box:
        yield box


@pytest.fixture(scope="module")
def airflow(airflow_db, served, tmp_path_factory):
    """Run a whole Airflow whose journal is on."""
    home = tmp_path_factory.mktemp("recovery")
    shutil.copy(airflow_db / "empty.db", home / "airflow.db")
    (home / "dags").mkdir()
    for name, source in DAGS.items():
        (home / "dags" / f"{name}.py").write_text(f"NOTES = {str(home)!r}\n{HEAD}{source}")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
        with RunningAirflow(home) as running:
            fields = {"conn_type": "incident_io", "host": served.url, "password": served.api_key}
            running.call("POST", "connections", connection_id="incident_io_default", **fields)
            yield running


@pytest.fixture
def box(airflow, served):
    """Begin with an account that has no incidents."""
    served.clear()
    return served


def start(airflow, dag_id, run_id, day):
    """Start a run for a day of 2026."""
    known = f"dags/{dag_id}"
    airflow.wait(lambda: airflow._client.get(f"/api/v2/{known}").is_success, 60, f"DAG {dag_id}")
    airflow.call("POST", f"{known}/dagRuns", dag_run_id=run_id, logical_date=f"2026-01-{day:02}T00:00:00Z")


def fail(airflow, box, dag_id, run_id, day=1):
    """Let a run fail; return the reference of its incident."""
    before = len(box.incidents)
    start(airflow, dag_id, run_id, day)
    airflow.wait_for_state("failed", dag_id, run_id)
    airflow.wait(lambda: len(box.incidents) > before, 30, f"incident of {dag_id} {run_id}")
    return box.incidents[-1]["reference"]


def mend(airflow, run_id):
    """Make a run succeed from now on."""
    (airflow.home / f"mended-{run_id}").touch()


def clear(airflow, dag_id, run_id):
    """Clear a whole run, and let it succeed."""
    mend(airflow, run_id)
    airflow.call("POST", f"dags/{dag_id}/clearTaskInstances", dag_run_id=run_id, dry_run=False, only_failed=False)
    airflow.wait_for_state("success", dag_id, run_id)


def status(box, reference):
    return box.store.show(reference).incident["incident_status"]["name"]


def told(airflow, dag_id, text):
    """Wait until the DAG processor has written this about a DAG, for its callbacks come after the run's end."""
    logs = airflow.home / "logs" / "dag_processor"
    return airflow.wait(
        lambda: any(text in log.read_text() for log in logs.rglob(f"{dag_id}.py.log")), 30, f"word of {text!r}"
    )


def test_a_cleared_run_that_succeeds_closes_its_own_incident(airflow, box):
    """Another run's stays open; success again changes nothing; a first attempt's success asks nobody."""
    one, other = (fail(airflow, box, "orders", run, day) for day, run in enumerate(("one", "other"), 1))
    clear(airflow, "orders", "one")
    airflow.wait(lambda: status(box, one) == "Closed", 60, "closed incident")
    assert status(box, other) == "Triage"
    (link,) = box.store.show(one).attachments
    assert link["resource"]["permalink"] == f"{airflow.url}/dags/orders/runs/one"
    told(airflow, "orders", f"{one} ")
    requests = len(box.requests)
    clear(airflow, "orders", "one")
    mend(airflow, "fine")
    start(airflow, "orders", "fine", 3)
    airflow.wait_for_state("success", "orders", "fine")
    # Callbacks are called in the order of their runs' ends, so after this one the two before it are over.
    clear(airflow, "orders", "other")
    airflow.wait(lambda: status(box, other) == "Closed", 60, "closed incident")
    assert {seen.path.split("/")[3] for seen in box.requests[requests:] if seen.path.startswith("/v2/incidents/")} == {
        box.store.show(other).incident["id"]
    }
    check_all(box)


def test_an_incident_with_a_lead_stays_open_and_gets_the_note(airflow, box):
    """A person has it."""
    reference = fail(airflow, box, "orders", "led", 4)
    box.store.edit(box.store.show(reference).incident["id"], {"incident_role_assignments": [LEAD]})
    clear(airflow, "orders", "led")
    airflow.wait(lambda: box.store.show(reference).attachments, 60, "note")
    told(airflow, "orders", "a person has claimed it")
    assert status(box, reference) == "Triage"


def test_a_run_that_is_deleted_and_made_again_has_an_incident_of_its_own(airflow, box):
    """With the id that it had, and no clear: only its start tells. Cleared and well again, it closes its own."""
    first = fail(airflow, box, "stock", "again", 5)
    box.store.move(first, "closed")
    told(airflow, "stock", f"{first} ")
    airflow.call("DELETE", "dags/stock/dagRuns/again")
    second = fail(airflow, box, "stock", "again", 5)
    assert second != first
    assert "/run/again/started/" in box.store.all()[-1].request["idempotency_key"]
    clear(airflow, "stock", "again")
    airflow.wait(lambda: status(box, second) == "Closed", 60, "closed incident")
    assert len(box.incidents) == 2
    check_all(box)


def test_an_operator_s_incident_of_the_same_attempt_is_not_closed_by_its_run(airflow, box):
    """The leaf of a run that goes green opened it on purpose; the earlier attempt's is closed."""
    reference = fail(airflow, box, "leaf", "green", 1)
    clear(airflow, "leaf", "green")
    airflow.wait(lambda: status(box, reference) == "Closed", 60, "closed incident")
    assert {row["name"].partition(":")[0]: row["incident_status"]["name"] for row in box.incidents_v2} == {
        "DAG leaf failed": "Closed",
        "Late, but there": "Triage",
    }


def test_an_old_run_s_success_does_not_close_today_s_failure(airflow, box):
    """At scope dag, which backfills have: only a run that is not earlier says that all is well."""
    reference = fail(airflow, box, "daily", "today", 20)
    requests = len(box.requests)
    for run, day in (("old", 2), ("later", 21)):
        mend(airflow, run)
        start(airflow, "daily", run, day)
        airflow.wait_for_state("success", "daily", run)
        if run == "later":
            airflow.wait(lambda: status(box, reference) == "Closed", 60, "closed incident")
        else:
            assert status(box, reference) == "Triage"
    shown = [
        seen for seen in box.requests[requests:] if seen.method == "GET" and seen.path.startswith("/v2/incidents/")
    ]
    assert len(shown) == 1


def test_callbacks_that_are_swapped_say_so_and_do_nothing(airflow, box):
    """In the task and in the DAG processor, with what Airflow really gives them."""
    reference = fail(airflow, box, "swapped", "first")
    told(airflow, "swapped", "NO incident was closed for DAG swapped, run first: Airflow called it for a failure")
    assert status(box, reference) == "Triage"
    clear(airflow, "swapped", "first")
    told(airflow, "swapped", "NO incident was opened for DAG swapped, run first: Airflow called it for a success")
    logs = sorted((airflow.home / "logs" / "dag_id=swapped").rglob("*.log"))
    said = "".join(log.read_text() for log in logs)
    for words in ("NO incident was closed", "NO incident was opened"):
        assert said.count(words) == 1, said
    assert [row["incident_status"]["name"] for row in box.incidents_v2] == ["Triage"]

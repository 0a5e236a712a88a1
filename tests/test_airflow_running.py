"""Failures in a whole Airflow that runs: scheduler, DAG processor, triggerer, api-server."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_incident.sandbox.server import Sandbox
from tests.running_airflow import RunningAirflow

pytestmark = pytest.mark.airflow

KEY = "inc-key-0f9a8b7c6d5e4f"

DAGS = {
    "early": """
import time
from pathlib import Path
from airflow.sdk import DAG, task
from airflow_incident import open_incident

with DAG("early", default_args={"on_failure_callback": open_incident()}, on_failure_callback=open_incident()):
    @task
    def boom():
        Path(NOTES, "boom").write_text(str(time.time()))
        raise ValueError("no such table: orders")

    @task
    def long():
        time.sleep(20)

    boom(), long()
""",
    "cleared": """
from airflow.sdk import DAG, task
from airflow_incident import open_incident

with DAG("cleared", default_args={"on_failure_callback": open_incident()}, on_failure_callback=open_incident()):
    @task
    def boom():
        raise ValueError("again")

    boom()
""",
    "paired": """
import os
from pathlib import Path
from airflow.sdk import DAG, task
from airflow_incident import open_incident

def note(context):
    with Path(NOTES, "paired").open("a") as notes:
        print(os.getpid(), file=notes)

with DAG("paired", on_failure_callback=[note, open_incident(name="Run {{ run_id }} of {{ dag.dag_id }}")]):
    @task
    def fine():
        pass

    @task
    def boom():
        raise ValueError("no")

    @task
    def shake_2(number):
        if number == 2:
            raise ValueError("no")

    fine(), boom(), shake_2.expand(number=[1, 2])
""",
    "guarded": """
from airflow.sdk import DAG, task
from airflow_incident import CreateIncidentOperator

with DAG("guarded"):
    @task
    def boom():
        raise ValueError("no")

    boom() >> CreateIncidentOperator(task_id="tell", trigger_rule="one_failed", then_fail=True)
""",
    "lost": """
import json, os, signal
from datetime import timedelta
from pathlib import Path
from airflow.sdk import DAG, task
from airflow_incident import open_incident

def note(context):
    told = {"run": context["run_id"], "exception": "exception" in context, "dag": context["dag"].dag_id}
    with Path(NOTES, "lost").open("a") as notes:
        print(json.dumps(told), file=notes)

for dag_id, retries in {"lost": 0, "lost_with_retries": 1}.items():
    with DAG(dag_id, default_args={"on_failure_callback": [note, open_incident()]}) as dag:
        @task(retries=retries, retry_delay=timedelta(hours=1))
        def vanish():
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

        vanish()
    globals()[dag_id] = dag
""",
    "late": """
import time
from datetime import timedelta
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, task
from airflow_incident import IncidentNotifier

alert = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT,
    interval=timedelta(seconds=1),
    callback=AsyncCallback(IncidentNotifier, kwargs={"name": "Run {{ dag_run.dag_run_id }} is late", "mode": "test"}),
)
with DAG("late", deadline=alert):
    @task
    def long():
        time.sleep(20)

    long()
""",
}


@pytest.fixture(scope="module")
def up(airflow_db) -> Iterator[SimpleNamespace]:
    """Run a whole Airflow beside a sandbox; what takes long to fail has begun to."""
    with tempfile.TemporaryDirectory(prefix="airflow-incident-", ignore_cleanup_errors=True) as folder, Sandbox(
        api_key=KEY
    ) as box:
        home = Path(folder)
        shutil.copy(airflow_db / "empty.db", home / "airflow.db")
        (home / "dags").mkdir()
        for name, source in DAGS.items():
            (home / "dags" / f"{name}.py").write_text(f"NOTES = {folder!r}\n{source}")
        with RunningAirflow(home) as airflow:
            airflow.call(
                "POST",
                "connections",
                connection_id="incident_io_default",
                conn_type="incident_io",
                host=box.url,
                password=KEY,
            )
            yield SimpleNamespace(airflow=airflow, box=box, home=home)


def opened(up, dag_id: str, count: int = 1, seconds: float = 40) -> list:
    """Wait for this many incidents of a DAG; return all of them, with what asked for them."""
    key = f"airflow/tests/dag/{dag_id}/"

    def found() -> list:
        rows = [row for row in up.box.store.all() if row.request["idempotency_key"].startswith(key)]
        return rows if len(rows) >= count else []

    return up.airflow.wait(found, seconds, f"{count} incidents of {dag_id}")


def state_of_task(up, dag_id: str, task_id: str) -> str:
    """Return the state of a task instance of the first run."""
    return str(up.airflow.call("GET", f"dags/{dag_id}/dagRuns/first/taskInstances/{task_id}")["state"])


def processor_log(up, file: str) -> str:
    """Return all that the DAG processor's children wrote about one DAG file."""
    return "".join(log.read_text() for log in (up.home / "logs" / "dag_processor").rglob(f"{file}.py.log"))


def task_callback(up, dag_id: str, task_id: str):
    """Build what the scheduler sends for a task instance that it fails itself, as it builds it."""
    from airflow.api_fastapi.execution_api.datamodels.taskinstance import DagRun, TIRunContext
    from airflow.callbacks.callback_requests import TaskCallbackRequest
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    with up.airflow.session() as session:
        ti = session.scalars(select(TaskInstance).filter_by(dag_id=dag_id, task_id=task_id)).one()
        return TaskCallbackRequest(
            filepath=ti.dag_model.relative_fileloc,
            bundle_name="dags-folder",
            bundle_version=None,
            ti=ti,
            msg="Task was requeued more than 2 times and will be failed.",
            context_from_server=TIRunContext(
                dag_run=DagRun.model_validate(ti.dag_run, from_attributes=True),
                max_tries=ti.max_tries,
                variables=[],
                connections=[],
                xcom_keys_to_clear=[],
            ),
        )


def test_an_incident_is_open_while_the_run_goes_on(up):
    """A task that fails early has its incident within seconds, long before its run has ended."""
    up.airflow.trigger("early")
    (row,) = opened(up, "early")
    assert up.airflow.state("early") == "running"
    seconds = row.opened_at - float((up.home / "boom").read_text())
    print(f"\nfrom the exception to the open incident: {seconds:.2f} s")
    assert seconds < 5
    for dag_id in ("lost", "lost_with_retries", "late"):
        up.airflow.trigger(dag_id)
    text = row.incident["summary"]
    assert "no such table: orders" in text
    assert f"{up.airflow.url}/dags/early/runs/first/tasks/boom?try_number=1" in text


def test_a_cleared_run_that_fails_again_is_a_new_incident(up):
    """A failure that is new gets a new key; the two levels of each attempt share one."""
    up.airflow.trigger("cleared")
    opened(up, "cleared")
    up.airflow.wait(lambda: up.airflow.state("cleared") == "failed", 20, "a failed run")
    up.airflow.call("POST", "dags/cleared/clearTaskInstances", dag_run_id="first", dry_run=False)
    rows = opened(up, "cleared", 2)
    up.airflow.wait(lambda: up.airflow.state("cleared") == "failed", 20, "a run that failed again")
    first, second = (row.request["idempotency_key"] for row in rows)
    assert first == "airflow/tests/dag/cleared/run/first"
    assert second == "airflow/tests/dag/cleared/run/first/clear/1"
    assert "**Cleared:** once" in rows[1].incident["summary"]


def test_two_runs_in_one_batch_are_two_incidents(up):
    """One DAG-processor process tells two failed runs apart, though they share one notifier."""
    up.airflow.pause("dag-processor")
    try:
        for run_id in ("one", "two"):
            up.airflow.trigger("paired", run_id)
        for run_id in ("one", "two"):
            up.airflow.wait(lambda: up.airflow.state("paired", run_id) == "failed", 40, "a failed run")
    finally:
        up.airflow.resume("dag-processor")
    rows = opened(up, "paired", 2)
    assert len(set((up.home / "paired").read_text().split())) == 1, "not served by one process"
    assert {row.incident["name"] for row in rows} == {"Run one of paired", "Run two of paired"}
    for row in rows:
        run_id = row.incident["name"].split()[1]
        assert row.request["idempotency_key"] == f"airflow/tests/dag/paired/run/{run_id}"
        assert f"/runs/{run_id})" in row.incident["summary"]
        assert "- **Failed tasks:** `boom`, `shake_2[1]`\n" in row.incident["summary"]


def test_a_callback_told_nothing_but_the_run_opens_an_incident(up):
    """A context of DAG, run id and reason alone is enough."""
    from airflow.callbacks.callback_requests import DagCallbackRequest

    request = DagCallbackRequest(
        filepath="cleared.py",
        bundle_name="dags-folder",
        bundle_version=None,
        msg="timed_out",
        dag_id="cleared",
        run_id="forgotten",
    )
    up.airflow.send(request)
    (row,) = [row for row in opened(up, "cleared", 3) if row.request["idempotency_key"].endswith("/run/forgotten")]
    assert row.incident["name"] == "DAG cleared timed out"
    assert "- **Reason:** the run exceeded its time limit" in row.incident["summary"]


def test_an_operator_as_last_task_shows_its_incident_in_the_ui(up):
    """The task instance has a button that leads to the incident, and the run is still failed."""
    up.airflow.trigger("guarded")
    (row,) = opened(up, "guarded")
    up.airflow.wait(lambda: up.airflow.state("guarded") == "failed", 20, "a failed run")
    links = up.airflow.call("GET", "dags/guarded/dagRuns/first/taskInstances/tell/links")
    assert links["extra_links"] == {"incident.io": row.incident["permalink"]}


def test_a_lost_worker_is_one_incident(up):
    """Airflow calls twice for a task that vanished with its worker, and says no exception; one incident opens."""
    (row,) = opened(up, "lost", seconds=60)
    up.airflow.wait(lambda: up.airflow.state("lost") == "failed", 20, "a failed run")
    time.sleep(1)
    calls = [json.loads(line) for line in (up.home / "lost").read_text().splitlines()]
    assert [call for call in calls if call["dag"] == "lost"]
    assert not any(call["exception"] for call in calls)
    print(f"\ncalls for the lost worker: {calls}")
    assert len(opened(up, "lost")) == 1
    assert "`vanish`" in row.incident["summary"]


def test_a_lost_worker_with_retries_left_opens_nothing(up):
    """Airflow of itself calls nobody while another attempt is coming; where a version calls all the same, nothing opens."""
    up.airflow.wait(lambda: state_of_task(up, "lost_with_retries", "vanish") == "up_for_retry", 60, "retry")
    calls = up.home / "lost"
    before = calls.read_text().count("lost_with_retries")
    up.airflow.send(task_callback(up, "lost_with_retries", "vanish"))
    up.airflow.wait(lambda: calls.read_text().count("lost_with_retries") > before, 20, "callback")
    up.airflow.wait(lambda: "another attempt is coming" in processor_log(up, "lost"), 20, "line about the retry")
    assert [row for row in up.box.store.all() if "lost_with_retries" in row.request["idempotency_key"]] == []


def test_a_task_that_failed_for_good_with_retries_left_is_told(up):
    """A task stuck in the queue is failed by the scheduler whatever retries it has; its incident opens."""
    up.airflow.wait(lambda: state_of_task(up, "lost_with_retries", "vanish") == "up_for_retry", 60, "retry")
    request = task_callback(up, "lost_with_retries", "vanish")
    path = "dags/lost_with_retries/dagRuns/first/taskInstances/vanish"
    up.airflow.call("PATCH", path, new_state="failed")
    up.airflow.send(request)
    (row,) = opened(up, "lost_with_retries")
    assert "- **Task:** `vanish`, attempt 1 of 2" in row.incident["summary"]


def test_a_missed_deadline_opens_an_incident_from_the_triggerer(up):
    """A deadline alert opens an incident while the run goes on, with its own words."""
    (row,) = opened(up, "late", seconds=60)
    assert row.incident["name"] == "Run first is late"
    assert row.incident["mode"] == "test"
    assert row.request["idempotency_key"] == "airflow/tests/dag/late/run/first"
    assert "**Deadline:**" in row.incident["summary"]


def test_test_connection_asks_only_who_the_key_is(up):
    """The button in the connection's form opens nothing."""
    before = len(up.box.requests)
    answer = up.airflow.call(
        "POST", "connections/test", connection_id="new", conn_type="incident_io", host=up.box.url, password=KEY
    )
    assert answer["status"] is True
    assert "Sandbox key" in answer["message"]
    assert [seen.path for seen in up.box.requests[before:]] == ["/v1/identity"]


def test_the_key_is_in_no_log(up):
    """Neither a task's log, nor the DAG processor's, nor what any component prints, holds the API key."""
    logs = [file for folder in ("logs", "output") for file in (up.home / folder).rglob("*") if file.is_file()]
    texts = {file: file.read_bytes() for file in logs}
    assert any(b"incident.io: INC-" in text for text in texts.values()), "the logs tell nothing at all"
    assert [file for file, text in texts.items() if KEY.encode() in text] == []

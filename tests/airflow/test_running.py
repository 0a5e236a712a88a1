"""Failures in a whole Airflow that runs: scheduler, DAG processor, triggerer, api-server."""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_incident.core.settings import options_in
from airflow_incident.sandbox.server import Sandbox
from tests.airflow.running_airflow import RunningAirflow
from tests.airflow_versions import AIRFLOW, HAS_DEADLINES, LISTS_FAILED, RUNS_WHOLE

pytestmark = [pytest.mark.airflow, RUNS_WHOLE]

KEY = "inc-key-0f9a8b7c6d5e4f"
STORM = 12
"""Failed runs in one batch while incident.io hangs; one report after the other would take longer than a batch may."""

DAGS = {
    "early": """
import time
from pathlib import Path
from airflow.providers.common.compat.sdk import DAG, task
from airflow_incident import open_incident

with DAG("early", default_args={"on_failure_callback": open_incident()}, on_failure_callback=open_incident()):
    @task
    def boom():
        Path(NOTES, "boom").write_text(str(time.time()))
        raise ValueError("no such table: orders")

    @task
    def long():
        time.sleep(60)

    boom(), long()
""",
    "cleared": """
from airflow.providers.common.compat.sdk import DAG, task
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
from airflow.providers.common.compat.sdk import DAG, task
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
from airflow.providers.common.compat.sdk import DAG, task
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
from airflow.providers.common.compat.sdk import DAG, task
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
    "killed": """
import os, signal
from airflow.providers.common.compat.sdk import DAG, task
from airflow_incident import open_incident

with DAG("killed", default_args={"on_failure_callback": open_incident()}, on_failure_callback=open_incident()):
    @task
    def greedy():
        os.kill(os.getpid(), signal.SIGKILL)

    greedy()
""",
    "overtime": """
import time
from datetime import timedelta
from airflow.providers.common.compat.sdk import DAG, task
from airflow_incident import open_incident

with DAG("overtime", on_failure_callback=open_incident(), dagrun_timeout=timedelta(seconds=2)):
    @task
    def long():
        time.sleep(90)

    long()
""",
    "marked": """
import time
from airflow.providers.common.compat.sdk import DAG, task
from airflow_incident import open_incident

with DAG("marked", default_args={"on_failure_callback": open_incident()}, on_failure_callback=open_incident()):
    @task
    def long():
        time.sleep(90)

    long()
""",
    "outage": """
import time
from pathlib import Path
from airflow.providers.common.compat.sdk import DAG, task
from airflow_incident import open_incident

def note(context):
    with Path(NOTES, "outage").open("a") as notes:
        print(context["run_id"], time.time(), "task" if "exception" in context else "dag", file=notes)

callbacks = [open_incident(conn_id="hanging"), note]
with DAG("outage", default_args={"on_failure_callback": callbacks}, on_failure_callback=callbacks):
    @task(retries=0)
    def boom():
        print(time.time(), file=Path(NOTES, "outage_began").open("w"))
        raise ValueError("no")

    boom()
""",
    "late": """
import time
from datetime import timedelta
from airflow.sdk import DAG, task
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference
from airflow_incident import IncidentNotifier

alert = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT,
    interval=timedelta(seconds=1),
    callback=AsyncCallback(IncidentNotifier, kwargs={"name": "Run {{ dag_run.dag_run_id }} is late", "mode": "test"}),
)
with DAG("late", deadline=alert):
    @task
    def long():
        time.sleep(60)

    long()
""",
}
FROM_THE_START = ["early", "lost", "lost_with_retries", "late", "overtime", "marked", "killed", "outage"]
if not HAS_DEADLINES:
    del DAGS["late"]
    FROM_THE_START.remove("late")


@pytest.fixture(scope="module")
def up(airflow_db) -> Iterator[SimpleNamespace]:
    """Run a whole Airflow beside a sandbox; what takes long to fail has begun to."""
    with (
        tempfile.TemporaryDirectory(prefix="airflow-incident-", ignore_cleanup_errors=True) as folder,
        Sandbox(api_key=KEY) as box,
        Sandbox(api_key=KEY, fault="hang") as hanging,
    ):
        home = Path(folder)
        shutil.copy(airflow_db / "empty.db", home / "airflow.db")
        (home / "dags").mkdir()
        for name, source in DAGS.items():
            (home / "dags" / f"{name}.py").write_text(f"NOTES = {folder!r}\n{source}")
        with RunningAirflow(home) as airflow:
            for conn_id, host in {"incident_io_default": box.url, "hanging": hanging.url}.items():
                fields = {"conn_type": "incident_io", "host": host, "password": KEY}
                airflow.call("POST", "connections", connection_id=conn_id, **fields)
            for dag_id in FROM_THE_START:
                airflow.trigger(dag_id)
            airflow.send(*(dag_callback("outage", f"storm-{number}") for number in range(STORM)))
            yield SimpleNamespace(airflow=airflow, box=box, home=home)


def opened(up, dag_id: str, *runs: str) -> list:
    """Wait until these runs of a DAG have an incident; return all incidents of it, with what asked for them."""
    start = f"airflow/tests/dag/{dag_id}/run/"
    wanted = {start + run for run in runs or ("first",)}

    def found() -> list:
        rows = [row for row in up.box.store.all() if row.request["idempotency_key"].startswith(start)]
        return rows if wanted <= {row.request["idempotency_key"] for row in rows} else []

    return up.airflow.wait(found, 60, f"incident of {dag_id}")


def processor_log(up, file: str) -> str:
    """Return all that the DAG processor's children wrote about one DAG file."""
    return "".join(log.read_text() for log in (up.home / "logs" / "dag_processor").rglob(f"{file}.py.log"))


def told_of_outage(up, run_id: str, level: str) -> float:
    """Return when the callback after ours was called; 0 if it was not."""
    notes = up.home / "outage"
    lines = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
    return next((float(moment) for run, moment, where in lines if (run, where) == (run_id, level)), 0.0)


def dag_callback(dag_id: str, run_id: str):
    """Build what the scheduler sends for a run of which it knows nothing else."""
    from airflow.callbacks.callback_requests import DagCallbackRequest

    return DagCallbackRequest(
        filepath=f"{dag_id}.py",
        bundle_name="dags-folder",
        bundle_version=None,
        msg="timed_out",
        dag_id=dag_id,
        run_id=run_id,
    )


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
    (row,) = opened(up, "early")
    assert up.airflow.state("early") == "running"
    seconds = row.opened_at - float((up.home / "boom").read_text())
    print(f"\nfrom the exception to the open incident: {seconds:.2f} s")  # noqa: T201 -- a number worth seeing
    assert seconds < 5
    text = row.incident["summary"]
    assert "no such table: orders" in text
    assert f"{up.airflow.url}/dags/early/runs/first/tasks/boom?try_number=1" in text


def test_a_cleared_run_that_fails_again_is_a_new_incident(up):
    """A failure that is new gets a new key; the two levels of each attempt share one."""
    up.airflow.trigger("cleared")
    opened(up, "cleared")
    up.airflow.wait_for_state("failed", "cleared")
    up.airflow.call("POST", "dags/cleared/clearTaskInstances", dag_run_id="first", dry_run=False)
    opened(up, "cleared", "first", "first/clear/1")
    up.airflow.wait_for_state("failed", "cleared")
    time.sleep(1)
    rows = opened(up, "cleared")
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
            up.airflow.wait_for_state("failed", "paired", run_id)
    finally:
        up.airflow.resume("dag-processor")
    rows = opened(up, "paired", "one", "two")
    processes = set((up.home / "paired").read_text().split())
    assert len(processes) == 1 or AIRFLOW == (3, 0), "not served by one process"
    assert {row.incident["name"] for row in rows} == {"Run one of paired", "Run two of paired"}
    for row in rows:
        run_id = row.incident["name"].split()[1]
        assert row.request["idempotency_key"] == f"airflow/tests/dag/paired/run/{run_id}"
        assert f"/runs/{run_id})" in row.incident["summary"]
        listed = all(f"\n- `{task}`" in row.incident["summary"] for task in ("boom", "shake_2[1]"))
        assert listed is LISTS_FAILED


def test_a_callback_told_nothing_but_the_run_opens_an_incident(up):
    """A context of DAG, run id and reason alone is enough."""
    up.airflow.send(dag_callback("paired", "forgotten"))
    row = opened(up, "paired", "forgotten")[-1]
    assert row.incident["name"] == "Run forgotten of paired"
    assert "**Error:** the run exceeded its time limit" in row.incident["summary"]


def test_an_operator_as_last_task_shows_its_incident_in_the_ui(up):
    """The task instance has a button that leads to the incident, and the run is still failed."""
    up.airflow.trigger("guarded")
    (row,) = opened(up, "guarded")
    up.airflow.wait_for_state("failed", "guarded")
    links = up.airflow.call("GET", "dags/guarded/dagRuns/first/taskInstances/tell/links")
    assert links["extra_links"] == {"incident.io": row.incident["permalink"]}


def test_a_lost_worker_is_one_incident(up):
    """Airflow calls twice for a task that vanished with its worker, and says no exception; one incident opens."""
    (row,) = opened(up, "lost")
    up.airflow.wait_for_state("failed", "lost")
    time.sleep(1)
    calls = [json.loads(line) for line in (up.home / "lost").read_text().splitlines()]
    assert [call for call in calls if call["dag"] == "lost"]
    assert not any(call["exception"] for call in calls)
    assert len(opened(up, "lost")) == 1
    assert "`vanish`" in row.incident["summary"]


def test_a_lost_worker_with_retries_left_opens_nothing(up):
    """Airflow of itself calls nobody while another attempt is coming; where a version calls all the same, nothing opens."""
    up.airflow.wait_for_state("up_for_retry", "lost_with_retries", task_id="vanish")
    calls = up.home / "lost"
    before = calls.read_text().count("lost_with_retries")
    up.airflow.send(task_callback(up, "lost_with_retries", "vanish"))
    up.airflow.wait(lambda: calls.read_text().count("lost_with_retries") > before, 20, "callback")
    up.airflow.wait(lambda: "another attempt is coming" in processor_log(up, "lost"), 20, "line about the retry")
    assert [row for row in up.box.store.all() if "lost_with_retries" in row.request["idempotency_key"]] == []


@pytest.mark.skipif(AIRFLOW == (3, 0), reason="Airflow 3.0 sends the same while another attempt is coming")
def test_a_task_that_failed_for_good_with_retries_left_is_told(up):
    """A task stuck in the queue is failed by the scheduler whatever retries it has; its incident opens."""
    up.airflow.wait_for_state("up_for_retry", "lost_with_retries", task_id="vanish")
    request = task_callback(up, "lost_with_retries", "vanish")
    path = "dags/lost_with_retries/dagRuns/first/taskInstances/vanish"
    up.airflow.call("PATCH", path, new_state="failed")
    up.airflow.send(request)
    (row,) = opened(up, "lost_with_retries")
    assert "**Failed task:** `vanish`" in row.incident["summary"]
    assert "- **Attempt:** 1 of 2" in row.incident["summary"]


def test_a_task_fails_in_time_though_incident_io_hangs(up):
    """The callback gives up before Airflow kills its process; the next callback is called, the task has failed."""
    up.airflow.wait_for_state("failed", "outage")
    up.airflow.wait(lambda: told_of_outage(up, "first", "task"), 10, "word of the task's neighbour")
    seconds = told_of_outage(up, "first", "task") - float((up.home / "outage_began").read_text())
    print(f"\nfrom the exception to the next callback, in an outage: {seconds:.1f} s")  # noqa: T201 -- see above
    assert 10 < seconds < 16


def test_a_batch_of_failures_ends_in_time_though_incident_io_hangs(up):
    """Airflow kills a batch that takes too long, with all that is still to be told in it; ours never does."""
    runs = [f"storm-{number}" for number in range(STORM)]
    up.airflow.wait(lambda: all(told_of_outage(up, run, "dag") for run in runs), 60, "word of every run")
    moments = [told_of_outage(up, run, "dag") for run in runs]
    print(f"\nlast callback of the batch after the first: {max(moments) - min(moments):.1f} s")  # noqa: T201
    log = processor_log(up, "outage")
    assert all(f"NO incident was opened for DAG outage, run {run}:" in log for run in runs)
    # Two clocks end within a millisecond of each other, the budget's and the request's own: either may tell.
    waited = r"run storm-\d+: TransportError: (?:no answer within|ReadTimeout).* seconds=([\d.]+)\)"
    tries = [float(seconds) for seconds in re.findall(waited, log)]
    assert sum(seconds >= 0.5 for seconds in tries) >= STORM / 2  # a busy machine may leave the last ones less
    assert max(moments) - min(moments) < 50


def test_what_no_task_can_tell_is_told_by_the_dag(up):
    """A task that runs out of memory takes its callback with it; the DAG's tells, and lists the task."""
    (row,) = opened(up, "killed")
    assert row.incident["name"].startswith("DAG killed failed" + (": greedy" if LISTS_FAILED else ""))
    assert ("**Failed task:** `greedy`" in row.incident["summary"]) is LISTS_FAILED
    assert ("**Error:**" in row.incident["summary"]) is ("its process was killed" in row.incident["summary"])


def test_a_run_that_takes_too_long_is_told(up):
    """The limit of a run's time is the DAG's to tell."""
    (row,) = opened(up, "overtime")
    assert row.incident["name"].startswith("DAG overtime timed out")
    assert "**Error:** the run exceeded its time limit" in row.incident["summary"]


def test_a_task_marked_failed_by_hand_is_told(up):
    """A person who marks a task as failed fails the run, and the run's incident opens once."""
    up.airflow.wait_for_state("running", "marked", task_id="long")
    up.airflow.call("PATCH", "dags/marked/dagRuns/first/taskInstances/long", new_state="failed")
    (row,) = opened(up, "marked")
    assert ("**Failed task:** `long`" in row.incident["summary"]) is LISTS_FAILED


@pytest.mark.skipif(not HAS_DEADLINES, reason="Airflow before 3.1 has no deadline alerts")
def test_a_missed_deadline_opens_an_incident_from_the_triggerer(up):
    """A deadline alert opens an incident while the run goes on, with its own words."""
    (row,) = opened(up, "late")
    assert row.incident["name"] == "Run first is late"
    assert row.incident["mode"] == "test"
    assert row.request["idempotency_key"] == "airflow/tests/dag/late/run/first"
    assert "**Deadline:**" in row.incident["summary"]


@pytest.mark.skipif(AIRFLOW == (3, 0), reason="Airflow 3.0 has fields of a provider only beside the FAB provider")
def test_the_form_in_the_ui_has_every_option(up):
    """The UI asks the api-server for the form of each connection type."""
    (form,) = [
        row for row in up.airflow.call("GET", "/ui/connections/hook_meta") if row["connection_type"] == "incident_io"
    ]
    assert set(form["extra_fields"]) == {option.name for option in options_in("connection")}
    assert form["standard_fields"]["password"]["title"] == "API key"
    assert form["standard_fields"]["login"]["hidden"] is True


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
    opened(up, "lost")
    logs = [file for folder in ("logs", "output") for file in (up.home / folder).rglob("*") if file.is_file()]
    texts = {file: file.read_bytes() for file in logs}
    assert any(b"incident.io: INC-" in text for text in texts.values()), "the logs tell nothing at all"
    assert [file for file, text in texts.items() if KEY.encode() in text] == []

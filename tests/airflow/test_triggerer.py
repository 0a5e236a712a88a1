"""Eight of ours at once in a real triggerer, with a neighbour's task that must wake up: nobody's trigger is harmed."""

import json
import shutil
import time

import pytest

from airflow_incident.sandbox.server import Sandbox
from tests.airflow.running_airflow import RunningAirflow
from tests.airflow_versions import HAS_DEADLINES, RUNS_WHOLE

pytestmark = [pytest.mark.airflow, RUNS_WHOLE]

KEY = "inc-key-0f9a8b7c6d5e4f"
RUNS = [f"run-{number}" for number in range(8)]
HEAD = """
from datetime import timedelta
SECONDS = 20
INCIDENT = {incident!r}
PATIENT = dict(retries=3, retry_delay=timedelta(seconds=1))  # SQLite may be locked
"""
NEIGHBOUR = """
from airflow.providers.common.compat.sdk import DAG, BaseOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

class Nap(BaseOperator):
    def execute(self, context):
        trigger = TimeDeltaTrigger(timedelta(seconds=SECONDS))
        self.defer(trigger=trigger, method_name="wake", timeout=timedelta(minutes=3))

    def wake(self, context, event=None):
        print("awake")

with DAG("neighbour", default_args=PATIENT):
    Nap(task_id="nap")
"""
LATE = """
import time
from airflow.sdk import DAG, task
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference
from airflow_incident import IncidentNotifier

alert = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT,
    interval=timedelta(seconds=1),
    callback=AsyncCallback(IncidentNotifier, {}),
)
with DAG("late", deadline=alert):
    @task
    def long():
        time.sleep(90)

    long()
"""
HELD = """
from airflow.providers.common.compat.sdk import DAG
from airflow_incident import IncidentClosedSensor

with DAG("held", default_args=PATIENT):
    for number in range(4):
        IncidentClosedSensor(
            task_id=f"wait-{number}", incident_id=INCIDENT, deferrable=True, poke_interval=0.5, conn_id="boxed"
        )
"""


@pytest.fixture
def up(airflow_db, tmp_path, monkeypatch):
    """Run a whole Airflow with a journal, beside a sandbox that has an incident open."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    for limit in ("STORM_LIMIT", "STORM_LIMIT_PER_DAG"):
        monkeypatch.setenv(f"AIRFLOW__INCIDENT_IO__{limit}", "0")
    shutil.copy(airflow_db / "empty.db", tmp_path / "airflow.db")
    with Sandbox(api_key=KEY) as box:
        incident = box.store.create({"idempotency_key": "held", "visibility": "public"}, "v2")["id"]
        sources = {"neighbour": NEIGHBOUR, "held": HELD} | ({"late": LATE} if HAS_DEADLINES else {})
        (tmp_path / "dags").mkdir()
        for name, source in sources.items():
            (tmp_path / "dags" / f"{name}.py").write_text(HEAD.format(incident=incident) + source)
        with RunningAirflow(tmp_path) as airflow:
            for conn_id in ("incident_io_default", "boxed"):
                fields = {"conn_type": "incident_io", "host": box.url, "password": KEY}
                airflow.call("POST", "connections", connection_id=conn_id, **fields)
            yield airflow, box, incident


def journal(airflow) -> dict:
    """Return what the journal's records say of each run of the DAG: its state and its incident."""
    variables = airflow.call("GET", "variables?limit=100&variable_key_pattern=incident_io.late%25")["variables"]
    records = [json.loads(variable["value"]) for variable in variables]
    return {record["run_id"]: record["state"] for record in records if record["run_id"] and record["scope"] != "dag"}


def said(airflow) -> str:
    """Return what the triggerer wrote, itself and for each trigger."""
    logs = [airflow.output / "triggerer.log", *(airflow.home / "logs").rglob("*.trigger.*.log")]
    return "".join(log.read_text(errors="replace") for log in logs)


def test_a_neighbour_s_task_wakes_up_though_eight_of_ours_came_at_once(up):
    """Eight missed deadlines and four deferred sensors, written down and sent; no trigger of anybody is lost."""
    airflow, box, incident = up
    airflow.trigger("neighbour", "before")
    airflow.wait_for_state("deferred", "neighbour", "before", task_id="nap")
    airflow.pause("triggerer")
    try:
        airflow.trigger("held")
        for number in range(4):
            airflow.wait_for_state("deferred", "held", task_id=f"wait-{number}")
        if HAS_DEADLINES:
            for run_id in RUNS:
                airflow.trigger("late", run_id)
            time.sleep(12)  # the scheduler finds missed deadlines when it looks for them
    finally:
        airflow.resume("triggerer")
    if HAS_DEADLINES:
        wanted = {f"airflow/tests/dag/late/run/{run_id}" for run_id in RUNS}
        keys = lambda: {row.request["idempotency_key"] for row in box.store.all()}  # noqa: E731
        airflow.wait(lambda: wanted <= keys(), 60, "incident of each run")
        airflow.wait(lambda: journal(airflow) == dict.fromkeys(RUNS, "open"), 30, "record of each run")
    airflow.trigger("neighbour", "after")
    box.move(incident, "learning")
    for run_id in ("before", "after"):
        airflow.wait_for_state("success", "neighbour", run_id)
    airflow.wait_for_state("success", "held")
    text = said(airflow)
    assert "Response read out of order" not in text
    assert "different loop" not in text
    assert "the journal cannot be used" not in text
    assert text.count("Starting the triggerer") == 1

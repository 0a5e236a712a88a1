"""The watcher beside a whole Airflow that runs: what no callback tells. `make watched` is the same in trouble."""

import shutil
import subprocess
import sys
from datetime import timedelta

import pytest

from airflow_incident.sandbox.server import Sandbox
from airflow_incident.watcher.state import NAME, read_state
from tests.airflow.running_airflow import RunningAirflow
from tests.airflow_versions import RUNS_WHOLE, since

pytestmark = [pytest.mark.airflow, RUNS_WHOLE]

OPTIONS = {
    "INCIDENT_IO__AUTO_OPEN": "True",
    "INCIDENT_IO__AUTO_RESOLVE": "True",
    "INCIDENT_IO__IMPORT_ERRORS": "True",
    "INCIDENT_IO__IMPORT_ERROR_MINUTES": "0",
    "INCIDENT_IO__JOURNAL": "True",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "2",
}
WAITS = """
import time
from pathlib import Path
from airflow.providers.common.compat.sdk import DAG, task

@task
def load():
    while not Path(__file__).with_name("mended").exists():
        time.sleep(0.1)

with DAG("orders", schedule=None):
    load()
"""
SOUND = "from airflow.providers.common.compat.sdk import DAG\nDAG('mends', schedule=None)\n"
LONG_AGO = timedelta(minutes=5)


@pytest.fixture(scope="module")
def box():
    with Sandbox() as served:
        yield served


@pytest.fixture(scope="module")
def airflow(airflow_db, box, tmp_path_factory):
    """Run a whole Airflow in which the watcher was turned on before anything failed."""
    home = tmp_path_factory.mktemp("watched")
    shutil.copy(airflow_db / "empty.db", home / "airflow.db")
    (home / "dags").mkdir()
    (home / "dags" / "orders.py").write_text(WAITS)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in OPTIONS.items():
            environment.setenv(f"AIRFLOW__{name}", value)
        with RunningAirflow(home) as running:
            fields = {"conn_type": "incident_io", "host": box.url, "password": box.api_key}
            running.call("POST", "connections", connection_id="incident_io_default", **fields)
            assert "nothing differs" in watch(running)
            turn_on_earlier(running)
            yield running


def watch(airflow) -> str:
    """Let the watcher have one round, and return what it says."""
    command = [sys.executable, "-m", "airflow_incident.cli.main", "watch", "--once"]
    done = subprocess.run(command, env=airflow._environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def turn_on_earlier(airflow) -> None:
    """Let the watcher have been turned on before anything that these tests let fail."""
    from sqlalchemy import text

    with airflow.session() as session:
        state = read_state(session.scalar(text("SELECT val FROM variable WHERE key = :key"), {"key": NAME}))
        earlier = state._replace(opens_since=state.opens_since - LONG_AGO)
        session.execute(text("UPDATE variable SET val = :val WHERE key = :key"), {"key": NAME, "val": earlier.text()})
        session.commit()


def let_time_pass(airflow) -> None:
    """Let every run have ended long ago: callbacks have had their time."""
    from airflow.models import DagRun

    with airflow.session() as session:
        for run in session.query(DagRun).filter(DagRun.end_date.is_not(None)):
            run.end_date -= LONG_AGO
        session.commit()


def seen(box) -> list[tuple[str, str]]:
    """List the incidents: what each is for, and its status."""
    return [
        (row.request["idempotency_key"].removeprefix("airflow/tests/"), row.incident["incident_status"]["category"])
        for row in box.all()
    ]


def test_a_run_marked_by_hand_has_its_incident_and_a_cleared_one_recovers_without_a_dag_processor(airflow, box):
    """Airflow calls nobody for a run that is marked as failed, nor, while its DAG processor is away, for a success."""
    airflow.trigger("orders")
    airflow.wait_for_state("running", "orders", task_id="load")
    airflow.call("PATCH", "dags/orders/dagRuns/first", state="failed")
    assert "nothing differs" in watch(airflow)
    assert seen(box) == []
    let_time_pass(airflow)
    assert "failed runs without an incident: 1" in watch(airflow)
    assert seen(box) == [("dag/orders/run/first", "triage")]
    airflow.pause("dag-processor")
    (airflow.home / "dags" / "mended").touch()
    airflow.call("POST", "dags/orders/clearTaskInstances", dag_run_id="first", dry_run=False, only_failed=False)
    airflow.wait(lambda: airflow.state("orders") == "success", 60, "success")
    let_time_pass(airflow)
    assert "open incidents of successful runs: 1" in watch(airflow)
    assert seen(box) == [("dag/orders/run/first", "closed")]
    airflow.resume("dag-processor")


@since("3.1", "import errors that always go with the file or its mistake")
def test_a_dag_file_has_an_incident_while_it_cannot_be_imported(airflow, box):
    """The DAG processor says so in the database, until the file is mended or gone."""
    box.clear()
    files = {name: airflow.home / "dags" / f"{name}.py" for name in ("mends", "goes")}
    for file in files.values():
        file.write_text(f"{SOUND}import no_such_package\n")
    airflow.wait(lambda: len(errors(airflow)) == 2, 60, "import errors")
    assert "broken DAG files without an incident: 2" in watch(airflow)
    assert "nothing differs" in watch(airflow)
    assert {key.split("/")[-2]: status for key, status in seen(box)} == {"mends.py": "triage", "goes.py": "triage"}
    assert all("no_such_package" in row.incident["summary"] for row in box.all())
    files["mends"].write_text(SOUND)
    files["goes"].unlink()
    airflow.wait(lambda: not errors(airflow), 60, "mended files")
    assert "open incidents of mended DAG files: 2" in watch(airflow)
    assert {status for _, status in seen(box)} == {"closed"}


def errors(airflow) -> list:
    return airflow.call("GET", "importErrors")["import_errors"]

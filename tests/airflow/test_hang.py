"""Tasks that fail while Airflow's API server is away: no process of theirs is left waiting for it."""

import shutil
import time
from pathlib import Path

import pytest

from airflow_incident.sandbox.server import Sandbox
from tests.airflow.running_airflow import RunningAirflow
from tests.airflow_versions import RUNS_WHOLE

pytestmark = [pytest.mark.airflow, RUNS_WHOLE]

AWAY = 25
DOOMED = """
import os, time
from pathlib import Path
from airflow.providers.common.compat.sdk import DAG, task
from airflow_incident import open_incident

with DAG("doomed", default_args={"on_failure_callback": open_incident()}, on_failure_callback=open_incident()):
    @task
    def boom(number, run_id=None):
        Path(NOTES, f"{run_id}-{os.getpid()}").touch()
        while not Path(NOTES, f"go-{run_id}").exists():
            time.sleep(0.1)
        time.sleep(number / 2)
        raise ValueError("no such table: orders")

    boom.expand(number=[0, 1, 2])
"""


@pytest.fixture(scope="module")
def served():
    """Serve one sandbox for both."""
    with Sandbox() as box:
        yield box


@pytest.fixture(scope="module")
def airflow(airflow_db, served, tmp_path_factory):
    """Run a whole Airflow with a journal."""
    home = tmp_path_factory.mktemp("hang")
    shutil.copy(airflow_db / "empty.db", home / "airflow.db")
    (home / "dags").mkdir()
    (home / "dags" / "doomed.py").write_text(f"NOTES = {str(home)!r}\n{DOOMED}")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
        with RunningAirflow(home) as running:
            fields = {"conn_type": "incident_io", "host": served.url, "password": served.api_key}
            running.call("POST", "connections", connection_id="incident_io_default", **fields)
            yield running


def processes(home: Path, run_id: str) -> list[int]:
    """Return the task processes of a run that have begun."""
    return [int(note.name.rpartition("-")[2]) for note in home.glob(f"{run_id}-*")]


def lives(pid: int) -> bool:
    """Return whether a process is there, and no zombie."""
    try:
        return ") Z " not in Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("trouble", ["killed", "stopped"])
def test_no_task_process_is_left_when_the_api_server_was_away(airflow, served, trouble):
    """Each ends in its callback's time, whatever becomes of its supervisor; the incident opens once all is back."""
    home = airflow.home
    served.clear()
    airflow.trigger("doomed", trouble)
    airflow.wait(lambda: len(processes(home, trouble)) == 3, 60, "three tasks")
    (airflow.kill if trouble == "killed" else airflow.pause)("api-server")
    (home / f"go-{trouble}").touch()
    time.sleep(AWAY)
    (airflow.start if trouble == "killed" else airflow.resume)("api-server")
    airflow.wait_until_healthy()
    airflow.wait(lambda: not any(map(lives, processes(home, trouble))), 20, "end of every task process")
    airflow.wait(lambda: served.incidents, 90, "incident")
    airflow.wait_for_state("failed", "doomed", trouble)
    assert len(served.incidents) == 1

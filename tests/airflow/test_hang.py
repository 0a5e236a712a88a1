"""Tasks that fail while Airflow's API server is away: no process of theirs is left waiting for it."""

import shutil
import time
from pathlib import Path

import pytest

from tests.airflow.running_airflow import RunningAirflow
from tests.airflow_versions import RUNS_WHOLE

pytestmark = [pytest.mark.airflow, RUNS_WHOLE]

AWAY = 25
DOOMED = """
import os, time
from pathlib import Path
from airflow.providers.common.compat.sdk import DAG, task
from airflow_incident import open_incident

def note(context):
    Path(NOTES, f"after-{os.getpid()}").touch()

with DAG("doomed", default_args={"on_failure_callback": [open_incident(), note]}, on_failure_callback=open_incident()):
    @task
    def boom(number):
        Path(NOTES, f"task-{os.getpid()}").touch()
        while not Path(NOTES, "go").exists():
            time.sleep(0.1)
        time.sleep(number / 2)
        raise ValueError("no such table: orders")

    boom.expand(number=[0, 1, 2])
"""


@pytest.fixture
def airflow(airflow_db, tmp_path, monkeypatch):
    """Run a whole Airflow with a journal."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    shutil.copy(airflow_db / "empty.db", tmp_path / "airflow.db")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "doomed.py").write_text(f"NOTES = {str(tmp_path)!r}\n{DOOMED}")
    with RunningAirflow(tmp_path) as running:
        yield running


def processes(home: Path) -> dict[int, float]:
    """Return the task processes that have begun, and when."""
    return {int(note.name.partition("-")[2]): note.stat().st_mtime for note in home.glob("task-*")}


def lives(pid: int) -> bool:
    """Return whether a process is there, and no zombie."""
    try:
        return ") Z " not in Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("trouble", ["killed", "stopped"])
def test_no_task_process_is_left_when_the_api_server_was_away(airflow, sandbox, trouble):
    """Each ends in its callback's time, whatever becomes of its supervisor; the incident opens once all is back."""
    home = airflow.home
    fields = {"conn_type": "incident_io", "host": sandbox.url, "password": sandbox.api_key}
    airflow.call("POST", "connections", connection_id="incident_io_default", **fields)
    airflow.trigger("doomed")
    airflow.wait(lambda: len(processes(home)) == 3, 60, "three tasks")
    (airflow.kill if trouble == "killed" else airflow.pause)("api-server")
    (home / "go").touch()
    time.sleep(AWAY)
    (airflow.start if trouble == "killed" else airflow.resume)("api-server")
    airflow.wait_until_healthy()
    airflow.wait(lambda: not any(map(lives, processes(home))), 20, "end of every task process")
    airflow.wait(lambda: sandbox.incidents, 90, "incident")
    airflow.wait_for_state("failed", "doomed")
    assert len(sandbox.incidents) == 1

"""A failure while incident.io is away, in a whole Airflow that runs: kept, then delivered by the flush DAG."""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_incident.sandbox.fault import FaultProxy
from tests.airflow.running_airflow import RunningAirflow
from tests.airflow_versions import CAN_LIST, RUNS_WHOLE

pytestmark = [pytest.mark.airflow, RUNS_WHOLE]

FLUSH = Path(__file__).parents[2] / "dags" / "incident_io_flush.py"
ORDERS = """
import time
from pathlib import Path
from airflow.providers.common.compat.sdk import DAG, task
from airflow_incident import open_incident

with DAG("orders", default_args={"on_failure_callback": open_incident()}, on_failure_callback=open_incident()):
    @task
    def load():
        Path(NOTES, "failed_at").write_text(str(time.time()))
        raise ValueError("three bad rows")

    load()
"""


@pytest.fixture
def airflow(airflow_db, tmp_path, monkeypatch):
    """Run a whole Airflow whose journal is on."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    shutil.copy(airflow_db / "empty.db", tmp_path / "airflow.db")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "orders.py").write_text(f"NOTES = {str(tmp_path)!r}\n{ORDERS}")
    shutil.copy(FLUSH, tmp_path / "dags")
    with RunningAirflow(tmp_path) as running:
        yield running


def command(home: Path, *arguments: str) -> str:
    """Run `airflow-incident journal` beside the database, and return what it prints."""
    given = [sys.executable, "-m", "airflow_incident.cli.main", "journal", *arguments]
    environment = os.environ | {"AIRFLOW_HOME": str(home)}
    return subprocess.run(given, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


def journal(home: Path) -> list:
    """Ask the command what is written down, and its key."""
    told = json.loads(command(home, "list", "--json"))
    assert told["unreadable"] == {}
    return told["records"]


def task_says(airflow) -> str:
    """Return the log of the flush DAG's task."""
    (log,) = (airflow.home / "logs" / "dag_id=incident_io_flush" / "run_id=by_hand").rglob("attempt=1.log")
    return log.read_text()


def processor_says(airflow, text: str) -> bool:
    """Return whether the DAG processor has written this about the DAG."""
    logs = (airflow.home / "logs" / "dag_processor").rglob("orders.py.log")
    return any(text in log.read_text() for log in logs)


def test_what_fails_while_incident_io_is_away_is_delivered_when_it_is_back(airflow, sandbox):
    """By the flush DAG as it is shipped: one incident for both levels, with the time of the failure.

    On Airflow 3.0 to 3.2 that DAG fails and names the command, which delivers it.
    """
    with FaultProxy(sandbox.direct_port, "refuse") as wire:
        connection = {"conn_type": "incident_io", "host": wire.url, "password": sandbox.api_key}
        airflow.call("POST", "connections", connection_id="incident_io_default", **connection)
        airflow.trigger("orders")
        airflow.wait_for_state("failed", "orders")
        airflow.wait(lambda: processor_says(airflow, "kept in the journal"), 30, "word of the DAG's callback")
        (record,) = journal(airflow.home)
        assert (record["state"], record["dag_id"], record["run_id"]) == ("pending", "orders", "first")
        assert sandbox.incidents == []
        wire.heal()
        airflow.trigger("incident_io_flush", "by_hand")
        if not CAN_LIST:
            airflow.wait_for_state("failed", "incident_io_flush", "by_hand")
            said = task_says(airflow)
            assert "tasks list Variables from Airflow 3.3 on" in said
            assert "airflow-incident journal flush" in said
            command(airflow.home, "flush")
        else:
            airflow.wait_for_state("success", "incident_io_flush", "by_hand")
        (incident,) = sandbox.incidents
        failed_at = datetime.fromtimestamp(float((airflow.home / "failed_at").read_text()), UTC)
        told = re.search(r"\*\*Failed at:\*\* (\S+ \S+) UTC", incident["summary"])[1]
        assert abs((datetime.fromisoformat(told).replace(tzinfo=UTC) - failed_at).total_seconds()) < 3
        assert "three bad rows" in incident["summary"]
        (record,) = journal(airflow.home)
        assert (record["state"], record["incident"]["reference"]) == ("opened", "INC-1")

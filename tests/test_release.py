"""The whole way on what an Airflow's release had: Airflow finds us, a DAG fails, and its incident is closed."""

import json
import os
import subprocess
import sys

import pytest

import airflow_incident
from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.delivery.record import PREFIX
from airflow_incident.provider import get_provider_info
from tests.airflow_dags import load_dag
from tests.airflow_versions import AIRFLOW

pytestmark = pytest.mark.release

AS_USERS_DO = {
    2: "from airflow import DAG\nfrom airflow.decorators import task",
    3: "from airflow.sdk import DAG, task",
}
SOURCE = f"""
{AS_USERS_DO[AIRFLOW[0]]}
from airflow_incident import open_incident, resolve_incident

on_failure = {{"on_failure_callback": open_incident(severity="major")}}

with DAG(
    "released",
    default_args={{"retries": 0}} | on_failure,
    on_success_callback=resolve_incident(),
    schedule=None,
    **on_failure,
) as dag:
    @task
    def boom():
        raise ValueError("no such table: orders")

    boom()
"""


def ask(*command: str) -> str:
    """Run a command of this environment; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", *command], env=os.environ, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_everything_public_can_be_imported():
    """By name, and what a provider declares by its path."""
    for name in airflow_incident.__all__:
        assert getattr(airflow_incident, name)
    assert "incident_io" in json.dumps(get_provider_info())
    assert airflow_incident.__version__ in ask("airflow_incident.cli.main", "--version")


def test_airflow_lists_provider_and_plugin(airflow_db):
    """As its commands tell them."""
    assert "airflow-incident" in ask("airflow", "providers", "list", "--output", "plain")
    assert "incident_io" in ask("airflow", "plugins", "--output", "plain")


def test_a_dag_that_fails_opens_one_incident(airflow_db, connected, monkeypatch):
    """Both levels tell it, the journal knows it, and a cleared run that succeeds closes it."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    dag = load_dag(airflow_db, SOURCE, "released")
    run = dag.test()
    assert run.state == "failed"
    (incident,) = connected.incidents
    assert incident["severity"]["name"] == "Major"
    assert "`boom`" in incident["summary"]
    assert any("released" in name for name in Variables().names(PREFIX))
    run.clear_number = 1
    dag.on_success_callback({"dag": dag, "dag_run": run, "run_id": run.run_id, "reason": "success"})
    assert connected.incidents[0]["status"] == "closed"

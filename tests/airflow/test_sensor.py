"""A deferred sensor in a whole Airflow that runs: it waits in the triggerer, and a lost triggerer changes nothing."""

import shutil

import pytest

from airflow_incident.sandbox.fault import FaultProxy
from tests import contract
from tests.airflow.running_airflow import RunningAirflow
from tests.airflow_versions import RUNS_WHOLE

pytestmark = [pytest.mark.airflow, RUNS_WHOLE]

HELD = """
from airflow.providers.common.compat.sdk import DAG
from airflow_incident import IncidentClosedSensor

with DAG("held"):
    IncidentClosedSensor(task_id="wait", severity="Major", deferrable=True, poke_interval=1)
"""


@pytest.fixture
def airflow(airflow_db, tmp_path, monkeypatch):
    """Run a whole Airflow that soon misses a lost triggerer."""
    monkeypatch.setenv("AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD", "5")
    monkeypatch.setenv("AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC", "1")
    shutil.copy(airflow_db / "empty.db", tmp_path / "airflow.db")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "held.py").write_text(HELD)
    with RunningAirflow(tmp_path) as running:
        yield running


def looks(sandbox) -> int:
    """Count how often it was asked what is open."""
    return sum(seen.path == "/v2/incidents" for seen in sandbox.requests)


def test_a_deferred_sensor_outlives_an_outage_and_its_triggerer(airflow, sandbox):
    """It ends when a person closes the incident, and not before."""
    severity = sandbox.catalogue.severities[-1]["id"]
    body = {"idempotency_key": "k", "visibility": "public", "severity_id": severity}
    incident = sandbox.store.create(body, "v2")
    with FaultProxy(sandbox.direct_port, "none") as wire:
        connection = {"conn_type": "incident_io", "host": wire.url, "password": sandbox.api_key}
        airflow.call("POST", "connections", connection_id="incident_io_default", **connection)
        airflow.trigger("held")
        airflow.wait_for_state("deferred", "held", task_id="wait")
        airflow.wait(lambda: looks(sandbox) > 2, 60, "look of the triggerer")
    address = {"connection_id": "incident_io_default", "conn_type": "incident_io", "password": sandbox.api_key}
    airflow.restart("triggerer")
    airflow.call("PATCH", "connections/incident_io_default", host=sandbox.url, **address)
    before = looks(sandbox)
    airflow.wait(lambda: looks(sandbox) > before + 1, 90, "look of another triggerer")
    assert airflow.state("held") == "running"
    sandbox.move(incident["id"], "learning")
    airflow.wait_for_state("success", "held")
    contract.check_all(sandbox)

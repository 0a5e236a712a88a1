"""Failures in a real Airflow, from the callback to the incident."""

import pytest
from tests.airflow_dags import load_dag

pytestmark = pytest.mark.airflow


def test_x(airflow_db, connected):
    """One."""
    dag = load_dag(airflow_db, """
from airflow.sdk import DAG, task
from airflow_incident import open_incident
with DAG("x1", default_args={"on_failure_callback": open_incident()}, on_failure_callback=open_incident()) as dag:
    @task
    def boom():
        raise ValueError("no such thing")
    boom()
""", "x1")
    run = dag.test()
    assert run.state == "failed"
    print(connected.incidents)
    print([r.body for r in connected.requests])
    assert len(connected.incidents) == 1


def test_y(airflow_db, connected):
    """One."""
    dag = load_dag(airflow_db, """
from airflow.sdk import DAG, task
from airflow_incident import open_incident
with DAG("x2", on_failure_callback=open_incident()) as dag:
    @task
    def boom():
        raise ValueError("no such thing")
    boom()
""", "x2")
    run = dag.test()
    assert run.state == "failed"
    print(connected.incidents)
    assert len(connected.incidents) == 1

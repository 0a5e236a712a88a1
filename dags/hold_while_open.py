"""Publishes nothing while an incident of severity Major or above is open."""

from airflow.sdk import DAG, task

from airflow_incident import IncidentClosedSensor

with DAG("hold_while_open", schedule=None):

    @task
    def publish() -> None:
        print("published")  # noqa: T201 -- what a task prints is in its log

    wait = IncidentClosedSensor(
        task_id="wait",
        severity="Major",
        deferrable=True,  # waits in the triggerer, without a worker's slot
        poke_interval=60,
        timeout=6 * 60 * 60,  # fails after six hours
    )
    wait >> publish()

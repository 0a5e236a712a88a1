"""The recommended way: a task tells at once, the DAG tells what no task can, and a recovery closes the incident."""

from airflow.sdk import DAG, task

from airflow_incident import open_incident, resolve_incident

on_failure = open_incident(severity="Major", custom_fields={"Affected team": "Product"})

with DAG(
    "both_levels",
    schedule=None,
    default_args={"on_failure_callback": on_failure},  # at once, with the exception
    on_failure_callback=on_failure,  # out of memory, timeouts, marked by hand: the same incident
    on_success_callback=resolve_incident(),  # the run was cleared and succeeds: its incident is closed
):

    @task
    def extract() -> int:
        return 42

    @task
    def load(rows: int) -> None:
        raise RuntimeError(f"the warehouse refused {rows} rows")

    load(extract())

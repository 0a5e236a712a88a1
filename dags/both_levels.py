"""A task reports at once, the DAG what no task can, and a recovery closes the incident."""

from airflow.sdk import DAG, task

from airflow_incident import open_incident, resolve_incident

on_failure = open_incident(severity="Major")

with DAG(
    "both_levels",
    schedule=None,
    default_args={"on_failure_callback": on_failure},  # at once, with the exception
    on_failure_callback=on_failure,  # out of memory, time-outs: the same incident
    on_success_callback=resolve_incident(),  # cleared, the run succeeds: closed
):

    @task
    def extract() -> int:
        return 42

    @task
    def load(rows: int) -> None:
        raise RuntimeError(f"the warehouse refused {rows} rows")

    load(extract())

"""The recommended way: a task tells at once and with its exception, the DAG tells what no task can."""

from airflow.sdk import DAG, task

from airflow_incident import open_incident

with DAG(
    "both_levels",
    schedule=None,
    default_args={"on_failure_callback": open_incident()},  # at once, with the exception
    on_failure_callback=open_incident(),  # out of memory, timeouts, marked by hand: the same incident
):

    @task
    def extract() -> int:
        return 42

    @task
    def load(rows: int) -> None:
        raise RuntimeError(f"the warehouse refused {rows} rows")

    load(extract())

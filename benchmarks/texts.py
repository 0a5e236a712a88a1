"""Measure what an incident's text costs, of an ordinary failure and of a huge one: `python -m benchmarks.texts`."""

import statistics
import time

from airflow_incident.core import text
from airflow_incident.core.failure import Failure
from airflow_incident.core.redaction import redact_secrets
from benchmarks.tables import table

TIMES = 20
LINE = "2026-11-23 INFO password of key=3 token: in a log\n"


def _failure(lines: int, tasks: int) -> Failure:
    many = tuple(f"task_{number}" for number in range(tasks))
    return Failure(
        dag_id="orders",
        run_id="scheduled__1",
        level="task",
        task_id="load",
        exception_type="ValueError",
        exception=LINE * lines,
        log_tail=LINE * lines,
        failed_tasks=many,
        raised_at="/opt/airflow/dags/orders.py:58",
        operator="SQLExecuteQueryOperator",
        task_doc="Loads the orders of a day.",
        task_fields={"conn_id": "warehouse", "database": "shop"},
        host="worker-3",
        instances={"load": tasks},
        run_url="https://airflow.example.com/dags/orders/runs/scheduled__1",
        log_url="https://airflow.example.com/dags/orders/runs/scheduled__1/tasks/load",
        downstream=many,
        downstream_count=tasks,
        assets=many,
    )


def _milliseconds(failure: Failure) -> list[float]:
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        text.summary(text.redacted(failure, redact_secrets), deployment="prod")
        text.title(failure, whole_run=True)
        took.append((time.perf_counter() - began) * 1000)
    return took


def main() -> None:
    """Print medians of title and text with all the redaction, in ms."""
    cases = {"an ordinary failure": (3, 2), "2 MB of exception and of log, 10,000 tasks": (40_000, 10_000)}
    rows = [(name, f"{statistics.median(_milliseconds(_failure(*size))):.1f}") for name, size in cases.items()]
    print(table(f"title and text with all the redaction, medians of {TIMES}", ("failure", "ms"), rows))


if __name__ == "__main__":
    main()

"""The process that is measured: parses one DAG file, calls its callback twice, and tells what all that cost.

Reads a job from standard input and writes its figures to standard output, both as JSON; times in milliseconds.
"""

import contextlib
import json
import sys
from datetime import UTC, datetime
from importlib import import_module
from time import perf_counter
from types import SimpleNamespace
from typing import Any


def measure(job: dict[str, Any]) -> dict[str, float]:
    """Parse the job's DAG file after Airflow itself, then call what it names `callback`, for one run and another."""
    began = perf_counter()
    from airflow.sdk import DAG

    dag = DAG("orders", schedule=None)
    figures = {"base_ms": _since(began)}
    for module in job["loaded"]:
        import_module(module)
    _forget_what_airflow_asked_for()
    before = set(sys.modules)
    names: dict[str, Any] = {}
    began = perf_counter()
    exec(job["dag_file"], names)
    figures["parse_ms"] = _since(began)
    figures["modules"] = len(set(sys.modules) - before)
    if "callback" in names:
        cold, warm = _context(dag, day=1), _context(dag, day=2)
        exec(job["unmeasured"], names)
        began = perf_counter()
        names["callback"](cold)
        figures["notify_ms"] = _since(began)
        began = perf_counter()
        names["callback"](warm)
        figures["warm_ms"] = _since(began)
    return figures


def _forget_what_airflow_asked_for() -> None:
    """Drop what Airflow has loaded of this package where it is installed: a provider's declaration."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "airflow_incident"]:
        del sys.modules[name]


def _context(dag: Any, *, day: int) -> dict[str, Any]:
    """Make what a failed task's callback is given."""
    now = datetime.now(UTC)
    run_id = f"scheduled__2026-01-{day:02d}T00:00:00+00:00"
    ti = {"task_id": "load", "try_number": 1, "max_tries": 0, "map_index": -1}
    run = {"dag_id": dag.dag_id, "run_id": run_id, "end_date": now}
    return {
        "dag": dag,
        "dag_run": SimpleNamespace(**run, run_type="scheduled", clear_number=0, logical_date=now),
        "run_id": run_id,
        "ti": SimpleNamespace(**run, **ti),
        "exception": ValueError("3 rows have no customer"),
        "logical_date": now,
    }


def _since(began: float) -> float:
    return (perf_counter() - began) * 1000


if __name__ == "__main__":
    job = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # Airflow may log to standard output
        figures = measure(job)
    json.dump(figures, sys.stdout)

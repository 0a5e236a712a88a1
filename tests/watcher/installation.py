"""The tests' own Airflow with runs in its database, as its scheduler leaves them, and a watcher over it."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.cli.watch import WatcherCallbacks, duties_of, read_settings
from airflow_incident.watcher.round import Round, Watcher
from airflow_incident.watcher.state import NAME, State
from tests.journal_records import forget_all

SOURCE = """
from datetime import datetime
from airflow.providers.common.compat.sdk import DAG, BaseOperator


class Step(BaseOperator):
    def execute(self, context):
        pass


def dag(dag_id, *tags):
    with DAG(dag_id, schedule=None, start_date=datetime(2026, 1, 1), tags=list(tags)) as made:
        Step(task_id="load") >> Step(task_id="report")
    globals()[dag_id] = made


dag("orders", "finance")
dag("quiet", "incident:off")
dag("loud", "incident:severity=Critical")
dag("elsewhere", "incident:conn=other")
"""
ENDED = timedelta(minutes=10)


def install_dags(folder: Path) -> None:
    """Let Airflow read the DAG file into its database, as its DAG processor does."""
    folder.mkdir()
    (folder / "watched.py").write_text(SOURCE)
    told = os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(folder)}
    command = [sys.executable, "-m", "airflow", "dags", "reserialize"]
    done = subprocess.run(command, env=told, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def session() -> Any:
    from airflow.utils.session import create_session

    with create_session() as opened:
        yield opened


def table(model: str) -> Any:
    from airflow import models
    from airflow.models.errors import ParseImportError

    return (ParseImportError if model == "ParseImportError" else getattr(models, model)).__table__


def insert(model: str, *rows: dict[str, Any]) -> None:
    """Insert rows, without what this version's table has no column for."""
    of = table(model)
    known = [{name: value for name, value in row.items() if name in of.c} for row in rows]
    for row in known:
        if "id" in row and of.c.id.type.python_type is not uuid.UUID:
            row["id"] = str(row["id"])
    with session() as database:
        database.execute(of.insert(), known)


def update(model: str, where: dict[str, Any], **values: Any) -> None:
    of = table(model)
    with session() as database:
        database.execute(of.update().where(*(of.c[name] == value for name, value in where.items())).values(**values))


def delete(model: str, **where: Any) -> None:
    of = table(model)
    with session() as database:
        database.execute(of.delete().where(*(of.c[name] == value for name, value in where.items())))


def dag_run(
    run_id: str, dag_id: str = "orders", state: str = "failed", ago: timedelta = ENDED, **fields: Any
) -> dict[str, Any]:
    """Describe a run that ended some time ago; each stands for another moment."""
    ended = datetime.now(UTC) - ago
    stands_for = ended - timedelta(days=1) - timedelta(microseconds=hash((dag_id, run_id)) % 10**9)
    return {
        "dag_id": dag_id, "run_id": run_id, "state": state, "run_type": "manual", "clear_number": 0,
        "start_date": ended - timedelta(minutes=1), "end_date": None if state in {"running", "queued"} else ended,
        "logical_date": stands_for, "execution_date": stands_for, "run_after": stands_for, "span_status": "not_started",
    } | fields  # fmt: skip


def task_row(run: dict[str, Any], task_id: str, state: str, map_index: int = -1) -> dict[str, Any]:
    return {
        "id": uuid.uuid4(), "dag_id": run["dag_id"], "run_id": run["run_id"], "task_id": task_id, "map_index": map_index,
        "state": state, "start_date": run["start_date"], "end_date": run["end_date"], "try_number": 1, "max_tries": 0,
        "pool": "default_pool", "pool_slots": 1, "queue": "default", "priority_weight": 1, "operator": "Step",
    }  # fmt: skip


def fail(run_id: str = "r1", dag_id: str = "orders", **more: Any) -> dict[str, Any]:
    """Let a run fail: its first task, so that the second one does not run."""
    run = dag_run(run_id, dag_id, **more)
    insert("DagRun", run)
    insert("TaskInstance", task_row(run, "load", "failed"))
    insert("TaskInstance", task_row(run, "report", "upstream_failed"))
    return run


def succeed(run_id: str = "r1", dag_id: str = "orders", ago: timedelta = timedelta(minutes=1), **values: Any) -> None:
    """Let a run be successful now, with all of its tasks, as when a person marks it so."""
    of = {"dag_id": dag_id, "run_id": run_id}
    update("DagRun", of, state="success", end_date=datetime.now(UTC) - ago, **values)
    update("TaskInstance", of, state="success")


def break_file(
    path: str, bundle: str = "dags-folder", why: str = "ModuleNotFoundError: No module named 'pandas'"
) -> None:
    """Let a DAG file not be importable."""
    stack = f'Traceback (most recent call last):\n  File "{path}", line 3, in <module>\n    import pandas\n{why}\n'
    row = {"filename": path, "bundle_name": bundle, "stacktrace": stack, "timestamp": datetime.now(UTC)}
    insert("ParseImportError", row)


def mend_file(path: str) -> None:
    delete("ParseImportError", filename=path)


def clear_all() -> None:
    """Leave no run, no broken file and no record."""
    for model in ("TaskInstance", "DagRun", "ParseImportError"):
        delete(model)
    forget_all()


class Clock:
    """The time of day, and how far a test has passed it."""

    def __init__(self) -> None:
        self.passed = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.passed

    def passes(self, **lapse: float) -> None:
        self.passed += timedelta(**lapse)


def turn_on(ago: timedelta = timedelta(hours=1)) -> None:
    """Let the watcher have been turned on some time ago."""
    Variables().set(NAME, State(opens_since=datetime.now(UTC) - ago).text())


def watcher(now: Callable[[], datetime] | None = None) -> Watcher:
    """Start a watcher as the command does, with what airflow.cfg says."""
    duties = duties_of(read_settings()[0])
    return Watcher(duties, WatcherCallbacks(duties.covers), now=now or Clock())


def one_round(now: Callable[[], datetime] | None = None) -> Round:
    """Carry one round of a new watcher."""
    return watcher(now).round()

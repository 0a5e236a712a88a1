"""Runs of DAGs in the database of the tests' own Airflow."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tests.airflow_versions import AIRFLOW

BEGAN = datetime(2026, 3, 4, tzinfo=UTC)


@contextmanager
def dag_run(dag_id: str, run_id: str, **fields: Any) -> Iterator[None]:
    """Let there be a run, which has failed, for a while."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunType
    from sqlalchemy import delete

    dates = {"logical_date": BEGAN, "run_after": BEGAN} if AIRFLOW >= (3, 0) else {"execution_date": BEGAN}
    given = {"run_type": DagRunType.MANUAL, "state": "failed", "clear_number": 0, "start_date": BEGAN} | fields
    row = DagRun(dag_id=dag_id, run_id=run_id, run_type=given.pop("run_type"), **dates)
    for name, value in given.items():
        setattr(row, name, value)
    with create_session() as session:
        session.add(row)
    try:
        yield
    finally:
        with create_session() as session:
            session.execute(delete(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))

"""Which Airflow the tests run on, and what the older ones lack or keep elsewhere."""

import importlib
from importlib.metadata import version
from typing import Any

import pytest

AIRFLOW = tuple(int(part) for part in version("apache-airflow").split(".")[:2])
PAGES = "api" if AIRFLOW >= (3, 0) else "webserver"
"""The section of airflow.cfg that has base_url."""
BASE_URL = f"AIRFLOW__{PAGES.upper()}__BASE_URL"
BATCH_TIMEOUT = f"AIRFLOW__{'DAG_PROCESSOR' if AIRFLOW >= (3, 0) else 'CORE'}__DAG_FILE_PROCESSOR_TIMEOUT"
CAN_LIST = not (3, 0) <= AIRFLOW < (3, 3)
"""Whether a task can list Variables."""
TELLS_EXCEPTION = not (3, 0) <= AIRFLOW < (3, 3)
"""Whether `dag.test()` tells a task's callback the exception; a scheduler's run always does."""

HAS_DEADLINES = AIRFLOW >= (3, 1)
LISTS_FAILED = AIRFLOW != (3, 0)
"""Whether the DAG processor tells which tasks of a run have failed."""


def dag_bag(path: str) -> Any:
    """Load a file or a folder of DAGs as Airflow does."""
    home = "airflow.dag_processing.dagbag" if AIRFLOW >= (3, 2) else "airflow.models.dagbag"
    return importlib.import_module(home).DagBag(path)


def since(first: str, feature: str) -> pytest.MarkDecorator:
    """Skip a test of a feature that Airflow has from a version on."""
    has_it = tuple(int(part) for part in first.split(".")) <= AIRFLOW
    return pytest.mark.skipif(not has_it, reason=f"Airflow before {first} has no {feature}")


TASKS_CAN_LIST = pytest.mark.skipif(not CAN_LIST, reason="Airflow 3.0 to 3.2 lets no task list Variables")
RUNS_WHOLE = since(
    "3.0", "DAG processor of its own beside SQLite; make demo and tests/airflow/test_oldest*.py are its runs"
)
"""Skip a module that needs scheduler, DAG processor, triggerer and API server at once."""

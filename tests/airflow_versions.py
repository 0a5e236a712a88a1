"""Which Airflow the tests run on, and what the older ones lack or keep elsewhere."""

from importlib.metadata import version

import pytest

AIRFLOW = tuple(int(part) for part in version("apache-airflow").split(".")[:2])
DAGBAG = "airflow.dag_processing.dagbag" if AIRFLOW >= (3, 2) else "airflow.models.dagbag"
"""The module that has the class DagBag."""
PAGES = "api" if AIRFLOW >= (3, 0) else "webserver"
"""The section of airflow.cfg that has base_url."""
PROCESSOR = "dag_processor" if AIRFLOW >= (3, 0) else "core"
"""The one that has dag_file_processor_timeout."""
BASE_URL = f"AIRFLOW__{PAGES.upper()}__BASE_URL"


def since(first: str, feature: str) -> pytest.MarkDecorator:
    """Skip a test of a feature that Airflow has from a version on."""
    has_it = tuple(int(part) for part in first.split(".")) <= AIRFLOW
    return pytest.mark.skipif(not has_it, reason=f"Airflow before {first} has no {feature}")

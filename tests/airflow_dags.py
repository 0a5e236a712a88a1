"""Run DAGs, written out as files, in the tests' own Airflow."""

import importlib.util
from pathlib import Path
from typing import Any


def load_dag(home: Path, source: str, name: str = "dag") -> Any:
    """Write a DAG file into the tests' DAGs folder and import it as Airflow would; return its `dag`."""
    file = home / "dags" / f"{name}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dag

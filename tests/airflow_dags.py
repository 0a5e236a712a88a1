"""Run DAGs, written out as files, in the tests' own Airflow."""

import importlib.util
from pathlib import Path
from typing import Any

from tests.airflow_versions import AIRFLOW, dag_bag


def load_dag(home: Path, source: str, name: str = "dag") -> Any:
    """Write a DAG file into the tests' DAGs folder and import it as Airflow would; return its `dag`."""
    file = home / "dags" / f"{name}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dag


def read_dags(file: Path) -> dict[str, Any]:
    """Read a DAG file as Airflow does, which asks the cluster policies too."""
    bag = dag_bag(file)
    assert bag.import_errors == {}
    return bag.dags


def as_stored(dag: Any) -> Any:
    """Serialize a DAG as it goes into Airflow's database."""
    return _serializer().to_dict(dag)


def stored(dag: Any) -> Any:
    """Return a DAG as whoever reads it from Airflow's database gets it."""
    return _serializer().from_dict(as_stored(dag))


def _serializer() -> Any:
    from airflow.serialization import serialized_objects

    return getattr(serialized_objects, "DagSerialization" if AIRFLOW >= (3, 2) else "SerializedDAG")

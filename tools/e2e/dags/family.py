"""Four DAGs of one ID, which this file's name stands for: their failures are told by different callbacks.

A task fails, at once or on a word; once all is mended it succeeds, and so does its run, cleared.
"""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_incident import IncidentNotifier, open_incident, resolve_incident
from tools.e2e.names import IDS, LEVELS, SCENARIOS, dag_id

try:
    from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference
except ImportError:
    try:
        from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference
    except ImportError:
        LEVELS = tuple(level for level in LEVELS if level != "deadline")

NAME = Path(__file__).stem
WORDS = Path(os.environ["E2E_WORDS"])
PATIENCE = 180
DEADLINE = timedelta(seconds=int(os.environ["E2E_DEADLINE"]))
ours = open_incident()
WITH_US: dict[str, dict[str, Any]] = {
    "both": {"default_args": {"on_failure_callback": ours}, "on_failure_callback": ours},
    "task": {"default_args": {"on_failure_callback": ours}},
    "dag": {"on_failure_callback": ours},
    "deadline": {"on_failure_callback": ours},
}


def fail(mine: str) -> None:
    """Fail when the word is given, or at once; succeed where all is mended."""
    (WORDS / f"begun.{mine}").touch()
    scenario = SCENARIOS[mine.split(".")[1]]
    over = time.monotonic() + PATIENCE
    while scenario.waits and not (WORDS / scenario.name).exists() and time.monotonic() < over:
        time.sleep(0.2)
    if not (WORDS / "mended").exists():
        raise ValueError(f"no orders from shop 7 in {mine}")


for level in LEVELS:
    options = WITH_US[level]
    if level == "deadline":
        alert = AsyncCallback(IncidentNotifier, {})
        reference = DeadlineReference.DAGRUN_LOGICAL_DATE
        options["deadline"] = DeadlineAlert(reference=reference, interval=DEADLINE, callback=alert)
    with DAG(dag_id(NAME, level), schedule=None, on_success_callback=resolve_incident(), **options):
        task(task_id=IDS[NAME])(fail)("{{ run_id }}")

"""A DAG that nobody has edited; this file's name is its ID. A run's ID says what goes wrong with its task, and when.

Once all is mended its task succeeds.
"""

import os
import signal
import time
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task

WORDS = Path(os.environ["E2E_WORDS"])
PATIENCE = 180


def load(mine: str) -> None:
    """Fail as the run's ID says: at once, on a word, or not until somebody marks the run."""
    (WORDS / f"begun.{mine}").touch()
    trouble, kind, _ = mine.split(".", 2)
    over = time.monotonic() + PATIENCE
    while not (WORDS / "mended").exists() and time.monotonic() < over:
        if kind == "marked" or (trouble == "database" and not (WORDS / trouble).exists()):
            time.sleep(0.2)
            continue
        if kind == "lost":
            os.kill(os.getppid(), signal.SIGKILL)
        if kind in {"killed", "lost"}:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError(f"no orders from shop 7 in {mine}")


with DAG(Path(__file__).stem, schedule=None):
    task(task_id="load")(load)("{{ run_id }}")

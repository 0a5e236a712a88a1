"""DAGs that fail in four ways at once: an exception, an exit, a timeout and a kill. Half of them are not edited."""

import os
import signal
import sys
import time
from datetime import timedelta
from typing import Any, Never

from airflow.sdk import DAG, task

from airflow_incident import open_incident


def four_ways(dag_id: str, **options: Any) -> None:
    """Make a DAG of four tasks that fail."""
    with DAG(dag_id, schedule=None, **options):

        @task
        def raises() -> Never:
            raise ValueError("no orders from shop 7")

        @task
        def exits() -> None:
            sys.exit("no orders from shop 7")

        @task(execution_timeout=timedelta(seconds=5))
        def overruns() -> None:
            time.sleep(60)

        @task
        def is_killed() -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        _ = raises(), exits(), overruns(), is_killed()


for number in range(0, 25, 2):
    ours = open_incident()
    four_ways(f"edited_{number}", default_args={"on_failure_callback": ours}, on_failure_callback=ours)
for number in range(1, 25, 2):
    four_ways(f"untouched_{number}")

with DAG("sound", schedule=None):

    @task
    def succeeds() -> None:
        """Have no incident."""

    succeeds()

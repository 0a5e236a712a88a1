"""Measure one notification with the journal beside one without, in a task of a real Airflow.

The task reaches Airflow's Variables as every task does: through the supervisor and the execution API.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 15
SOURCE = """
import time
from airflow.sdk import DAG, task
from airflow_incident import open_incident

notifier = open_incident()

def timed(context):
    began = time.perf_counter()
    notifier(context)
    with open({figures!r}, "a") as file:
        print((time.perf_counter() - began) * 1000, file=file)

with DAG("measured", schedule=None) as dag:
    @task(on_failure_callback=timed)
    def fail():
        raise ValueError("three bad rows")
    fail()
"""


def main() -> None:
    """Run a failing DAG again and again, with the journal and without, and print what its callback took."""
    with tempfile.TemporaryDirectory(prefix="airflow-incident-benchmark-") as folder:
        home = Path(folder)
        os.environ |= {
            "AIRFLOW_HOME": folder,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__INCIDENT_IO__DEPLOYMENT": "benchmark",
            "AIRFLOW__INCIDENT_IO__STORM_LIMIT": "0",
            "AIRFLOW__INCIDENT_IO__STORM_LIMIT_PER_DAG": "0",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        }
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
        figures = home / "figures"
        (home / "dags").mkdir()
        file = home / "dags" / "measured.py"
        file.write_text(SOURCE.format(figures=str(figures)))
        medians = {switch: _measure(file, figures, switch) for switch in ("False", "True")}
    without, with_journal = medians["False"], medians["True"]
    print(f"one notification without the journal  {without:6.1f} ms  (median of {ROUNDS})")
    print(f"one notification with the journal     {with_journal:6.1f} ms  {with_journal / without:.2f} times")


def _measure(file: Path, figures: Path, switch: str) -> float:
    """Return the median of a notification, in ms; the first of the process is left out."""
    code = (
        "import importlib.util, os, sys\n"
        "from airflow_incident.sandbox.server import Sandbox\n"
        "with Sandbox(rate_limit=1_000_000) as box:\n"
        "    os.environ['AIRFLOW_CONN_INCIDENT_IO_DEFAULT'] = box.connection_json()\n"
        "    spec = importlib.util.spec_from_file_location('measured', sys.argv[1])\n"
        "    module = importlib.util.module_from_spec(spec)\n"
        "    spec.loader.exec_module(module)\n"
        "    for _ in range(int(sys.argv[2]) + 1):\n"
        "        module.dag.test()\n"
    )
    figures.write_text("")
    environment = os.environ | {"AIRFLOW__INCIDENT_IO__JOURNAL": switch}
    command = [sys.executable, "-c", code, str(file), str(ROUNDS)]
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=300)
    taken = [float(line) for line in figures.read_text().split()][1:]
    if len(taken) != ROUNDS:
        raise RuntimeError(f"{len(taken)} notifications were measured instead of {ROUNDS}")
    return statistics.median(taken)


if __name__ == "__main__":
    main()

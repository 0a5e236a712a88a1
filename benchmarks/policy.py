"""Measure how long 100 DAGs take to load with zero touch on, and off."""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.environment import ROOT

PAIRS = 15
DAGS = 100
SOURCE = """
from airflow.sdk import DAG, task

@task
def work(number):
    return number

with DAG("dag_{number}", schedule=None, tags=["night"]):
    work(1) >> work.expand(number=[1, 2, 3])
"""
LOAD = """
import sys, time
from airflow import settings
from airflow.dag_processing.dagbag import DagBag
manager = settings.get_policy_plugin_manager()
if not manager.has_plugin("incident_io"):  # where a checkout is on the path only
    from airflow_incident import policy
    manager.register(policy, "incident_io")
began = time.perf_counter()
DagBag(sys.argv[2])
first_taken = time.perf_counter() - began
began = time.perf_counter()
bag = DagBag(sys.argv[1])
taken = time.perf_counter() - began
assert len(bag.dags) == int(sys.argv[3]), bag.import_errors
first = next(iter(bag.dags.values()))
print(bool(first.has_on_failure_callback), first_taken * 1000, taken * 1000)
"""


def main() -> None:
    """Load the DAGs in fresh processes, with the policy on and off in turn, and print medians."""
    first: dict[str, list[float]] = {"False": [], "True": []}
    taken: dict[str, list[float]] = {"False": [], "True": []}
    with tempfile.TemporaryDirectory(prefix="airflow-incident-benchmark-") as folder:
        one, dags = _write(Path(folder, "one"), 1), _write(Path(folder, "dags"), DAGS)
        for number in range(PAIRS + 1):
            for switch in ("False", "True") if number % 2 else ("True", "False"):
                of_first, of_all = _load(folder, dags, one, switch)
                if number:  # the first pair warms the disk
                    first[switch].append(of_first)
                    taken[switch].append(of_all)
    print(f"medians of {PAIRS} pairs, in ms         off      on  difference")
    _tell("the first DAG of a process", first)
    _tell(f"{DAGS} DAGs after it", taken)


def _tell(what: str, taken: dict[str, list[float]]) -> None:
    off, on = taken["False"], taken["True"]
    difference = statistics.median(b - a for a, b in zip(off, on, strict=True))
    print(f"{what:30} {statistics.median(off):7.1f} {statistics.median(on):7.1f} {difference:11.1f}")


def _write(folder: Path, count: int) -> str:
    folder.mkdir()
    for number in range(count):
        (folder / f"dag_{number}.py").write_text(SOURCE.format(number=number))
    return str(folder)


def _load(home: str, dags: str, one: str, switch: str) -> tuple[float, float]:
    """Return the milliseconds of a process's first DAG, which pays for what is imported, and of all after it."""
    environment = os.environ | {
        "AIRFLOW_HOME": home,
        "AIRFLOW__INCIDENT_IO__AUTO_OPEN": switch,
        "AIRFLOW__INCIDENT_IO__AUTO_RESOLVE": switch,
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", LOAD, dags, one, str(DAGS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=120)
    covered, of_first, of_all = done.stdout.split()[-3:]
    if covered != switch:
        raise RuntimeError(f"zero touch was to be {switch}, and was {covered}")
    return float(of_first), float(of_all)


if __name__ == "__main__":
    main()

"""Measure what rules cost: the first failure of a process, and each one after it, with 200 rules and 1,000 DAGs."""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.environment import ROOT

PROCESSES = 9
RULES = 200
DAGS = 1000
RULE = """\
- match:
    dag_id: [team{number}_*, exact_{number}]
    tags: tier-{tier}
  set:
    severity: Major
    conn_id: incident_io_{number}
    custom_fields: {{Affected team: Team {number}}}
"""
MEASURE = """
import sys, time
from types import SimpleNamespace
from airflow_incident import open_incident
from airflow_incident.airflow_bridge.config import read_airflow_config, read_routed

def context(number):
    dag_id, team = f"team{number % int(sys.argv[1])}_{number}", number % int(sys.argv[1])
    dag = SimpleNamespace(dag_id=dag_id, tags={f"tier-{team % 4}", "nightly"}, owner="data, ml")
    run = SimpleNamespace(dag_id=dag_id, run_id="r", run_type="scheduled")
    ti = SimpleNamespace(dag_id=dag_id, run_id="r", task_id="load", map_index=-1)
    return {"dag": dag, "dag_run": run, "ti": ti, "run_id": "r", "exception": ValueError()}

contexts = [context(number) for number in range(int(sys.argv[2]))]
config = read_airflow_config()
began = time.perf_counter()
first = read_routed(contexts[0], config)
first_taken = time.perf_counter() - began
began = time.perf_counter()
found = [read_routed(each, config) for each in contexts]
taken = time.perf_counter() - began
assert all(len(each.options) == 3 and not each.problems for each in found)
print(first_taken * 1000, taken * 1000 / len(contexts))
"""


def main() -> None:
    """Ask in fresh processes, and print medians."""
    with tempfile.TemporaryDirectory(prefix="airflow-incident-benchmark-") as folder:
        file = Path(folder, "routes.yaml")
        file.write_text("".join(RULE.format(number=number, tier=number % 4) for number in range(RULES)))
        environment = os.environ | {
            "AIRFLOW_HOME": folder,
            "AIRFLOW__INCIDENT_IO__ROUTES_FILE": str(file),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-c", MEASURE, str(RULES), str(DAGS)]
        rows = []
        for _ in range(PROCESSES + 1):
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=120)
            rows.append([float(figure) for figure in done.stdout.split()[-2:]])
    first, each = zip(*rows[1:], strict=True)  # the first process warms the disk
    print(f"{RULES} rules, {DAGS} DAGs, medians of {PROCESSES} processes, in ms")
    print(f"the first failure of a process {statistics.median(first):8.1f}")
    print(f"each one after it              {statistics.median(each):8.2f}")


if __name__ == "__main__":
    main()

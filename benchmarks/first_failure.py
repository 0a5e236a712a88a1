"""Time the first failure of a task's process beside a raw request, in a real Airflow: scheduler, API server and all.

Both are timed in the same callback, in turn: an incident through `open_incident()(context)`, with the journal on, and a
POST with httpx alone. Run it with `python -m benchmarks.first_failure`; nothing else should run meanwhile.
"""

import argparse
import functools
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.tables import spread, table
from tools import loopback
from tools.stage import WEB, Stage
from tools.watch import Trouble, Watch, perform

DAG_ID = "measured"
MOST_TIMES_RAW = 2.5
SOURCE = """
import json
import time

from airflow.sdk import DAG, task

from airflow_incident import open_incident


def raw(context):
    import httpx

    body = {{"idempotency_key": "raw/" + context["run_id"], "visibility": "public", "name": "raw"}}
    httpx.post({url!r}, json=body, headers={{"Authorization": "Bearer {key}"}}).raise_for_status()


def ours(context):
    open_incident()(context)


def timed(context):
    number = int(context["run_id"].rpartition("-")[2])
    figures = {{"order": "raw first" if number % 2 else "ours first"}}
    for call in (raw, ours) if number % 2 else (ours, raw):
        began = time.perf_counter()
        call(context)
        figures[call.__name__] = (time.perf_counter() - began) * 1000
    began = time.perf_counter()
    open_incident(scope="task")(context)
    figures["second"] = (time.perf_counter() - began) * 1000
    with open({figures!r}, "a") as file:
        print(json.dumps(figures), file=file)


with DAG({dag_id!r}, schedule=None):

    @task(on_failure_callback=timed)
    def fail():
        raise ValueError("three bad rows")

    fail()
"""


class MeasuredStage(Stage):
    """A real Airflow with the one DAG that is measured."""

    def environment(self, name: str) -> dict[str, str]:
        """Let no storm group what is measured."""
        more = {"INCIDENT_IO__STORM_LIMIT": "0", "INCIDENT_IO__STORM_LIMIT_PER_DAG": "0", "CORE__PARALLELISM": "1"}
        return super().environment(name) | {f"AIRFLOW__{option}": value for option, value in more.items()}

    def _dags(self) -> Path:
        (self.home / "dags").mkdir()
        return self.home / "dags"


def play(watch: Watch, *, runs: int) -> str:
    """Fail the DAG again and again, and tell the figures."""
    with MeasuredStage("measured") as stage:
        figures = stage.home / "figures"
        source = SOURCE.format(
            url=f"{stage.sandbox}/v1/incidents", key=loopback.API_KEY, figures=str(figures), dag_id=DAG_ID
        )
        (stage.dags / "measured.py").write_text(source)
        airflow = _start(stage, watch)
        for number in range(runs + 1):
            _fail(stage, watch, airflow, f"run-{number}")
        found = [json.loads(line) for line in figures.read_text().splitlines()][
            1:
        ]  # the first also fills caches of files
    return _report(found)


def _start(stage: Stage, watch: Watch) -> loopback.Airflow:
    airflow = loopback.Airflow(stage.airflow)
    stage.start_sandbox()
    stage.start("migrate", "-m", "airflow", "db", "migrate")
    watch.until(lambda: ("Airflow's database is being made", stage.ended("migrate")), seconds=180)
    stage.start_airflow()

    def look() -> tuple[str, bool | None]:
        stage.check()
        unready = airflow.unready()
        if unready is None or unready:
            return "Airflow is starting", None
        return "Airflow reads the DAG", True if DAG_ID in airflow.dags() else None

    watch.until(look, seconds=180, log=stage.log(WEB))
    return airflow


def _fail(stage: Stage, watch: Watch, airflow: loopback.Airflow, run_id: str) -> None:
    def look() -> tuple[str, bool | None]:
        stage.check()
        run = airflow.run(DAG_ID, run_id)
        if run and run["state"] == "success":
            raise Trouble(f"{run_id} was meant to fail", stage.log("scheduler"))
        return f"{run_id} fails", True if run and run["state"] == "failed" else None

    watch.until(look, seconds=120, log=stage.log("scheduler"))


def _report(found: list[dict[str, Any]]) -> str:
    """Say medians and ranges, and the ratio of each pair."""
    rows = []
    for order in ("raw first", "ours first", ""):
        some = [row for row in found if order in row["order"]]
        ratios = [row["ours"] / row["raw"] for row in some]
        cells = [spread([row[name] for row in some], 1) for name in ("raw", "ours", "second")]
        rows.append([order or "both", *cells, spread(ratios, 2)])
    ratio = statistics.median([row["ours"] for row in found]) / statistics.median([row["raw"] for row in found])
    head = ["order", "raw POST, ms", "ours, ms", "our second, ms", "ratio of each pair"]
    title = f"The first failure of {len(found)} task processes: median (min..max)"
    verdict = "within" if ratio <= MOST_TIMES_RAW else "OVER"
    return f"{table(title, head, rows)}\n\nmedian of ours by median of raw: {ratio:.2f}, {verdict} {MOST_TIMES_RAW}"


def main() -> int:
    """Measure, and say what went wrong, if anything did."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_failure", description=__doc__)
    parser.add_argument("--runs", type=int, default=12, help="failures that are measured (default: 12)")
    return perform(functools.partial(play, runs=parser.parse_args().runs))


if __name__ == "__main__":
    sys.exit(main())

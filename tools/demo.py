"""`make demo` fails two DAGs in a real Airflow and shows their incidents; `make up` leaves both sides running."""

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from tools import loopback
from tools.stage import Stage
from tools.watch import Interrupted, Trouble, Watch

RUNS = {"bad_csv": "demo-1", "mapped_tasks": "demo-2"}
START_LIMIT = 180
RUN_LIMIT = 120
INCIDENT_LIMIT = 30
# After the last run. The DAG-level callback of the first one ends up to 4 s after it, while the second one runs.
SETTLE = 3


@dataclass(frozen=True)
class Failure:
    """A failed run, as Airflow tells it."""

    dag_id: str
    run_id: str
    moment: datetime
    tasks: list[str]

    def own(self, incidents: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Pick the incidents that speak of this run."""
        return [incident for incident in incidents if self.run_id in json.dumps(incident)]

    def seconds_until(self, incident: dict[str, Any]) -> float:
        """Count from the failure to the incident."""
        return (datetime.fromisoformat(incident["created_at"]) - self.moment).total_seconds()


def start(stage: Stage, watch: Watch, *extra: str) -> loopback.Airflow:
    """Bring up the sandbox and Airflow; return when the DAGs can be triggered."""
    began = time.monotonic()
    airflow = loopback.Airflow(stage.airflow)
    stage.start_sandbox()
    stage.start("migrate", "-m", "airflow", "db", "migrate")
    watch.until(lambda: ("Airflow's database is being made", stage.ended("migrate")), seconds=START_LIMIT)
    stage.start_airflow(*extra)

    def look() -> tuple[str, bool | None]:
        stage.check()
        unready = airflow.unready()
        if unready is None or unready:
            return "Airflow is starting", None
        if loopback.incidents(stage.sandbox) is None:
            return "the sandbox is starting", None
        if trace := airflow.import_errors():
            raise Trouble(f"Airflow cannot import a DAG file:\n{trace}")
        return "Airflow reads the DAGs", True if RUNS.keys() <= airflow.dags() else None

    watch.until(look, seconds=START_LIMIT, log=stage.log("api-server"))
    watch.say(f"Airflow is up after {time.monotonic() - began:.0f} s")
    return airflow


def fail(stage: Stage, watch: Watch, airflow: loopback.Airflow, dag_id: str) -> Failure:
    """Run a DAG through the scheduler; return its failure."""
    run_id = RUNS[dag_id]

    def look() -> tuple[str, Failure | None]:
        stage.check()
        run = airflow.run(dag_id, run_id)
        if run is None or run["state"] not in {"failed", "success"}:
            return f"{dag_id}: {run['state'] if run else 'triggered'}", None
        if run["state"] == "success":
            raise Trouble(f"{dag_id} was meant to fail, but it succeeded", stage.log("scheduler"))
        tasks = airflow.failed_tasks(dag_id, run_id)
        if tasks is None:
            return f"{dag_id}: failed, as it should", None
        moments = [airflow.raised_at(task) for task in tasks] or [run["end_date"]]
        moment = min(map(datetime.fromisoformat, moments))
        return f"{dag_id}: failed, as it should", Failure(dag_id, run_id, moment, [task["task_id"] for task in tasks])

    failure = watch.until(look, seconds=RUN_LIMIT, log=stage.log("scheduler"))
    watch.say(f"{dag_id}: failed, as it should")
    return failure


def await_incident(stage: Stage, watch: Watch, failure: Failure) -> None:
    """Wait until the sandbox holds an incident of this run."""

    def look() -> tuple[str, bool | None]:
        stage.check()
        own = failure.own(loopback.incidents(stage.sandbox) or [])
        return f"{failure.dag_id}: waiting for its incident", True if own else None

    watch.until(look, seconds=INCIDENT_LIMIT, log=_callback_log(stage, failure))


def _callback_log(stage: Stage, failure: Failure) -> Path:
    """Find the log of the first failed task: its callback writes there."""
    folder = stage.home / "logs" / f"dag_id={failure.dag_id}" / f"run_id={failure.run_id}"
    logs = sorted(folder.glob(f"task_id={failure.tasks[0]}/**/*.log")) if failure.tasks else []
    return logs[0] if logs else stage.log("dag-processor")


def settle(stage: Stage, watch: Watch) -> None:
    """Give a second incident the time to come."""
    over = time.monotonic() + SETTLE

    def look() -> tuple[str, bool | None]:
        stage.check()
        return "watching that no second incident comes", True if time.monotonic() > over else None

    watch.until(look, seconds=SETTLE + 1)


def report(failures: list[Failure], incidents: list[dict[str, Any]]) -> Iterator[str]:
    """Show each failed run with its incident."""
    for failure in failures:
        counted = Counter(failure.tasks).items()
        tasks = ", ".join(task if times == 1 else f"{task} ({times} times)" for task, times in counted)
        yield f"\n{failure.dag_id} failed in {tasks}" if tasks else f"\n{failure.dag_id} failed"
        for incident in failure.own(incidents):
            yield f"  {incident['reference']}  {incident['name']}"
            yield f"         {incident['permalink']}"
            yield f"         open {failure.seconds_until(incident):.2f} s after the failure"
    yield ""


def verdict(failures: list[Failure], incidents: list[dict[str, Any]]) -> str:
    """Say that all is well; raise Trouble unless each failure has exactly one incident and there is no other."""
    wrong = []
    claimed = []
    for failure in failures:
        own = failure.own(incidents)
        claimed += own
        if len(own) != 1:
            wrong.append(f"{failure.dag_id} has {len(own)} incidents instead of one")
    strays = [incident["reference"] for incident in incidents if incident not in claimed]
    if strays:
        wrong.append(f"no failed run explains {', '.join(strays)}")
    if wrong:
        raise Trouble("; ".join(wrong))
    return f"{len(failures)} failed runs, {len(incidents)} incidents: exactly one for each. To look around: make up"


def demo(stage: Stage, watch: Watch) -> str:
    """Fail the DAGs one after another, show what came of it and return the verdict."""
    airflow = start(stage, watch)
    failures = []
    for dag_id in RUNS:
        failures.append(fail(stage, watch, airflow, dag_id))
        await_incident(stage, watch, failures[-1])
    settle(stage, watch)
    incidents = loopback.incidents(stage.sandbox)
    if incidents is None:
        raise Trouble("the sandbox does not answer", stage.log("sandbox"))
    watch.say("\n".join(report(failures, incidents)))
    return verdict(failures, incidents)


def stay(stage: Stage, watch: Watch) -> NoReturn:
    """Leave everything running until a signal comes."""
    start(stage, watch, "triggerer")
    watch.say(f"  Airflow      {stage.airflow} (no login)")
    watch.say(f"  incident.io  {stage.sandbox} (the sandbox, API key {loopback.API_KEY})")
    watch.say("Trigger a DAG in Airflow and look at its incident in the sandbox.")

    def look() -> tuple[str, None]:
        stage.check()
        return "Both run until Ctrl-C", None

    while True:
        watch.until(look, seconds=math.inf)


def main() -> int:
    """Run one of the two commands; say what went wrong and leave nothing running."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--stay", action="store_true", help="leave Airflow and the sandbox running until Ctrl-C")
    stays = parser.parse_args().stay
    watch = Watch()
    watch.listen()
    try:
        with Stage() as stage:
            try:
                outcome = stay(stage, watch) if stays else demo(stage, watch)
            finally:
                watch.show("Airflow is stopping")
    except Interrupted as signal:
        watch.say(f"stopped by {signal}; nothing is left running")
        return 0 if stays else 128 + signal.number
    except Trouble as trouble:
        watch.say(str(trouble))
        return 1
    watch.say(outcome)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make e2e-celery`: 200 tasks fail on two workers, one of which is killed, while incident.io is away for a minute."""

import argparse
import contextlib
import functools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_incident.sandbox.fault import FAULTS
from airflow_incident.sandbox.options import REPEATS
from airflow_incident.sandbox.server import Sandbox
from tools.cluster import MISSING, WORKERS, Cluster
from tools.failure import Failure
from tools.loopback import Airflow
from tools.postgres import Postgres
from tools.tally import Tally
from tools.watch import Trouble, Watch, perform
from tools.wire import Wire

# Two runs of each DAG, one after the other: what the outage keeps of both, no later report of the DAG delivers.
FAILING = [
    (f"{kind}_{number}", f"{kind}-{number}-{again}")
    for number, kind in enumerate(["edited", "untouched"] * 12 + ["edited"])
    for again in range(2)
]
SOUND = [("sound", f"sound-{number}") for number in range(5)]
# One that is sound comes after every ten.
PLAN = [each for number in range(5) for each in (*FAILING[number * 10 : number * 10 + 10], SOUND[number])]
FLUSH = "incident_io_flush"
TASKS = 4
AT_ONCE = 6
"""Runs that go on at the same time."""
CUT_AFTER = 14
"""Runs that have ended when incident.io goes away."""
AWAY = 60
KILL_AFTER = 5
"""Seconds into the outage until a worker is killed."""
KILLED = WORKERS[1]
RUNS_LIMIT = 900
FLUSH_LIMIT = 300
SETTLE = 20
ENDED = {"failed", "success"}


class Course:
    """What happens while the runs go on, decided anew at each look."""

    def __init__(self, cluster: Cluster, watch: Watch, airflow: Airflow, wire: Wire, fault: str) -> None:
        self.cluster, self.watch, self.airflow, self.wire, self.fault = cluster, watch, airflow, wire, fault
        self.lost: set[tuple[str, str, str]] = set()
        self.away = 0.0
        self._cut_at: float | None = None

    def look(self) -> tuple[str, dict[str, Any] | None]:
        """Trigger what is next, break what is due; return the runs when all have ended."""
        self.cluster.check()
        known = self.airflow.runs()
        if known is None:
            return "Airflow does not answer", None
        runs = {run_id: known[run_id] for _, run_id in PLAN if run_id in known}
        ended = sum(run["state"] in ENDED for run in runs.values())
        waiting = [each for each in PLAN if each[1] not in known]
        for dag_id, run_id in waiting[: max(0, AT_ONCE - (len(runs) - ended))]:
            self.airflow.trigger(dag_id, run_id)
        if ended >= CUT_AFTER:
            self._break()
        over = self.away and self.lost and ended == len(PLAN)
        return f"{ended} of {len(PLAN)} runs have ended", runs if over else None

    def _break(self) -> None:
        """Take incident.io away for a minute, and kill a worker meanwhile."""
        if self._cut_at is None:
            self.wire.cut(self.fault)
            self._cut_at = time.monotonic()
            self.watch.say(f"incident.io is away: {self.fault}")
        gone = time.monotonic() - self._cut_at
        if not self.lost and gone > KILL_AFTER and (lost := self._running_on(KILLED)):
            self.cluster.kill(KILLED)
            self.lost = lost
            self.watch.say(f"{KILLED} is killed, and {len(lost)} tasks with it; it does not come back")
        if not self.away and gone > AWAY:
            self.wire.mend()
            self.away = gone
            self.watch.say("incident.io is back")

    def _running_on(self, worker: str) -> set[tuple[str, str, str]]:
        """Name the tasks that run on a worker now; where a task's log is, there it runs."""
        running = self.airflow.tasks("state=running&limit=100") or []
        tasks = {(task["dag_id"], task["dag_run_id"], task["task_id"]) for task in running}
        return {task for task in tasks if task[:2] in FAILING and logs(self.cluster.home / worker, *task)}


def logs(home: Path, dag_id: str = "*", run_id: str = "*", task_id: str = "*") -> list[Path]:
    """List the logs of tasks that a worker has begun."""
    return list(home.glob(f"logs/dag_id={dag_id}/run_id={run_id}/task_id={task_id}/*.log"))


def events(paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield the lines of task logs; the last one of a task that was killed may be cut."""
    for line in (line for path in paths for line in path.read_text().splitlines()):
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def begun_by(home: Path) -> set[str]:
    """Name the tasks that a worker has begun, those of the flush DAG aside."""
    return {str(log.relative_to(home)) for log in logs(home) if FLUSH not in log.parts[-4]}


def flushed(cluster: Cluster) -> int:
    """Count the incidents that the flush DAG has opened, by what it says."""
    said = (line["event"] for worker in WORKERS for line in events(logs(cluster.home / worker, FLUSH)))
    return sum(int(told[1]) for event in said if (told := re.match(r"incident\.io: (\d+) delivered", event)))


def await_flush(cluster: Cluster, watch: Watch) -> Counter[str]:
    """Wait until nothing waits in the journal; return how many records it has in each state."""
    over = time.monotonic() + FLUSH_LIMIT
    while True:
        states = journal(cluster, watch)
        if not states["pending"] or time.monotonic() > over:
            return states
        pause(cluster, watch, 5, f"{states['pending']} failures wait for the flush DAG")


def journal(cluster: Cluster, watch: Watch) -> Counter[str]:
    """Count the journal's records by state."""
    cluster.start_ours("journal", "list", "--json")
    cluster.await_errand(watch, "journal", "looking into the journal")
    said = cluster.log("journal").read_text()
    listed = json.loads(said[said.index("{") :])
    return Counter(record["state"] for record in listed["records"]) + Counter(unreadable=len(listed["unreadable"]))


def pause(cluster: Cluster, watch: Watch, seconds: float, text: str) -> None:
    """Let some time pass, in which everything should go on."""
    over = time.monotonic() + seconds

    def look() -> tuple[str, bool | None]:
        cluster.check()
        return text, True if time.monotonic() > over else None

    watch.until(look, seconds=seconds + 5)


def failure_of(cluster: Cluster, airflow: Airflow, run: dict[str, Any]) -> Failure:
    """Ask Airflow, and the logs on its workers, what has failed in a run and when the first of it did."""
    dag_id, run_id = run["dag_id"], run["dag_run_id"]
    tasks = airflow.failed_tasks(dag_id, run_id)
    if tasks is None:
        raise Trouble(f"Airflow does not tell the tasks of {run_id}", cluster.log("api-server"))
    # Airflow records a task's end after its callbacks, which tell of no error here.
    lines = events([log for worker in WORKERS for log in logs(cluster.home / worker, dag_id, run_id)])
    raised = [line["timestamp"] for line in lines if line["level"] in {"error", "critical"}]
    moments = [*raised, *(task["end_date"] for task in tasks)]
    return Failure(dag_id, run_id, min(map(datetime.fromisoformat, moments)), [task["task_id"] for task in tasks])


def fail(cluster: Cluster, watch: Watch, box: Sandbox, wire: Wire, fault: str) -> Tally:
    """Let everything happen, and count what it came to."""
    airflow = cluster.bring_up(watch, wire.url, {FLUSH, *(dag_id for dag_id, _ in PLAN)})
    course = Course(cluster, watch, airflow, wire, fault)
    runs = watch.until(course.look, seconds=RUNS_LIMIT, log=cluster.log("scheduler"), every=1)
    await_flush(cluster, watch)
    pause(cluster, watch, SETTLE, "watching that no second incident comes")
    failures = [failure_of(cluster, airflow, run) for run in runs.values() if run["state"] == "failed"]
    failed = {(failure.dag_id, failure.run_id, task) for failure in failures for task in failure.tasks}
    begun = {worker: begun_by(cluster.home / worker) for worker in WORKERS}
    return Tally(
        triggered=len(runs),
        failures=failures,
        incidents=box.incidents,
        journal=journal(cluster, watch),
        tasks={worker: len(tasks) for worker, tasks in begun.items()},
        redelivered=len(set.intersection(*begun.values())),
        flushed=flushed(cluster),
        lost={"/".join(task): "failed" if task in failed else "not failed" for task in course.lost},
        away=course.away,
        to_fail=(len(FAILING), TASKS),
    )


def play(watch: Watch, *, fault: str, repeat: str) -> str:
    """Set everything up, let it fail, clear it away and return the verdict."""
    began = time.monotonic()
    with (
        Sandbox(repeat=repeat) as box,
        Wire(box.port) as wire,
        Postgres(MISSING) as postgres,
        Cluster(postgres) as cluster,
    ):
        try:
            tally = fail(cluster, watch, box, wire, fault)
        finally:
            watch.show("Airflow is stopping")
    for name, value in tally.rows():
        watch.say(f"{name:<30}{value:>8}")
    watch.say(f"{'all of it':<30}{time.monotonic() - began:>6.0f} s")
    if wrong := tally.wrong():
        raise Trouble("\n".join([*wrong, f"The logs are in {cluster.home}"]))
    return "one incident for each failed run, none lost, nothing waits"


def main() -> int:
    """Read what is to be different this time, and play."""
    parser = argparse.ArgumentParser(prog="python -m tools.distributed", description=__doc__)
    parser.add_argument(
        "--fault", choices=FAULTS, default="refuse", help="how incident.io is away (default: %(default)s)"
    )
    parser.add_argument(
        "--repeat", choices=REPEATS, default="existing", help="what a used key answers (default: %(default)s)"
    )
    return perform(functools.partial(play, **vars(parser.parse_args())))


if __name__ == "__main__":
    sys.exit(main())

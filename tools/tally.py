"""What a distributed run came to, as a table, and what of it should not be. No Airflow, no network."""

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tools.failure import Failure, mismatches


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The end of a run.

    :param triggered: how many runs were triggered.
    :param failures: the failed runs.
    :param incidents: what incident.io has, as v1 shows it.
    :param journal: how many records the journal has in each state.
    :param tasks: how many tasks each worker has begun.
    :param redelivered: how many tasks both workers have begun.
    :param flushed: how many incidents the flush DAG has opened.
    :param lost: tasks that ran on the worker that was killed, and the state that each has now.
    :param away: seconds that incident.io did not answer.
    :param to_fail: how many runs were to fail, and how many tasks of each.
    """

    triggered: int
    failures: list[Failure]
    incidents: list[dict[str, Any]]
    journal: Counter[str]
    tasks: dict[str, int]
    redelivered: int
    flushed: int
    lost: dict[str, str]
    away: float
    to_fail: tuple[int, int]

    def seconds(self) -> list[float]:
        """List the seconds from each run's first failure to its first incident, shortest first."""
        found = ((failure, failure.own(self.incidents)) for failure in self.failures)
        return sorted(min(map(failure.seconds_until, own)) for failure, own in found if own)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield the lines of the table."""
        seconds = self.seconds() or [float("nan")]
        yield "runs", str(self.triggered)
        yield "failed runs", str(len(self.failures))
        yield "failed tasks", str(sum(len(failure.tasks) for failure in self.failures))
        yield "incidents", str(len(self.incidents))
        yield "duplicates", str(sum(max(0, len(failure.own(self.incidents)) - 1) for failure in self.failures))
        yield "lost", str(sum(not failure.own(self.incidents) for failure in self.failures))
        yield "journal: opened", str(self.journal["opened"])
        yield "journal: pending", str(self.journal["pending"])
        yield "journal: dead", str(self.journal["dead"])
        for worker, count in self.tasks.items():
            yield f"tasks begun by {worker}", str(count)
        yield "tasks killed with one of them", str(len(self.lost))
        yield "tasks begun by both", str(self.redelivered)
        yield "outage", f"{self.away:.0f} s"
        yield "opened by the flush DAG", str(self.flushed)
        yield "failure to incident, median", f"{statistics.median(seconds):.1f} s"
        yield "failure to incident, longest", f"{max(seconds):.1f} s"

    def wrong(self) -> list[str]:
        """Tell everything that should not be."""
        runs, tasks = self.to_fail
        wrong = mismatches(self.failures, self.incidents)
        if len(self.failures) != runs:
            wrong.append(f"{len(self.failures)} runs failed instead of {runs}")
        wrong += [
            f"{failure.run_id} has {len(failure.tasks)} failed tasks instead of {tasks}"
            for failure in self.failures
            if len(failure.tasks) != tasks
        ]
        if self.journal != Counter(opened=runs):
            wrong.append(f"the journal holds {dict(self.journal)} instead of {runs} opened records")
        wrong += [f"{worker} has begun no task" for worker, count in self.tasks.items() if not count]
        if not self.lost:
            wrong.append("no task was killed with its worker")
        wrong += [
            f"{task}, killed with its worker, is {state}" for task, state in self.lost.items() if state != "failed"
        ]
        return wrong

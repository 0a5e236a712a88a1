"""Who told of each failed run, as a table, and what of it should not be. No Airflow, no network, no clock."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from tools.e2e.verdict import SILENCE, Ending

DAGS = [f"unaware_{number:02}" for number in range(20)]
GRACE = timedelta(minutes=2)
"""How long callbacks come first."""
LINE = re.compile(r"\(outcome=(\w+)[^)]*\brun_id=(\S+)")
ROUND = re.compile(r"watcher: .*\((\d+\.\d) s\)")


class Failing(NamedTuple):
    """A run to come; its ID says what goes wrong with its task and what with Airflow, and no other's begins so."""

    trouble: str
    kind: str
    dag_id: str

    @property
    def run_id(self) -> str:
        """The run's ID."""
        return f"{self.trouble}.{self.kind}.{self.dag_id[-2:]}."


def plan() -> list[Failing]:
    """Name a hundred runs, five of each DAG."""
    runs = []
    for number, dag_id in enumerate(DAGS):
        runs += [
            Failing("processor", "raises", dag_id),
            Failing("processor", "killed" if number % 5 else "lost", dag_id),
            Failing("outage", "raises" if number % 4 else "marked", dag_id),
            Failing("outage", "killed", dag_id),
            Failing("database", "killed" if number % 2 else "raises", dag_id),
        ]
    return sorted(runs, key=lambda run: ("processor", "outage", "database").index(run.trouble))


class Incident(NamedTuple):
    """What incident.io has of one, and when it came."""

    reference: str
    text: str
    opened_at: datetime
    is_closed: bool = False


def incident_of(row: Any) -> Incident:
    """Read what the sandbox keeps of an incident."""
    shown = row.incident
    return Incident(
        shown["reference"],
        "\n".join((row.request["idempotency_key"], shown["name"], shown["summary"])),
        datetime.fromisoformat(shown["created_at"]),
        shown["incident_status"]["category"] == "closed",
    )


class Words(NamedTuple):
    """What watchers have said: the outcomes of each run, and how long their longest round took."""

    outcomes: Mapping[str, set[str]]
    longest: float

    @classmethod
    def read(cls, logs: Iterable[str]) -> "Words":
        """Read their logs."""
        outcomes: dict[str, set[str]] = {}
        text = "\n".join(logs)
        for outcome, run_id in LINE.findall(text):
            outcomes.setdefault(run_id, set()).add(outcome)
        return cls(outcomes, max(map(float, ROUND.findall(text)), default=0.0))


@dataclass(kw_only=True)
class Told:
    """The end of a session.

    :param ended: when each run failed, by Airflow's database.
    :param incidents: what incident.io had when all runs had failed and the grace was over.
    :param away: when incident.io, the database or the watcher was not there.
    :param every: seconds from one round to the next.
    :param kills: how often the DAG processor was killed in a batch.
    :param recovered: what was done to runs afterwards.
    :param closed: IDs of the runs whose incidents were closed after that.
    :param durations: how long it took until something was so, in seconds.
    :param remarks: what took too long, or is not as it should be, in words.
    """

    runs: list[Failing]
    every: float
    ended: dict[str, datetime] = field(default_factory=dict)
    incidents: list[Incident] = field(default_factory=list)
    away: list[tuple[datetime, datetime]] = field(default_factory=list)
    words: Words = field(default_factory=lambda: Words({}, 0.0))
    kills: int = 0
    recovered: dict[str, str] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    durations: dict[str, float] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)
    endings: list[Ending] = field(default_factory=list)
    neighbour: dict[str, str] = field(default_factory=dict)
    silence: float = 0.0
    remarks: list[str] = field(default_factory=list)

    def own(self, run: Failing) -> list[Incident]:
        """Pick the incidents that speak of a run."""
        return [incident for incident in self.incidents if run.run_id in incident.text]

    def due(self, run: Failing) -> datetime:
        """Say when the watcher was to look for a run, and everything was there, for two rounds, that it needs."""
        due = self.looked_for(run)
        for begin, end in sorted(self.away):
            due = end if begin - timedelta(seconds=2 * self.every) <= due < end else due
        return due

    def teller(self, run: Failing) -> str:
        """Say who told of a run: a callback, one that only wrote it down, or nobody but the watcher.

        What was opened before the watcher looked was told by a callback that could not write it down.
        """
        said = self.words.outcomes.get(run.run_id, set())
        if (
            said & {"opened", "journalled"}
            and run.run_id in self.ended
            and all(each.opened_at >= self.looked_for(run) for each in self.own(run))
        ):
            return "watcher"
        return "kept" if "replayed" in said else "callback"

    def looked_for(self, run: Failing) -> datetime:
        """Say when callbacks have had their time."""
        return self.ended[run.run_id] + GRACE

    def lateness(self, run: Failing) -> float:
        """Count the seconds from there to its incident."""
        return min((each.opened_at - self.due(run)).total_seconds() for each in self.own(run))

    @property
    def two_rounds(self) -> float:
        """How late an incident may be: a round that looked too early, and the next one."""
        return 2 * (self.every + self.words.longest)

    def table(self) -> Iterator[str]:
        """Yield the lines of the table."""
        columns = ("failed", "once", "twice", "lost", "callback", "kept", "watcher")
        yield f"{'trouble':11}{'task':9}{'runs':>6}" + "".join(f"{column:>10}" for column in columns) + "  latest"
        kinds = dict.fromkeys((run.trouble, run.kind) for run in self.runs)
        for trouble, kind in (*kinds, ("", "all")):
            runs = [run for run in self.runs if not trouble or (run.trouble, run.kind) == (trouble, kind)]
            late = [self.lateness(run) for run in self._by_watcher(runs)]
            yield (
                f"{trouble:11}{kind:9}{len(runs):6}"
                + "".join(map("{:10}".format, self.figures(runs)))
                + (f"{max(late):+7.1f} s" if late else "")
            )
        yield (
            "kept: a callback wrote it down, the watcher delivered it; watcher: nobody else told; latest: after the "
            f"grace, allowed are {self.two_rounds:.1f} s (longest round {self.words.longest:.1f} s)"
        )
        yield f"the DAG processor was killed in {self.kills} batches"
        for what, seconds in self.durations.items():
            yield f"{what}: {seconds:.1f} s"
        done = ", ".join(f"{count} {what}" for what, count in Counter(self.recovered.values()).items())
        yield f"afterwards {done}; closed are the incidents of {len(self.closed)}"
        started = ", ".join(f"{name} {count}" for name, count in self.starts.items())
        yield f"started: {started}; ended by themselves: {len(self.endings)}"
        states = ", ".join(f"{count} {state}" for state, count in Counter(self.neighbour.values()).items())
        yield f"neighbour's runs: {states}; its trigger was silent for {self.silence:.0f} s at most"

    def figures(self, runs: list[Failing]) -> tuple[int, ...]:
        """Count what became of some runs."""
        counts = [len(self.own(run)) for run in runs]
        tellers = Counter(self.teller(run) for run, count in zip(runs, counts, strict=True) if count)
        return (
            sum(run.run_id in self.ended for run in runs),
            counts.count(1),
            sum(count > 1 for count in counts),
            counts.count(0),
            *(tellers[name] for name in ("callback", "kept", "watcher")),
        )

    def _by_watcher(self, runs: Iterable[Failing]) -> list[Failing]:
        return [run for run in runs if run.run_id in self.ended and self.own(run) and self.teller(run) == "watcher"]

    def wrong(self) -> list[str]:
        """Tell everything that should not be."""
        wrong = list(self.remarks)
        for run in self.runs:
            if run.run_id not in self.ended:
                wrong.append(f"{run.run_id} of {run.dag_id} has not failed, as it should")
            if len(own := self.own(run)) != 1:
                said = ", ".join(incident.reference for incident in own)
                wrong.append(f"{run.run_id} of {run.dag_id} has {len(own)} incidents instead of one: {said}")
        wrong += [
            f"{run.run_id} of {run.dag_id} had its incident {late:.1f} s after the grace"
            for run in self._by_watcher(self.runs)
            if (late := self.lateness(run)) > self.two_rounds
        ]
        if not self._by_watcher(self.runs):
            wrong.append("the callbacks told everything: the watcher was not tried")
        for run in self.runs:
            is_closed, done = run.run_id in self.closed, self.recovered.get(run.run_id)
            if is_closed != bool(done):
                wrong.append(
                    f"{run.run_id} was {done or 'left alone'}, and its incident is {'' if is_closed else 'not '}closed"
                )
        wrong += [
            f"the {each.name} ended by itself (exit {each.code}): {each.reason}"
            for each in self.endings
            if not each.is_airflows
        ]
        wrong += [
            f"the neighbour's {run_id} is {state}" for run_id, state in self.neighbour.items() if state != "success"
        ]
        if self.silence > SILENCE:
            wrong.append(f"the neighbour's trigger was silent for {self.silence:.0f} s while nothing was away")
        return wrong

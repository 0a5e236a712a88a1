"""Simulate a day of the journal: the real reporter, watcher and exchange, over a simulated store, API and clock.

`python -m benchmarks.simulation`: the same seed, the same day. Only the wall time is the machine's.
"""

import argparse
import heapq
import itertools
import json
import random
import sys
import time
from bisect import bisect
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from airflow_incident.airflow_bridge.database import Run, StoredText
from airflow_incident.api.calls import PreparedCreate
from airflow_incident.api.exchange import Request, RequestLimits, Response, execute
from airflow_incident.core.failure import Failure
from airflow_incident.core.settings import Settings
from airflow_incident.core.timing import LONGEST_ROUND, ROUND_SECONDS
from airflow_incident.delivery.effects import Delete, Get, ReadAll, Send, Set, StoreFailed
from airflow_incident.delivery.flush import flush_all
from airflow_incident.delivery.record import PREFIX
from airflow_incident.delivery.report import DeliveryPolicy, IncidentContent, Report, prepare
from airflow_incident.delivery.reporter import deliver
from airflow_incident.errors import IncidentIoError, JournalError, TransportError
from airflow_incident.watcher.decide import Duties
from airflow_incident.watcher.round import Watcher
from airflow_incident.watcher.state import NAME
from benchmarks.tables import table

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
RUNS = 100_000
DAY = 86_400.0
START = datetime(2026, 11, 23, tzinfo=UTC)
OUTAGE = (36_000.0, 39_600.0)
"""From ten to eleven o'clock half of the requests find nobody, the other half a 503."""
SLOW = (54_000.0, 54_600.0)
"""For ten minutes incidents are opened, but no answer comes."""
BURSTS = (21_600.0, 37_000.0, 50_400.0, 64_800.0, 75_600.0)
"""Minutes in which a twenty-fifth of the day's failures come at once each."""
RATE_LIMIT = 1_200
"""Requests a minute: https://docs.incident.io/api-reference/introduction"""
KEY_LIFETIME = 3_600.0
"""Seconds after which the API has forgotten a key, and would open a second incident for it."""
FLUSH_EVERY = 300.0
REPORT_SECONDS = 12.0
FLUSH_SECONDS = 60.0
SPARE = 6.0
STORE_SECONDS = 0.01
API_SECONDS = 0.2
KILLED = 0.02
"""Share of the reports, flushes and rounds whose process is killed at a random step."""
UNCALLED = 0.05
"""Share of the failed runs of which no callback tells."""
FIGURE = Path(__file__).parent.parent / "docs" / "images" / "simulation.png"

Process = Generator[float, None, None]
"""What a process does: it yields the seconds until its next step."""


class Result(NamedTuple):
    """What a simulated day came to."""

    failures: int
    incidents: int
    duplicates: int
    watched: int
    unwritten: int
    lost: int
    waiting: int
    killed: int
    requests: int
    store_steps: int
    refused: int
    longest: float
    median: float
    wall: float


@dataclass
class Day:
    """A day's clock, store, API and processes."""

    seed: int
    limits: tuple[int, int] = (0, 0)
    now: float = 0.0
    texts: dict[str, str] = field(default_factory=dict)
    opened: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, float] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    pending: list[tuple[float, int]] = field(default_factory=list)
    store_steps: int = 0
    requests: int = 0
    refused: int = 0
    killed: int = 0
    runs: list[Run] = field(default_factory=list)
    found: set[str] = field(default_factory=set)
    busy_until: float = 0.0

    def __post_init__(self) -> None:
        self.watcher = self._new_watcher()
        self.random = random.Random(self.seed)
        self._queue: list[tuple[float, int, Process, int]] = []
        self._number = itertools.count()
        self._tokens, self._filled_at = float(RATE_LIMIT), 0.0

    def live(self, failures: int) -> Result:
        """Live through the day, and through as much of the next as is needed to deliver what waits."""
        began = time.perf_counter()
        for number in range(failures):
            at = self._moment()
            self._start(at, self._fail(number))
        for at in range(int(FLUSH_EVERY), int(DAY) + 7_200, int(FLUSH_EVERY)):
            self._start(float(at), self._flush())
        for at in range(0, int(DAY) + 7_200, int(ROUND_SECONDS)):
            self._start(float(at), self._round())
        while self._queue:
            self.now, _, process, steps = heapq.heappop(self._queue)
            if steps == 0:
                process.close()
                self.killed += 1
                continue
            try:
                pause = next(process)
            except StopIteration:
                continue
            heapq.heappush(self._queue, (self.now + pause, next(self._number), process, steps - 1))
        return self._result(failures, time.perf_counter() - began)

    def _start(self, at: float, process: Process, steps: int = -1) -> None:
        heapq.heappush(self._queue, (at, next(self._number), process, steps))

    def _moment(self) -> float:
        """Draw when a run fails: at any time, or in a burst."""
        if self.random.random() < len(BURSTS) / 25:
            return self.random.choice(BURSTS) + self.random.uniform(0, 60)
        return self.random.uniform(0, DAY)

    def _steps_until_killed(self) -> int:
        return self.random.randrange(1, 12) if self.random.random() < KILLED else -1

    def _fail(self, number: int) -> Process:
        """Fail a run: its task tells first, the DAG five seconds later, each from a process of its own, or nobody."""
        report = report_of(number)
        self.failed[report.key] = self.now
        failure, ended = report.failure, self.moment()
        began = ended - timedelta(minutes=1)
        self.runs.append(Run(len(self.runs) + 1, failure.dag_id, failure.run_id, "failed", 0, began, ended))
        if self.random.random() < UNCALLED:
            return
        self._start(self.now, self._report(report), self._steps_until_killed())
        self._start(self.now + 5, self._report(told_by_dag(report)), self._steps_until_killed())
        yield from ()

    def _report(self, report: Report) -> Process:
        deadline = self.now + REPORT_SECONDS
        rules = DeliveryPolicy(
            now=self.moment,
            deployment="simulated",
            conn_id="c",
            storm_dag=self.limits[0],
            storm_connection=self.limits[1],
            has_time=lambda: deadline - self.now > SPARE,
        )
        yield from self._carry(deliver(report, rules), deadline)

    def _flush(self) -> Process:
        self.pending.append((self.now, sum('"state":"pending"' in text for text in self.texts.values())))
        self._start(self.now, self._carry(flush_all(self.moment), None), self._steps_until_killed() * 50)
        yield from ()

    def _new_watcher(self) -> Watcher:
        callbacks: Any = None
        return Watcher(Duties(opens=True, covers=bool), callbacks, now=self.moment)

    def _round(self) -> Process:
        """Carry a round of the watcher; one that is killed is started anew, and knows what stands in the journal."""
        if self.now < self.busy_until:
            return
        tables: Any = Tables(self)
        facts = self.watcher._read(tables, self.moment())  # noqa: SLF001 -- what it does about them takes simulated time
        self.texts[NAME] = facts.state.text()
        if self.random.random() < KILLED:
            self.watcher = self._new_watcher()
        self._start(self.now, self._open(facts.to_open), self._steps_until_killed())
        yield from ()

    def _open(self, runs: list[Run]) -> Process:
        began = self.now
        self.busy_until = began + LONGEST_ROUND + REPORT_SECONDS
        for run in runs:
            if self.now >= began + LONGEST_ROUND:
                break
            report = told_by_dag(report_of(int(run.run_id.removeprefix("scheduled__"))))
            self.found.add(report.key)
            yield from self._report(report)
        self.busy_until = 0.0

    def _carry(self, steps: Generator[Any, Any, Any], deadline: float | None) -> Process:
        """Take a report's or a flush's steps, each in its time."""
        answer: Any = None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, Send):
                    answer = yield from self._ask(step, deadline or self.now + FLUSH_SECONDS)
                else:
                    yield STORE_SECONDS
                    answer = self._keep(step)
        except (StopIteration, JournalError):
            return

    def _ask(self, step: Send, deadline: float) -> Generator[float, None, Any]:
        """Drive the real exchange against the simulated API."""
        terms = RequestLimits(deadline, lambda: self.now, self.moment, self.random.random, [])
        conversation = execute(PreparedCreate(step.body, step.endpoint), terms)
        answer: Any = None
        try:
            while True:
                wanted = conversation.send(answer)
                if wanted.delay:
                    yield wanted.delay
                yield API_SECONDS / 2
                answer = self._answer(wanted)
                yield API_SECONDS / 2
        except StopIteration as end:
            return end.value
        except IncidentIoError as error:
            return error

    def _answer(self, request: Request) -> Response | TransportError:
        self.requests += 1
        if OUTAGE[0] <= self.now < OUTAGE[1]:
            return TransportError("ConnectError") if self.random.random() < 0.5 else Response(503)
        self._tokens = min(RATE_LIMIT, self._tokens + (self.now - self._filled_at) * RATE_LIMIT / 60)
        self._filled_at = self.now
        if self._tokens < 1:
            self.refused += 1
            return Response(429, {"retry-after": "1"})
        self._tokens -= 1
        key = json.loads(request.content or b"{}")["idempotency_key"]
        moments = self.opened.setdefault(key, [])
        if not moments or self.now - moments[-1] > KEY_LIFETIME:
            moments.append(self.now)
        if SLOW[0] <= self.now < SLOW[1]:
            return TransportError("ReadTimeout", maybe_delivered=True)
        head = {"id": key, "reference": "INC-1", "name": "x", "status": "triage", "permalink": "https://x"}
        return Response(200, {}, json.dumps({"incident": head}).encode())

    def _keep(self, step: Any) -> Any:
        self.store_steps += 1
        match step:
            case Get(name):
                return self.texts.get(name)
            case Set(name, text):
                self.texts[name] = text
                if name.startswith(PREFIX):
                    self.written[name] = text
            case Delete(name):
                self.texts.pop(name, None)
            case ReadAll(prefix):
                return {name: text for name, text in sorted(self.texts.items()) if name.startswith(prefix)}
            case _:
                return StoreFailed("not simulated")
        return None

    def moment(self) -> datetime:
        """Tell the simulated time of day."""
        return START + timedelta(seconds=self.now)

    def _result(self, failures: int, wall: float) -> Result:
        records = [json.loads(text) for text in self.written.values()]
        waiting = {record["key"] for record in records if record["state"] == "pending"}
        told = {record["key"] for record in records if record.get("storm", record["key"]) in self.opened}
        accepted = {record["key"] for record in records} | set(self.opened)
        delays = sorted(moments[0] - self.failed[key] for key, moments in self.opened.items() if key in self.failed)
        return Result(
            failures=failures,
            incidents=len(self.opened),
            duplicates=sum(len(moments) - 1 for moments in self.opened.values()),
            watched=len(self.found),
            unwritten=len(set(self.failed) - accepted),
            lost=len(accepted - told - waiting),
            waiting=len(waiting),
            killed=self.killed,
            requests=self.requests,
            store_steps=self.store_steps,
            refused=self.refused,
            longest=delays[-1] if delays else 0.0,
            median=delays[len(delays) // 2] if delays else 0.0,
            wall=wall,
        )


class Tables:
    """Airflow's database, as far as a day has one: failed runs, and Variables."""

    def __init__(self, day: Day) -> None:
        self._day, self._runs = day, day.runs

    def texts(self, prefix: str) -> dict[str, StoredText]:
        """Return the Variables whose key begins with a prefix."""
        return {name: (text, False) for name, text in self._day.texts.items() if name.startswith(prefix)}

    def decoded(self, names: list[str]) -> dict[str, str]:
        """Return the texts of these Variables."""
        return {name: self._day.texts[name] for name in names}

    def newest(self) -> int:
        """Return the ID of the newest run."""
        return len(self._runs)

    def runs_after(self, run_id: int) -> list[Run]:
        """Return the newer runs."""
        return self._runs[run_id:]

    def runs_with(self, ids: Iterable[int]) -> list[Run]:
        """Return the runs with these IDs."""
        return [self._runs[run_id - 1] for run_id in ids]

    def failed_since(self, moment: datetime) -> list[Run]:
        """Return the runs that have failed since."""
        return self._runs[bisect(self._runs, moment, key=lambda run: run.ended_at or moment) :]

    def unfinished(self) -> list[Run]:
        """Return none: those that run say nothing yet."""
        return []

    def runs_of(self, _: object) -> list[Run]:
        """Return none: nothing recovers on such a day."""
        return []

    def task_states(self, _: object) -> dict[str, str]:
        """Return none, as above."""
        return {}

    latest_successes = task_states


def report_of(number: int) -> Report:
    """Prepare what the task of a failed run tells."""
    failure = Failure(
        dag_id=f"dag_{number % 500}",
        run_id=f"scheduled__{number}",
        level="task",
        task_id="load",
        exception_type="ValueError",
        exception="no such table: orders",
    )
    return prepare(failure, Settings(), IncidentContent(), deployment="simulated", redact=str)


def told_by_dag(report: Report) -> Report:
    """Tell the same failure at the DAG's level."""
    return replace(report, failure=report.failure._replace(level="dag"))


def days(most: int, seed: int) -> Iterator[tuple[str, Day, Result]]:
    """Simulate days of growing misfortune, and one with the storm limits on."""
    for failures in [size for size in SIZES if size <= most]:
        day = Day(seed)
        yield f"{failures:,}", day, day.live(failures)
    day = Day(seed, limits=(3, 10))
    yield f"{most // 10:,}, storm limits on", day, day.live(most // 10)


def main() -> int:
    """Simulate, print and draw; return 1 if a law was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1], choices=SIZES, help="failures of the worst day")
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--figure", type=Path, default=FIGURE, metavar="FILE", help="where the figure goes")
    options = parser.parse_args()
    lived = []
    for title, day, result in days(options.most, options.seed):
        print(f"{title} of {RUNS:,} runs failed: simulated in {result.wall:.1f} s", file=sys.stderr)
        lived.append((title, day, result))
    print(_table([(title, result) for title, _, result in lived]))
    try:
        draw([(day, result) for _, day, result in lived[:-1]], options.figure)
    except ModuleNotFoundError:
        print("No figure: matplotlib is missing; it is in the dependency group 'simulation'.", file=sys.stderr)
    wrong = (r.duplicates or r.unwritten or r.lost or r.waiting for _, _, r in lived)
    return int(any(wrong))


def _table(rows: list[tuple[str, Result]]) -> str:
    head = [
        "failures",
        "incidents",
        "twice",
        "by watcher",
        "unwritten",
        "lost",
        "waiting",
        "killed",
        "requests",
        "429s",
        "store steps",
        "median delay",
        "longest delay",
        "steps/failure",
        "requests/failure",
        "ms/failure",
    ]

    def row(title: str, r: Result) -> list[str]:
        counts = (
            r.incidents,
            r.duplicates,
            r.watched,
            r.unwritten,
            r.lost,
            r.waiting,
            r.killed,
            r.requests,
            r.refused,
            r.store_steps,
        )
        each = (r.store_steps / r.failures, r.requests / r.failures, 1000 * r.wall / r.failures)
        delays = [f"{r.median:.1f} s", f"{r.longest / 60:.0f} min"]
        return [title, *(f"{n:,}" for n in counts), *delays, *(f"{n:.2f}" for n in each)]

    title = (
        f"A day of {RUNS:,} runs: an hour's outage, ten minutes without answers, five bursts, {RATE_LIMIT:,} requests "
        f"a minute;\n{KILLED:.0%} of the processes killed, each failure told by task and DAG but {UNCALLED:.0%}, of "
        f"which only the watcher can tell,\na flush every {FLUSH_EVERY / 60:.0f} minutes; the API forgets a key after "
        f"{KEY_LIFETIME / 3600:.0f} h"
    )
    return table(title, head, [row(*each) for each in rows])


def draw(lived: list[tuple[Day, Result]], file: Path) -> None:
    """Draw what grows with the failures, and what waits during the worst day."""
    import matplotlib as mpl  # only the figure needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    sizes = [result.failures for _, result in lived]
    left.loglog(sizes, [r.store_steps for _, r in lived], "o-", label="store steps")
    left.loglog(sizes, [r.requests for _, r in lived], "s-", label="requests")
    left.loglog(sizes, [r.incidents for _, r in lived], "^-", label="incidents")
    left.set(title="What a day costs", xlabel=f"failures among {RUNS:,} runs")
    left.legend()
    left.grid(visible=True, which="major", alpha=0.3)
    worst = lived[-1][0]
    right.plot([at / 3600 for at, _ in worst.pending], [count for _, count in worst.pending], color="C3")
    right.axvspan(OUTAGE[0] / 3600, OUTAGE[1] / 3600, color="0.85", label="outage")
    right.axvspan(SLOW[0] / 3600, SLOW[1] / 3600, color="0.7", label="no answers")
    right.set(title=f"What waits in the journal, {sizes[-1]:,} failures", xlabel="hour of the day", xlim=(0, 24))
    right.legend()
    right.grid(visible=True, alpha=0.3)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())

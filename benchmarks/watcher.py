"""Measure what a round of the watcher asks of PostgreSQL, from a thousand to a million runs.

`python -m benchmarks.watcher`: queries and seconds of a round in which nothing differs, ordinary and deep, with an
empty journal and a full one; and the memory of many rounds. Needs `apt-get install postgresql`.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from benchmarks.tables import Limit, spread, table
from tools.postgres import Postgres
from tools.stage import ROOT, Stage
from tools.watch import Trouble, Watch

SIZES = (1_000, 10_000, 100_000, 1_000_000)
RECORDS = 2_000
ROUNDS = 10_000
MEASURED = 21
QUERIES = Limit("queries of a round in which nothing differs", "", 10)
SECONDS = Limit("such a round", " ms", 200)
MEMORY = Limit("memory above Airflow's own import", " MiB", 50)
GROWTH = Limit("growth of the memory over the second half of the rounds", " MiB", 2)
DAGS = 200
MISSING = "This needs PostgreSQL: apt-get install postgresql"

RUNS = """
INSERT INTO dag_run (dag_id, run_id, run_type, state, {moment}, start_date, end_date, clear_number {more})
SELECT 'dag_' || mod(number, {dags}), 'scheduled__' || number, 'scheduled',
       CASE WHEN mod(number, 20) = 0 THEN 'failed' ELSE 'success' END,
       ended, ended - interval '1 minute', ended, 0 {values}
FROM generate_series({first}, {last}) AS number,
     LATERAL (SELECT now() - interval '3 days' - number * interval '9 seconds' AS ended) AS moments
"""


class Meter:
    """A watcher over whatever database Airflow has, its clock passed by hand."""

    def __init__(self) -> None:
        from airflow import settings
        from sqlalchemy import event

        from airflow_incident.core.settings import Settings

        self.now = datetime.now(UTC)
        self.queries = 0
        self._settings = Settings(auto_open=True, auto_resolve=True, import_errors=True)
        event.listen(settings.engine, "before_cursor_execute", self._count)

    def _count(self, *_: Any) -> None:
        self.queries += 1

    def watcher(self) -> Any:
        """Start a watcher."""
        from airflow_incident.cli.watch import WatcherCallbacks, duties_of
        from airflow_incident.watcher.round import Watcher

        duties = duties_of(self._settings)
        return Watcher(duties, WatcherCallbacks(duties.covers), now=lambda: self.now)

    def rounds(self, watcher: Any, number: int, *, apart: float) -> tuple[list[float], list[float]]:
        """Carry rounds in which nothing differs; return the milliseconds and the queries of each.

        :param apart: Seconds from one round to the next, as the watcher's clock shows them.
        """
        took, asked = [], []
        for _ in range(number):
            before, began = self.queries, time.perf_counter()
            done = watcher.round()
            took.append(1000 * (time.perf_counter() - began))
            asked.append(float(self.queries - before))
            if done.differences:
                raise Trouble(f"something differs: {done}")
            self.now += timedelta(seconds=apart)
        return took, asked


def add_runs(first: int, last: int) -> None:
    """Add old runs, one of twenty failed; the newest are the first."""
    from airflow.models import DagRun

    columns = DagRun.__table__.c
    has_run_after = "run_after" in columns
    statement = RUNS.format(
        moment="logical_date" if "logical_date" in columns else "execution_date",
        more=", run_after, span_status" if has_run_after else "",
        values=", ended, 'not_started'" if has_run_after else "",
        dags=DAGS,
        first=first,
        last=last,
    )
    say(statement, "UPDATE dag_run SET state = 'running', end_date = NULL WHERE mod(id, 50000) = 7", "ANALYZE dag_run")


def fill_journal() -> None:
    """Let the newest runs have failed within the last day, and each have its record."""
    from airflow.models import DagRun, Variable
    from sqlalchemy import select

    from airflow_incident.core.failure import Failure
    from airflow_incident.core.key import idempotency_key
    from airflow_incident.delivery.record import OpenIncident, Record

    now = datetime.now(UTC)
    with session() as database:
        for row in database.scalars(select(DagRun).order_by(DagRun.id.desc()).limit(RECORDS)):
            row.state, row.end_date = "failed", now - timedelta(hours=1)
            key = idempotency_key(Failure(row.dag_id, row.run_id), deployment="measured")
            incident = OpenIncident("01HFB6ZTS1VQ4D8C3G0000", "INC-1", "DAG failed", "https://app.incident.io/x/1")
            record = Record("open", key, row.dag_id, row.run_id, "c", "dag", now, opened_at=now, incident=incident)
            database.add(Variable(key=record.name, val=record.text()))  # noqa: AIR311 -- there is no supervisor here


def empty_journal() -> None:
    """Forget it, and let the watcher be turned on anew."""
    say("DELETE FROM variable", "UPDATE dag_run SET end_date = start_date WHERE end_date > now() - interval '1 day'")


def say(*statements: str) -> None:
    """Let the database do something."""
    from sqlalchemy import text

    with session() as database:
        for statement in statements:
            database.execute(text(statement))


@contextmanager
def session() -> Iterator[Any]:
    """Open Airflow's database."""
    from airflow.utils.session import create_session

    with create_session() as opened:
        yield opened


def memory() -> float:
    """Tell what this process holds, in MiB."""
    return psutil.Process().memory_info().rss / 2**20


def measure(sizes: list[int], rounds: int) -> int:
    """Measure in the environment that names the database; return 1 if a limit was missed."""
    from airflow import settings
    from airflow.models import DagModel, DagRun, TaskInstance, Variable  # noqa: F401 -- Airflow's own import
    from airflow.models.serialized_dag import SerializedDagModel  # noqa: F401 -- as above

    say("SELECT 1")
    bare = memory()
    meter = Meter()
    rows, asked, took = [], [], []
    before = 0
    for size in sizes:
        add_runs(before + 1, size)
        before = size
        for name, prepare in (("empty", empty_journal), (f"{RECORDS:,} records", fill_journal)):
            if name != "empty" and size < RECORDS:
                continue
            prepare()
            watcher = meter.watcher()
            first, _ = meter.rounds(watcher, 1, apart=1)
            ordinary, queries = meter.rounds(watcher, MEASURED, apart=1)
            meter.now += timedelta(minutes=11)
            deep, deep_queries = meter.rounds(watcher, 5, apart=660)
            rows.append(
                [
                    f"{size:,}",
                    name,
                    spread(queries),
                    spread(ordinary, 1),
                    spread(deep_queries),
                    spread(deep, 1),
                    f"{first[0]:.0f}",
                ]
            )
            print(".", end="", file=sys.stderr, flush=True)
            asked += queries
            took.append(sorted(ordinary)[len(ordinary) // 2])
            meter.now = datetime.now(UTC)
    print(file=sys.stderr)
    head = ["runs", "journal", "queries", "ms", "queries, deep", "ms, deep", "ms, first"]
    title = (
        f"A round in which nothing differs, PostgreSQL: medians (smallest..largest) of {MEASURED}, and of 5 deep ones"
    )
    print(table(title, head, rows), flush=True)
    held = [memory()]
    watcher = meter.watcher()
    for _ in range(4):
        meter.rounds(watcher, max(1, rounds // 4), apart=1)
        held.append(memory())
    print(
        f"\nMemory: Airflow's own import {bare:.0f} MiB; after {', '.join(f'{m:.1f}' for m in held)} MiB, "
        f"each {rounds // 4:,} rounds later"
    )
    verdicts = [
        QUERIES.verdict([max(asked)]),
        SECONDS.verdict([max(took)]),
        MEMORY.verdict([max(held) - bare]),
        GROWTH.verdict([held[-1] - held[2]]),
    ]
    print("\n".join(verdicts))
    settings.engine.dispose()
    return int(any(not verdict.startswith("within") for verdict in verdicts))


def main() -> int:
    """Serve a database, fill it and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watcher", description=__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1], choices=SIZES, help="runs in the largest database")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds over which the memory is watched")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure([size for size in SIZES if size <= options.most], options.rounds)
    watch = Watch()
    with Postgres(MISSING) as postgres, Stage("measured") as stage:
        postgres.reserve(stage)
        postgres.create(stage, watch)
        told = stage.told(
            stage.home, {"DATABASE__SQL_ALCHEMY_CONN": postgres.url, "INCIDENT_IO__DEPLOYMENT": "measured"}
        )
        python = (sys.executable, "-m")
        subprocess.run([*python, "airflow", "db", "migrate"], env=told, cwd=ROOT, check=True, capture_output=True)
        command = [*python, "benchmarks.watcher", "--measure", f"--most={options.most}", f"--rounds={options.rounds}"]
        return subprocess.run(command, env=told, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

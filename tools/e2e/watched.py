"""`make watched`: a real Airflow in trouble, and the watcher, which must find whatever no callback has told.

A hundred runs of twenty DAGs that nobody edited fail while the DAG processor is killed in its batches, incident.io and
the database are away, and the watcher itself is killed. Airflow's database says what failed.
"""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from airflow_incident.sandbox.server import Sandbox
from tools.e2e.installation import HERE, Installation
from tools.e2e.play import MISSING
from tools.e2e.session import FINISH, Session
from tools.e2e.told import DAGS, GRACE, Failing, Incident, Told, Words, incident_of, plan
from tools.postgres import Postgres
from tools.stage import AIRFLOW, ROOT
from tools.watch import Trouble, Watch, perform
from tools.wire import Wire

PROCESSOR = "dag-processor"
REQUESTS = "callback" if AIRFLOW >= (3, 2) else "callback_request"
"""The table of what the DAG processor is asked to call."""
EVERY = 5.0
"""Seconds from one of the watcher's rounds to the next."""
API_AWAY, DATABASE_AWAY = 60, 20
BATCH, FAIL, CLOSE, PARSE = 60, 240, 90, 90
"""Seconds that are waited, at most, for a batch of callbacks, runs to end, incidents to close, DAG files to be read."""
SETTLE = 15
BROKEN_AFTER = 70
"""Seconds into the grace until DAG files break: theirs is a minute, and their storm must not take a run."""
BROKEN = [f"broken_{number:02}" for number in range(51)]
STORM = 110
"""Incidents from which on they are grouped: more than there are runs, less than runs and broken files."""
PAGE = ROOT / "docs" / "how-to" / "watcher.md"
"""Has the SQL that makes the watchers' user of the database."""
USER = "incident_watch"
SOUND = "# Airflow takes this for a DAG file, for it speaks of both.\n"
FAULT = f"{SOUND}import no_such_package\n"


class Watched(Installation):
    """An Airflow with zero touch on, beside which watchers run."""

    def __init__(self, postgres: Postgres) -> None:
        super().__init__(postgres, "watched")
        self.watchers: list[str] = []

    def reserve(self) -> None:
        """Choose the ports."""
        super().reserve()
        self._engine = create_engine(self._postgres.url, poolclass=NullPool)

    def write_dags(self, folder: Path) -> None:
        """Put there what is to fail."""
        for name in DAGS:
            shutil.copy(HERE / "dags" / "unaware.py", folder / f"{name}.py")

    def awaited(self, refused: set[str]) -> set[str]:
        """Name the DAGs that are to be known before anything begins."""
        return set(DAGS) - refused

    def environment(self, name: str) -> dict[str, str]:
        """Say all that a process is told."""
        settings = {
            "INCIDENT_IO__AUTO_OPEN": "True",
            "INCIDENT_IO__AUTO_RESOLVE": "True",
            "INCIDENT_IO__IMPORT_ERRORS": "True",
            "INCIDENT_IO__IMPORT_ERROR_MINUTES": "1",
            "INCIDENT_IO__STORM_LIMIT": str(STORM),
            "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",  # Airflow 2: the same
        }
        if name.startswith("watch-"):
            settings["DATABASE__SQL_ALCHEMY_CONN"] = self._postgres.url.replace("airflow@", f"{USER}@", 1)
        return super().environment(name) | {f"AIRFLOW__{option}": value for option, value in settings.items()}

    def start_watcher(self) -> str:
        """Start one more watcher, as the user of the database that the documentation makes for it."""
        if not self.watchers:
            statements = PAGE.read_text().partition("```sql\n")[2].partition("```")[0]
            with self._engine.begin() as connection:
                connection.execute(text(statements))
        name = f"watch-{len(self.watchers) + 1}"
        self.start(name, str(Path(sys.executable).with_name("airflow-incident")), "watch", "--interval", str(EVERY))
        self.watchers.append(name)
        return name

    def rows(self, query: str) -> list[Any]:
        """Ask Airflow's database; nothing while it is away."""
        with contextlib.suppress(OperationalError), self._engine.connect() as connection:
            return list(connection.execute(text(query)))
        return []

    def count(self, what: str) -> int:
        """Count rows."""
        return sum(row[0] for row in self.rows(f"SELECT count(*) FROM {what}"))


class WatchedSession(Session):
    """What happens in one session, and what is seen of it."""

    installation: Watched

    def go(self) -> Told:
        """Let everything happen."""
        self.airflow, _ = self.installation.bring_up(self.watch, self.wire.url)
        self.told = Told(runs=plan(), every=EVERY, remarks=self.remarks)
        self.told.starts, self.told.endings = self.installation.starts, self.installation.endings
        self.say("Airflow is up")
        self.until_answered(lambda: self.airflow.trigger("neighbour_waits", "waits.e2e"))
        self.start_watcher()
        self.fail_without_processor()
        self.fail_in_outage()
        self.fail_without_database()
        self.await_told()
        self.await_broken()
        self.recover()
        self.mend()
        self.look_back()
        return self.told

    def start_watcher(self) -> None:
        """Start a watcher, and wait for its first round: what fails before that it leaves alone."""
        name = self.installation.start_watcher()
        heard = lambda: "a round every" in self.installation.log(name).read_text()  # noqa: E731
        self.await_or_remark(f"{name} begins", heard, FINISH)
        noted = "variable WHERE key = 'incident_io_watcher'"
        self.await_or_remark(f"{name} has looked once", lambda: self.installation.count(noted) == 1, FINISH)

    def fail_without_processor(self) -> None:
        """Fail while the DAG processor is killed again and again."""
        runs = self.trigger("processor")
        for _ in range(3):
            self.kill_in_batch()
        self.await_ended(runs)
        self.neighbour_works()
        self.say("runs have failed while the DAG processor was killed")

    def fail_in_outage(self) -> None:
        """Fail while incident.io is away, runs are marked by hand, and DAG processor and watcher are killed."""
        began = time.monotonic()
        with self.nobody_there():
            self.wire.cut()
            runs = self.trigger("outage")
            for _ in range(2):
                self.kill_in_batch()
            marked = [run for run in runs if run.kind == "marked"]
            begun = lambda run: (self.installation.words / f"begun.{run.run_id}").exists()  # noqa: E731
            self.await_or_remark("tasks begin", lambda: all(map(begun, marked)), FAIL)
            for run in marked:
                self.until_answered(lambda run=run: self.airflow.mark(run.dag_id, run.run_id, "failed"))
            self.start_watcher()
            self.installation.kill(self.installation.watchers[0])
            self.start_watcher()
            self.pause(max(0.0, began + API_AWAY - time.monotonic()), "incident.io is away")
            self.wire.mend()
        self.say(f"incident.io was away for {time.monotonic() - began:.0f} s; two watchers follow one that was killed")
        self.await_ended(runs)
        self.neighbour_works()
        self.say("runs have failed in an outage")

    def fail_without_database(self) -> None:
        """Fail while the database is away."""
        runs = self.trigger("database")
        begun = lambda: sum((self.installation.words / f"begun.{run.run_id}").exists() for run in runs)  # noqa: E731
        self.await_or_remark("tasks begin", lambda: begun() >= len(runs) // 2, FAIL)
        began = time.time()
        with self.nobody_there(), self.installation.no_database(self.watch):
            self.give("database")
            self.pause(DATABASE_AWAY, "the database is away")
        self.pause(5, "the database is back")
        self.await_health()
        self.installation.is_shaken = False
        self.away.append((began, time.time()))
        self.say("the database was away, and is back")
        self.await_ended(runs)
        self.neighbour_works()
        self.say("all runs have failed")

    def kill_in_batch(self) -> None:
        """Kill the DAG processor when it has just fetched requests, which are gone from the database by then."""
        waiting = 0

        def has_fetched() -> bool:
            nonlocal waiting
            before, waiting = waiting, self.installation.count(REQUESTS)
            return waiting < before

        if self.await_or_remark("the DAG processor begins a batch", has_fetched, BATCH, every=0.02):
            self.told.kills += 1
        self.installation.kill(PROCESSOR)
        self.installation.start_component(PROCESSOR)

    def await_told(self) -> None:
        """Wait until every run has its incident; DAG files break meanwhile."""
        self.told.ended = self.ended()
        last = max(self.told.ended.values())
        broken_at = last + timedelta(seconds=BROKEN_AFTER)
        self.pause((broken_at - datetime.now(UTC)).total_seconds(), "callbacks come first")
        self.break_files()
        told = lambda: self.look() and all(map(self.told.own, self.told.runs))  # noqa: E731
        self.wait("the watcher tells of runs", told, GRACE.total_seconds() + FINISH - BROKEN_AFTER)
        self.pause(SETTLE, "watching that no second incident comes")
        self.look()
        logs = [self.installation.log(name).read_text() for name in self.installation.watchers]
        self.told.words = Words.read(logs)
        self.say("every run is told of, or should be")

    def break_files(self) -> None:
        """Break many DAG files at once, and one for a moment only."""
        for name in (*BROKEN, "brief"):
            self.file(name).write_text(FAULT)
        broken = lambda: self.installation.count("import_error") > len(BROKEN)  # noqa: E731
        self.broken_at = time.monotonic()
        self.await_or_remark("DAG files are read", broken, PARSE)
        self.durations("from broken files to all import errors in the database", self.broken_at)
        self.file("brief").write_text(SOUND)

    def await_broken(self) -> None:
        """Wait until every broken DAG file is told of, by an incident of its own or by that of the storm."""
        named = lambda: all(any(name in each.text for each in self.look()) for name in BROKEN)  # noqa: E731
        self.await_or_remark("broken files are told of", named, PARSE + 60)
        self.durations("from broken files to the last of them told", self.broken_at)
        self.own_files = [each.reference for each in self.look() if "/import/" in each.text]
        storms = [each.reference for each in self.look() if "/storm/" in each.text]
        self.say(
            f"{len(BROKEN)} broken files: {len(self.own_files)} have incidents, {len(storms)} storms name the others"
        )
        if len(storms) != 1 or len(self.own_files) > STORM - len(DAGS):
            self.remarks.append(f"broken files: {len(storms)} storms, {len(self.own_files)} incidents of their own")
        if any("brief" in each.text for each in self.look()):
            self.remarks.append("a file that was broken for a moment has an incident")

    def recover(self) -> None:
        """Let half of the runs succeed, mark some by hand and delete some, all without a DAG processor."""
        self.installation.kill(PROCESSOR)
        self.give("mended")
        what = ["cleared"] * 5 + ["marked", "deleted"]
        chosen = {run: what[at % 10] for at, run in enumerate(self.told.runs) if at % 10 < len(what)}
        for run, done in chosen.items():
            act: dict[str, Callable[..., Any]] = {
                "cleared": self.airflow.clear,
                "marked": lambda *names: self.airflow.mark(*names, "success"),
                "deleted": self.airflow.delete,
            }
            self.until_answered(lambda run=run, act=act[done]: act(run.dag_id, run.run_id))
        self.told.recovered = {run.run_id: done for run, done in chosen.items()}
        self.say(f"{len(chosen)} runs are cleared, marked or deleted")
        left = [run for run, done in chosen.items() if done != "deleted"]
        self.await_or_remark("runs succeed", lambda: self.ended("success").keys() >= {r.run_id for r in left}, FAIL)
        began = time.monotonic()
        self.wait("incidents are closed", lambda: self.closed() >= set(self.told.recovered), CLOSE)
        self.durations("from the last success to the last incident closed, 30 s of grace included", began)
        self.told.closed = self.closed()
        self.say("incidents of what has recovered are closed")

    def mend(self) -> None:
        """Start the DAG processor again; mend half of the broken files, and delete the others."""
        self.installation.start_component(PROCESSOR)
        for at, name in enumerate(BROKEN):
            self.file(name).unlink() if at % 2 else self.file(name).write_text(SOUND)
        self.await_or_remark("import errors go", lambda: not self.installation.count("import_error"), PARSE)
        began = time.monotonic()
        closed = lambda: {each.reference for each in self.look() if each.is_closed} >= set(self.own_files)  # noqa: E731
        self.await_or_remark("incidents of files are closed", closed, CLOSE)
        self.durations("from the last file mended to the last incident closed", began)

    def look_back(self) -> None:
        """Let the neighbour finish, and see what is left."""
        self.neighbour_works()
        self.give("over")
        self.wait("the neighbour's task wakes", lambda: self.states().get("waits.e2e") == "success", FINISH)
        self.await_health()
        states = self.states()
        self.told.neighbour = {run_id: states.get(run_id, "missing") for run_id in self.neighbours()}
        self.told.silence = self.silence()
        for name in self.installation.watchers[1:]:
            if (code := self.installation.processes[name].poll()) is not None:
                self.remarks.append(f"{name} ended by itself (exit {code}); see {self.installation.log(name)}")

    def trigger(self, trouble: str) -> list[Failing]:
        """Trigger the runs that are to fail in a trouble."""
        runs = [run for run in self.told.runs if run.trouble == trouble]
        for run in runs:
            self.until_answered(lambda run=run: self.airflow.trigger(run.dag_id, run.run_id))
        return runs

    @contextlib.contextmanager
    def nobody_there(self) -> Iterator[None]:
        """Note that something which the watcher needs is away while the block lasts."""
        began = datetime.now(UTC)
        yield
        self.told.away.append((began, datetime.now(UTC)))

    def states(self) -> dict[str, str]:
        """Return the state of each run by its ID."""
        return {row.run_id: row.state for row in self.installation.rows("SELECT run_id, state FROM dag_run")}

    def ended(self, state: str = "failed") -> dict[str, datetime]:
        """Return when each run ended that is in this state."""
        rows = self.installation.rows(f"SELECT run_id, end_date FROM dag_run WHERE state = '{state}'")
        return {run_id: ended_at for run_id, ended_at in rows if ended_at}

    def await_ended(self, runs: list[Failing]) -> None:
        """Wait until all these runs have failed."""
        self.await_or_remark("runs fail", lambda: self.ended().keys() >= {run.run_id for run in runs}, FAIL)

    def look(self) -> list[Incident]:
        """Look at incident.io."""
        self.told.incidents = [incident_of(row) for row in self.box.all()]
        return self.told.incidents

    def closed(self) -> set[str]:
        """Name the runs whose incidents are closed."""
        self.look()
        return {run.run_id for run in self.told.runs if (own := self.told.own(run)) and all(e.is_closed for e in own)}

    def file(self, name: str) -> Path:
        """Tell where a DAG file is."""
        return self.installation.dags / f"{name}.py"

    def durations(self, what: str, began: float) -> None:
        """Note how long something took."""
        self.told.durations[what] = time.monotonic() - began

    def await_or_remark(self, text: str, done: Callable[[], bool], seconds: float, every: float = 0.5) -> bool:
        """Wait for something; note it where it does not come."""
        came = self.wait(text, done, seconds, every)
        if not came:
            self.remarks.append(f"waited {seconds:.0f} s, and still: {text}")
        return came


def play(watch: Watch) -> str:
    """Set everything up, let it happen, clear it away and return the verdict."""
    began = time.monotonic()
    with (
        Postgres(MISSING.replace("e2e", "watched").partition(", or")[0]) as postgres,
        Sandbox() as box,
        Wire(box.port) as wire,
        Watched(postgres) as installation,
    ):
        try:
            told = WatchedSession(installation, watch, box, wire).go()
        finally:
            watch.show("Airflow is stopping")
    title = f"Airflow {installation.version}, watched"
    watch.say("\n".join(["", title, *told.table(), f"all of it: {time.monotonic() - began:.0f} s"]))
    if wrong := told.wrong():
        raise Trouble("\n".join(["", *wrong, f"{title}: {len(wrong)} wrong; the logs are in {installation.home}"]))
    return f"{title}: every failed run has its one incident"


if __name__ == "__main__":
    sys.exit(perform(play))

"""The course of a session: trouble after trouble, each waited for with a limit and none of them ending the session."""

import time
from datetime import UTC, datetime, timedelta

from tools.e2e.names import IDS, SCENARIOS, Run, runs_of
from tools.e2e.session import FINISH, Session
from tools.e2e.verdict import Seen
from tools.stage import AIRFLOW, WEB

SERVER_AWAY, DATABASE_AWAY = 25, 20
BEGIN, FAIL, OPEN, KEEP, RECOVER = 60, 120, 45, 45, 150
"""Seconds that are waited, at most, for tasks to begin, runs to fail, incidents, the journal and recovery."""
FEW = 4
"""Runs that are cleared together on SQLite."""
SETTLE = 10
LINGER = 45


class Course(Session):
    """What happens in one session, and what is seen of it."""

    def go(self) -> Seen:
        """Let everything happen."""
        self.airflow, refused = self.installation.bring_up(self.watch, self.wire.url)
        names = [name for name in IDS if name not in refused]
        scenarios = [each for each in SCENARIOS.values() if each.level != "deadline" or AIRFLOW >= (3, 1)]
        plan = [run for scenario in scenarios for run in runs_of(scenario, names)]
        self.seen = Seen(refused=refused, runs=plan, remarks=self.remarks)
        self.seen.starts = self.installation.starts
        self.seen.endings = self.installation.endings
        self.say("Airflow is up")
        self.until_answered(lambda: self.airflow.trigger("neighbour_waits", "waits.e2e"))
        self.fail_by_level()
        self.fail_in_outage()
        self.fail_without_server()
        self.fail_without_database()
        self.recover()
        self.look_back()
        return self.seen

    def fail_by_level(self) -> None:
        """Fail by a task, by a DAG, and by deadlines that are all missed at one moment."""
        deadlines = self.trigger("deadline")
        runs = self.trigger("task") + self.trigger("dag")
        self.await_failed(runs)
        self.await_incidents(runs + deadlines)
        if deadlines:
            self.give("deadline")
            self.await_failed(deadlines)
        self.neighbour_works()
        self.say("runs have failed at each level")

    def fail_in_outage(self) -> None:
        """Fail while incident.io is away, and flush the journal when it is back."""
        self.wire.cut()
        runs = self.trigger("outage-task") + self.trigger("outage-dag")
        self.await_failed(runs)
        self.wait("waiting for the journal", lambda: self.kept(runs), KEEP)
        self.wire.mend()
        self.journal("flush")
        self.await_incidents(runs)
        self.say("runs have failed in an outage, and the journal is flushed")

    def fail_without_server(self) -> None:
        """Kill the API server, and let tasks fail while it is away."""
        runs = self.trigger("server")
        self.await_begun(runs)
        self.installation.kill(WEB)
        self.give("server")
        self.pause(SERVER_AWAY, f"the {WEB} is killed")
        self.installation.start_component(WEB)
        self.await_health()
        self.await_failed(runs)
        self.neighbour_works()
        self.await_ends()
        self.say(f"the {WEB} was killed, and is back")

    def fail_without_database(self) -> None:
        """Stop the database, and let tasks fail while it is away."""
        runs = self.trigger("database")
        self.await_begun(runs)
        began = time.time()
        with self.installation.no_database(self.watch):
            self.give("database")
            self.pause(DATABASE_AWAY, "the database is away")
        self.pause(5, "the database is back")
        self.await_health()
        self.await_failed(runs)
        self.neighbour_works()
        self.installation.is_shaken = False
        self.away.append((began, time.time()))
        self.say("the database was away, and is back")

    def recover(self) -> None:
        """Clear every run that failed, now that nothing is wrong any more and what was kept is delivered."""
        self.journal("flush")
        self.await_incidents(self.seen.runs)
        states = self.states()
        failed = [run for run in self.seen.runs if states.get(run.run_id) == "failed"]
        self.seen.failed = {run.run_id for run in failed}
        self.seen.too_early = [each["reference"] for each in self.box.incidents if each["status"] == "closed"]
        self.give("mended")
        # Many writers at once are more than SQLite bears: Airflow's own scheduler ends then.
        size = FEW if self.installation.database == "sqlite" else len(failed)
        for begin in range(0, len(failed), size or 1):
            self.clear(failed[begin : begin + size])
        states = self.states()
        self.seen.recovered = {run.run_id for run in failed if states.get(run.run_id) == "success"}
        closed = lambda: all(each["status"] == "closed" for each in self.box.incidents)  # noqa: E731
        self.wait("incidents are closed", closed, OPEN)
        self.say("cleared runs have recovered")

    def look_back(self) -> None:
        """Let the neighbour finish, and see what is left."""
        self.neighbour_works()
        self.give("over")
        self.wait("the neighbour's task wakes", lambda: self.states().get("waits.e2e") == "success", FINISH)
        self.pause(SETTLE, "watching that no second incident comes")
        self.await_ends()
        self.await_health()
        states = self.states()
        self.seen.neighbour = {run_id: states.get(run_id, "missing") for run_id in self.neighbours()}
        self.seen.silence = self.silence()
        self.seen.incidents = self.box.incidents

    def trigger(self, name: str) -> list[Run]:
        """Trigger the runs of a scenario, all with the same moment as logical date but for some microseconds."""
        now = datetime.now(UTC)
        runs = [run for run in self.seen.runs if run.scenario == name]
        for number, run in enumerate(runs):
            date = (now + timedelta(microseconds=number)).isoformat()
            self.until_answered(
                lambda run=run, date=date: self.airflow.trigger(run.dag_id, run.run_id, logical_date=date)
            )
        return runs

    def clear(self, runs: list[Run]) -> None:
        """Clear runs, and wait until they have succeeded."""
        for run in runs:
            self.until_answered(lambda run=run: self.airflow.clear(run.dag_id, run.run_id))
        self.wait("cleared runs recover", lambda: self.all_are("success", runs), RECOVER)

    def await_begun(self, runs: list[Run]) -> None:
        """Wait until the task of each run has begun, or the first, where one task is run at a time."""
        runs = runs[:1] if self.installation.is_serial else runs
        begun = lambda: all((self.installation.words / f"begun.{run.run_id}").exists() for run in runs)  # noqa: E731
        if not self.wait("tasks begin", begun, BEGIN):
            self.remarks.append(f"{runs[0].scenario}: not every task had begun before the trouble did")

    def await_failed(self, runs: list[Run]) -> None:
        """Wait until all these runs have failed."""
        self.wait("runs fail", lambda: self.all_are("failed", runs), FAIL)

    def await_incidents(self, runs: list[Run]) -> None:
        """Wait until each of these runs has an incident."""

        def opened() -> bool:
            texts = [str(incident["summary"]) for incident in self.box.incidents]
            return all(any(run.run_id in text for text in texts) for run in runs)

        self.wait("waiting for incidents", opened, OPEN)

    def await_ends(self) -> None:
        """Wait until no process is left that should have ended, and note those that are."""
        known = {each.pid for each in self.seen.leftovers}
        left = lambda: [each for each in self.installation.overdue() if each.pid not in known]  # noqa: E731
        self.wait("processes end", lambda: not left(), LINGER)
        self.seen.leftovers += [self.installation.ask(each) for each in left()]

    def kept(self, runs: list[Run]) -> bool:
        """Whether the journal has a record for each of these runs."""
        said = self.journal("list", "--json")
        return all(run.run_id in said for run in runs)

    def journal(self, *arguments: str) -> str:
        """Run `airflow-incident journal`, and return what it says."""
        self.installation.start_ours("journal", *arguments)
        process = self.installation.processes["journal"]
        self.wait("waiting for the journal", lambda: process.poll() is not None, OPEN)
        return self.installation.log("journal").read_text(errors="replace")

    def all_are(self, state: str, runs: list[Run]) -> bool:
        """Whether all these runs are in a state."""
        states = self.states()
        return all(states.get(run.run_id) == state for run in runs)

"""What the watcher decides, whatever people and Airflow do with runs in whatever order."""

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from airflow_incident.airflow_bridge.database import Run
from airflow_incident.core.failure import Failure
from airflow_incident.core.key import dag_key, idempotency_key
from airflow_incident.core.timing import CALLBACKS_FIRST, LOOK_BACK, RECOVERIES_FIRST
from airflow_incident.delivery.record import Closing, OpenIncident, Record
from airflow_incident.watcher import decide
from airflow_incident.watcher.decide import Duties

DAGS = ("orders", "billing", "left_out")
RUNS = ("r1", "r2")
names = st.tuples(st.sampled_from(DAGS), st.sampled_from(RUNS))
LOAD = {"load": {-1: "failed"}}


def duties_of(*, opens=True, closes=True, always=False):
    return Duties(opens=opens, closes=closes, covers=lambda dag: dag != "left_out", always=always)


class RunsMachine(RuleBasedStateMachine):
    """Runs, their tasks and the journal; what a round decides is done to them as delivery would."""

    @initialize(always=st.booleans(), since=st.sampled_from([0, 0, 20]))
    def begin(self, always, since):
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.duties = duties_of(always=always)
        self.runs: dict[tuple[str, str], Run] = {}
        self.tasks: dict[tuple[str, str], dict[str, dict[int, str]]] = {}
        self.records: dict[str, Record] = {}
        self.since = self.now + timedelta(minutes=since)
        self.last_id = self.incidents = 0

    # Airflow, and people at its UI

    @rule(name=names, end=st.sampled_from([None, "failed", "failed", "success", "handled"]))
    def run(self, name, end):
        """Start a run, also one that was deleted before, and end it, perhaps over a failure of its task."""
        if name not in self.runs:
            self.last_id += 1
            self.runs[name] = Run(self.last_id, *name, "running", 0, self.now)
            self.tasks[name] = {"load": {-1: "running"}}
        if end and self.runs[name].state == "running":
            state = "failed" if end == "failed" else "success"
            self.runs[name] = self.runs[name]._replace(state=state, ended_at=self.now)
            self.tasks[name] = {"load": {-1: "success" if end == "success" else "failed"}}

    @rule(name=names)
    def clear(self, name):
        run = self.runs.get(name)
        if run and run.state != "running":
            cleared = {"state": "running", "clear_count": run.clear_count + 1, "ended_at": None}
            self.runs[name] = run._replace(**cleared, started_at=self.now)
            self.tasks[name] = {"load": {-1: "running"}}

    @rule(name=names)
    def mark_success(self, name):
        if run := self.runs.get(name):
            self.runs[name] = run._replace(state="success", ended_at=self.now)
            self.tasks[name] = {"load": {-1: "success"}}

    @rule(name=names)
    def delete(self, name):
        self.runs.pop(name, None)
        self.tasks.pop(name, None)

    # Callbacks, deliberate steps, and people at incident.io

    @rule(
        name=names,
        state=st.sampled_from(["pending", "open", "grouped", "dead"]),
        kind=st.sampled_from(["dag", "task", "of_dag"]),
    )
    def callback(self, name, state, kind):
        """Let the callback of a failed run, or of its task, come through."""
        run = self.runs.get(name)
        failed = self.tasks.get(name) == LOAD
        if run and (run.state == "failed" or (kind == "task" and failed)):
            self._report(run, state, kind)

    @rule(name=names, named=st.booleans(), state=st.sampled_from(["open", "dead"]))
    def step(self, name, named, state):
        """Let a step of the run open an incident on purpose, or be refused one."""
        run = self.runs.get(name)
        if run and run.state == "running":
            self._report(run, state, "operator", key_name="mine" if named else None)

    @rule(index=st.integers(0, 20), what=st.sampled_from(["claimed", "left", "refused"]))
    def recovery(self, index, what):
        """Leave an incident to its person, or its closing to a flush, or be refused it."""
        if self.records:
            record = list(self.records.values())[index % len(self.records)]
            left = None if what == "claimed" else Closing("recovered", error="422" if what == "refused" else None)
            if record.state == "open":
                self._write(record._replace(recovered=what == "claimed", closing=left))

    # The watcher

    @rule(minutes=st.sampled_from([0, 0.2, 1, 3, 3, 30, 60 * 25]))
    def wait_and_round(self, minutes):
        """Do what a round decides: nothing that a rule forbids, and all that there is to do."""
        self.now += timedelta(minutes=minutes)
        open_now, later, successes, gone = self._decide()
        for run in open_now:
            assert run.dag_id != "left_out"
            assert max(self.since, self.now - LOOK_BACK) <= run.ended_at <= self.now - CALLBACKS_FIRST
            assert not self._told(run), "it has an incident"
            self._report(run, "open", "dag")
        for run in later:
            assert run.ended_at > self.now - CALLBACKS_FIRST
        for success in successes:
            self._recover(success)
        for record in gone:
            self._close(record, gone=True)
        again, _, recovered, gone = self._decide()
        assert (again, recovered, gone) == ([], [], [])
        for run in self.runs.values():
            if run.state == "failed" and run.dag_id != "left_out":
                due = max(self.since, self.now - LOOK_BACK) <= run.ended_at <= self.now - CALLBACKS_FIRST
                assert self._told(run) or not due, f"{run} is lost"
        self._nothing_stays_open()

    def _decide(self):
        records = list(self.records.values())
        open_now, later = decide.failed_runs(
            self.runs.values(), records, self.duties, since=decide.looks_since(self.since, records), now=self.now
        )
        names, tasks = decide.run_names(records, self.duties), decide.task_names(records, self.duties)
        successes = [run for run in self.runs.values() if run.state == "success"]
        successes, gone = decide.recovered(
            records,
            self.duties,
            runs={name: self.runs[name] for name in names if name in self.runs},
            tasks={name[:2]: self.tasks[name[:2]] for name in tasks if name[:2] in self.tasks},
            latest={(run.dag_id, False): run for run in sorted(successes, key=lambda run: run.run_id)},
            now=self.now,
        )
        return open_now, later, successes, gone

    def _told(self, run):
        """Say whether anything stands for this failure: never a step's own incident, or what a step was refused."""
        return any(
            (r.dag_id, r.run_id, r.clear_count) == (run.dag_id, run.run_id, run.clear_count)
            and (r.level != "operator" or ("/key/" not in r.key and r.state != "dead"))
            and (r.started_at >= run.started_at or r.state in {"pending", "dead"})
            for r in self.records.values()
        )

    def _nothing_stays_open(self):
        """No incident of a callback is open for a run that has been successful, or gone, for long enough."""
        for record in self.records.values():
            if record.state != "open" or record.level == "operator" or record.is_dags or record.of_dag:
                continue
            if record.closing is not None or (record.recovered and not self.duties.always):
                continue
            run = self.runs.get((record.dag_id, record.run_id))
            if run is None:
                assert record.written_at > self.now - CALLBACKS_FIRST
            elif run.state == "success" and (record.scope == "run" or self.tasks[run[1:3]]["load"][-1] == "success"):
                assert run.ended_at > self.now - RECOVERIES_FIRST

    def _recover(self, success):
        """Close what the recovery of a run or a task closes."""
        run = success.run
        assert run.state == "success" or success.task
        assert run.ended_at is None or run.ended_at <= self.now - RECOVERIES_FIRST or success.task
        closed = 0
        for record in list(self.records.values()):
            is_mine = (record.dag_id, record.run_id) == (run.dag_id, run.run_id)
            if (record.is_dags and record.dag_id == run.dag_id) or (
                is_mine and record.scope == success.scope and bool(record.is_of_task) <= bool(success.task)
            ):
                closed += self._close(record, run=run)
        if not closed and success.scope == "task" and success.task is None:
            closed = self._close_handled(run)
        assert closed, f"{success} has no effect"

    def _close_handled(self, run):
        """Close what the failed tasks of a successful run have opened."""
        return sum(
            self._close(record, run=run)
            for record in list(self.records.values())
            if record.is_of_task and (record.dag_id, record.run_id) == (run.dag_id, run.run_id)
        )

    def _close(self, record, *, run=None, gone=False):
        """Close a record's incident as delivery does; return whether that changes anything."""
        if record.closing is not None or (record.recovered and not self.duties.always):
            assert not gone
            return False
        if record.level == "operator" and ("/key/" in record.key or (run and record.clear_count >= run.clear_count)):
            assert not gone
            return False
        if record.is_dags:
            if record.already_closed:
                return False
            self._write(record._replace(already_closed=True))
        else:
            del self.records[record.name]
        return True

    def _report(self, run, state, kind, *, key_name=None):
        """Write down what a report would; what stands there already for this very failure stays."""
        scope = {"task": "task", "of_dag": "dag"}.get(kind, "run")
        task = "load" if kind in {"task", "operator"} else None
        failure = Failure(run.dag_id, run.run_id, task_id=task, clear_count=run.clear_count)
        key = idempotency_key(failure, deployment="tests", scope=scope, name=key_name)
        of_dag = dag_key("tests", run.dag_id) if scope == "dag" else None
        level = {"of_dag": "dag"}.get(kind, kind)
        self.incidents += 1
        record = Record(
            state, key, run.dag_id, run.run_id, "c", level, self.now, scope=scope, task=task, of_dag=of_dag,
            clear_count=run.clear_count, started_at=run.started_at, incident=OpenIncident(f"i{self.incidents}"),
        )  # fmt: skip
        known = self.records.get(record.name)
        if not known or known.started_at < run.started_at or (known.level == "operator" and known.state == "dead"):
            self._write(record)
        if of_dag and state == "open":
            self._write(record._replace(key=of_dag))

    def _write(self, record):
        self.records[record.name] = record


RunsMachine.TestCase.settings = settings(
    max_examples=300, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)
TestRuns = RunsMachine.TestCase

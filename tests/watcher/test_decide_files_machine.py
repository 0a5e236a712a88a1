"""What the watcher decides about DAG files that break and are mended, under two watchers that share one state."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from airflow_incident.airflow_bridge.database import File
from airflow_incident.core.failure import Failure
from airflow_incident.core.key import idempotency_key
from airflow_incident.delivery.record import Closing, OpenIncident, Record
from airflow_incident.watcher import decide
from airflow_incident.watcher.decide import Duties
from airflow_incident.watcher.state import State, read_state

GRACE = timedelta(minutes=5)
FILES = (File("orders.py"), File("orders.py", "git"), File("billing.py", "git"))
files = st.sampled_from(FILES)


class FilesMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.now = datetime(2026, 3, 1, 9, 0, 0, 123_456, tzinfo=UTC)
        self.broken: dict[File, datetime] = {}
        self.records: dict[str, Record] = {}
        self.state = State()
        self.opened = Counter()
        self.seen: dict[File, datetime] = {}

    @rule(file=files)
    def break_file(self, file):
        self.broken.setdefault(file, self.now)

    @rule(file=files)
    def mend(self, file):
        """Let it be importable again, or deleted, until a round has seen that."""
        self.broken.pop(file, None)
        self.round("open")

    @rule(seconds=st.sampled_from([30, 30, 120, 299, 3600]))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule()
    def lose_state(self):
        """Somebody deletes the Variable: what has an incident goes on with its moment."""
        self.state = State()
        self.seen = {}

    @rule(file=files, what=st.sampled_from(["claimed", "kept", "refused"]))
    def recovery(self, file, what):
        """Leave an incident to its person, or its closing to a flush, or be refused it."""
        for record in list(self.records.values()):
            if record.dag_id == str(file) and file not in self.broken:
                left = {"claimed": None, "kept": Closing("x"), "refused": Closing("x", error="422")}[what]
                self.records[record.name] = record._replace(recovered=what == "claimed", closing=left)

    @rule(state=st.sampled_from(["open", "pending", "grouped", "dead"]))
    def round(self, state):
        """Do what two rounds decide: the second one has nothing left to do."""
        before = dict(self.records)
        self._round(state)
        first = dict(self.records)
        self._round(state)
        assert self.records == first, "a second round does more"
        for file, since in self.broken.items():
            self.seen.setdefault(file, self.now)
            if self.now - self.seen[file] >= GRACE:
                assert any(self._speaks_of(record, file) for record in self.records.values()), f"{file} is lost"
            if self.now - since < GRACE:
                assert not [r for name, r in self.records.items() if name not in before and r.dag_id == str(file)]
        for file in set(self.seen) - set(self.broken):
            del self.seen[file]
        for record in self.records.values():
            if record.dag_id not in map(str, self.broken):
                assert record.closing or record.recovered, "it is mended, and its incident is open"

    def _speaks_of(self, record, file):
        return record.dag_id == str(file) and not record.closing and not record.recovered

    def _round(self, state):
        """Carry a round; the state goes through its Variable."""
        known = read_state(self.state.text())
        duties = Duties(import_after=GRACE)
        found = decide.files(list(self.broken), known.broken, list(self.records.values()), duties, self.now)
        for file in found.broken:
            self._open(file, found.first_seen[file], state)
        for record in found.mended:
            assert record.dag_id not in map(str, self.broken) or self._is_of_earlier(record)
            assert not record.closing
            assert not record.recovered
            del self.records[record.name]
        assert set(found.first_seen) == set(self.broken)
        self.state = known._replace(broken=found.first_seen)

    def _is_of_earlier(self, record):
        """Return whether it was written before its file was mended, and broken again."""
        return datetime.fromisoformat(record.run_id) < max(
            self.broken[f] for f in self.broken if str(f) == record.dag_id
        )

    def _open(self, file, since, state):
        failure = Failure(str(file), decide.moment_text(since), "import", bundle=file.bundle or None, file=file.path)
        key = idempotency_key(failure, deployment="tests")
        incident = OpenIncident("01H") if state == "open" else None
        record = Record(state, key, str(file), failure.run_id, "c", "import", self.now, incident=incident)
        assert record.name not in self.records
        self.opened[key] += 1
        self.records[record.name] = record

    @invariant()
    def nothing_is_opened_twice(self):
        assert not [key for key, times in getattr(self, "opened", {}).items() if times > 1]


FilesMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, suppress_health_check=list(HealthCheck)
)
TestFiles = FilesMachine.TestCase

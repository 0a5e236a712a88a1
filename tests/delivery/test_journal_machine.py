"""The laws of the journal, whatever happens in whatever order: reports, flushes, crashes, outages, races."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import MappingProxyType

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_incident.api.calls import CallSequence, PaginatedCall
from airflow_incident.api.incident import IncidentState
from airflow_incident.api.submit import is_v1_gone
from airflow_incident.core.failure import Failure
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.core.settings import Settings
from airflow_incident.core.timing import SUPPRESS_FOR
from airflow_incident.delivery.effects import Ask, Delete, Get, ReadAll, Send, Set, Show, Sleep, StoreFailed
from airflow_incident.delivery.flush import flush_all
from airflow_incident.delivery.record import PREFIX, read_record
from airflow_incident.delivery.report import DeliveryPolicy, IncidentContent, prepare
from airflow_incident.delivery.reporter import deliver
from airflow_incident.errors import (
    AuthenticationError,
    ConflictError,
    FieldError,
    JournalError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TransportError,
    ValidationError,
)
from airflow_incident.sandbox.options import REPEATS

SECRET = "inc_4f1c9b7e2dKEYa80"
LIFETIME = timedelta(hours=24)
"""How long the API remembers a key in the mode `expires`; within it a key has one incident."""
USED = ValidationError(422, errors=(FieldError(message="has already been used", field="idempotency_key"),))
ANSWERS = MappingProxyType(
    {
        "up": None,
        "down": TransportError("ConnectError: refused"),
        "error": ServerError(503),
        "limited": RateLimitError(429, retry_after=90.0),
        "refusing": ValidationError(422, errors=(FieldError(message="is unknown", field="severity_id"),)),
        "locked": AuthenticationError(401),
    }
)


def redact(text):
    """Do as a profile does, which knows the key of its connection."""
    return redact_secrets(text, known=(SECRET,))


class API:
    """incident.io as it may be: up, down, slow (the answer is lost), limiting or refusing; v1 ends at some time.

    Its versions do not know one another's keys.
    """

    def __init__(self):
        self.mode = "up"
        self.v1_ended = False
        self.by_version = {}
        self.shown = []
        self.repeat = "existing"
        self.opened = {}
        self.poisoned = set()

    def create(self, body, now, endpoint):
        key = body["idempotency_key"]
        if key in self.poisoned:
            return ServerError(500)
        if refusal := ANSWERS.get(self.mode):
            return refusal
        if endpoint == "v1" and self.v1_ended:
            return NotFoundError(404)
        before = sum(map(len, self.opened.values()))
        answer = self._open(key, now, endpoint)
        if sum(map(len, self.opened.values())) > before:
            self.shown.append(answer._replace(name=body["name"], summary=body["summary"]))
        return TransportError("ReadTimeout", maybe_delivered=True) if self.mode == "slow" else answer

    def ask(self, call):
        """Answer whether v1 is gone, and what there is; other lists are down."""
        if self.mode not in {"up", "slow"}:
            return ServerError(503)
        if isinstance(call, CallSequence) and call.steps is is_v1_gone:
            return self.v1_ended
        if isinstance(call, PaginatedCall):
            return self.shown
        return ServerError(503)

    def show(self, incident_id):
        if refusal := ANSWERS.get(self.mode):
            return refusal
        return next(state for state in self.shown if state.id == incident_id)

    def _open(self, key, now, endpoint):
        moments = self.opened.setdefault(key, [])
        opened = self.by_version.setdefault((endpoint, key), [])
        forgotten = self.repeat == "expires" and opened and now - opened[-1] >= LIFETIME
        if opened and not forgotten:
            if self.repeat in {"conflict", "rejected"}:
                return ConflictError(409) if self.repeat == "conflict" else USED
        else:
            opened.append(now)
            moments.append(now)
        return IncidentState(
            id=f"id-{key}", reference="INC-1", name="x", status="triage", status_category="triage", permalink="http://x"
        )


class Process:
    """A report or a flush on its way; like the courier, it asks a store that failed no more."""

    def __init__(self, steps, *, key=None):
        self.steps = steps
        self.key = key
        self.next = next(steps)
        self.journal_error = None
        self.looked_at = None
        self.was_frozen = False


class JournalMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
        self.api = API()
        self.texts = {}
        self.store_fails = False
        self.processes = []
        self.said = 0
        self.last = None
        self.written = {}
        self.bodies = {}
        self.settled_at = {}
        self.waits_until = {}
        self.accepted = set()
        self.blurred = set()

    @initialize(repeat=st.sampled_from(REPEATS), limits=st.sampled_from([(0, 0), (2, 3)]))
    def begin(self, repeat, limits):
        self.api.repeat = repeat
        self.limits = limits

    # What happens

    @rule(
        dag=st.sampled_from(["orders", "orders", "stock"]),
        run=st.sampled_from([1, 1, 2, 3, 4]),
        clear=st.sampled_from([0, 0, 0, 1]),
        level=st.sampled_from(["task", "dag"]),
        send=st.sampled_from([True, True, True, False]),
        spare=st.booleans(),
        steps=st.none() | st.none() | st.integers(0, 6),
    )
    def report(self, dag, run, clear, level, send, spare, steps):
        """Another failure, or the same one again, in other words; finished, or left on its way."""
        self.said += 1
        self.last = dag, run, clear
        failure = Failure(
            dag_id=dag,
            run_id=f"r{run}",
            clear_count=clear,
            level=level,
            exception_type="ValueError",
            exception=f"story {self.said}: cannot log in with {SECRET}, file '\udcff'",
        )
        told = prepare(failure, Settings(), IncidentContent(), deployment="prod", redact=redact)
        rules = DeliveryPolicy(
            now=lambda: self.now,
            deployment="prod",
            conn_id="c",
            send=send,
            has_time=lambda: spare,
            storm_dag=self.limits[0],
            storm_connection=self.limits[1],
        )
        self._start(Process(deliver(told, rules), key=told.key), steps)

    @precondition(lambda self: self.last)
    @rule(level=st.sampled_from(["task", "dag"]), spare=st.booleans(), steps=st.none() | st.integers(0, 6))
    def report_again(self, level, spare, steps):
        """Tell the last failure once more, as a mapped task's neighbour or the DAG does."""
        dag, run, clear = self.last
        self.report(dag=dag, run=run, clear=clear, level=level, send=True, spare=spare, steps=steps)

    @rule(steps=st.none() | st.integers(0, 12), also_dead=st.sampled_from([False, False, True]))
    def flush(self, steps, also_dead):
        # Once v1 has ended, only a person who has looked decides: see the end.
        self._start(Process(flush_all(lambda: self.now, also_dead=also_dead and not self.api.v1_ended)), steps)

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), steps=st.none() | st.integers(1, 6))
    def go_on(self, data, steps):
        """Let a process that was frozen go on."""
        self._go(data.draw(st.sampled_from(self.processes)), steps)

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def die(self, data):
        self.processes.remove(data.draw(st.sampled_from(self.processes)))

    @rule(mode=st.sampled_from(["up", "up", "slow", "down", "error", "limited", "limited", "refusing", "locked"]))
    def api_becomes(self, mode):
        self.api.mode = mode

    @precondition(lambda self: not self.api.v1_ended)
    @rule()
    def v1_ends(self):
        self.api.v1_ended = True

    @precondition(lambda self: self.bodies and not self.api.poisoned)
    @rule(data=st.data())
    def api_chokes_on_one(self, data):
        """One body makes the server fail, each time."""
        self.api.poisoned.add(data.draw(st.sampled_from(sorted({key for _, key in self.bodies}))))

    @rule(fails=st.sampled_from([True, False, False]))
    def store_becomes(self, fails):
        self.store_fails = fails

    @rule(minutes=st.sampled_from([1, 2, 15, 59, 60, 61, 600]))
    def time_passes(self, minutes):
        self.now += timedelta(minutes=minutes)

    # How it is carried

    def _start(self, process, steps):
        self.processes.append(process)
        if process.key:
            if any(p.key == process.key for p in self.processes[:-1]) or len(self.processes) > 1 or self.store_fails:
                self.blurred.add(process.key)
        else:
            self.blurred |= {p.key for p in self.processes if p.key}
        self._go(process, steps)

    def _go(self, process, steps):
        """Take so many steps, or all."""
        while steps is None or steps > 0:
            answer = self._take(process)
            try:
                process.next = process.steps.send(answer)
            except StopIteration as end:
                self.processes.remove(process)
                self._finished(process, end.value)
                return
            except JournalError:
                self.processes.remove(process)
                assert process.journal_error
                return
            steps = None if steps is None else steps - 1
        process.was_frozen = True

    def _take(self, process):
        step = process.next
        match step:
            case Send(body, _, endpoint):
                return self._send(process, body, endpoint)
            case Ask(call):
                return self.api.ask(call)
            case Show(incident_id):
                return self.api.show(incident_id)
        return None if isinstance(step, Sleep) else self._keep(process, step)

    def _keep(self, process, step):
        if self.store_fails or process.journal_error:
            process.journal_error = StoreFailed("read-only")
            if process.key:
                self.blurred.add(process.key)
            return process.journal_error
        match step:
            case Get(name):
                process.looked_at = process.looked_at or self.now  # its own record comes first
                return self.texts.get(name)
            case Set(name, text):
                self._write(name, text)
            case Delete(name):
                self.texts.pop(name, None)
            case ReadAll(prefix):
                return {name: text for name, text in sorted(self.texts.items()) if name.startswith(prefix)}
        return None

    def _write(self, name, text):
        self.texts[name] = text
        if name.startswith(PREFIX):
            record = read_record(name, text)
            self.accepted.add(record.key)
            self.waits_until[record.key] = record.due_at
            if record.body:
                self.written.setdefault(record.key, set()).add(json.dumps(record.body))
            if record.state == "grouped":
                self.settled_at[record.key] = self.now
            if record.state == "open" and self.api.v1_ended:  # seen or found, perhaps, where a create was not allowed
                self.settled_at[record.key] = record.opened_at

    def _send(self, process, body, endpoint):
        key = body["idempotency_key"]
        text = json.dumps(dict(body))
        if not process.journal_error:
            assert text in self.written[key], "sent before it was written down, or not as it was written"
        sent = self.bodies.setdefault((endpoint, key), [])
        if sent and key not in self.blurred and key not in self.settled_at:
            assert sent[-1] == text, "another attempt had another body"
        sent.append(text)
        # What a process was told and could not write down before it died, nobody knows; nor does one that was
        # frozen between its look at a record and its request know what was written since.
        waits_until = self.waits_until.get(key)
        if waits_until and key not in self.blurred and not process.was_frozen:
            assert self.now >= waits_until, "a retry date was not obeyed"
        answer = self.api.create(body, self.now, endpoint)
        if isinstance(answer, IncidentState) or answer is USED or isinstance(answer, ConflictError):
            self.settled_at[key] = self.now
            self.accepted.add(key)
        elif not answer.retryable:
            self.settled_at.setdefault(key, self.now - SUPPRESS_FOR)
        return answer

    def _finished(self, process, result):
        if process.key is None:
            return
        if result.kind == "suppressed":
            assert result.report.key == process.key
            assert process.looked_at - self.settled_at[process.key] < SUPPRESS_FOR
        if result.kind in {"open", "already_open", "closed"}:
            assert process.key in self.api.opened
        if result.kind == "failed":
            assert process.journal_error
        if process.journal_error and result.kind not in {"suppressed", "grouped", "kept", "refused"}:
            assert result.journal_error or result.kind == "open"

    # The laws

    @invariant()
    def one_failure_is_one_incident(self):
        for key, moments in self.api.opened.items():
            # What could not be written down, or was written over in a race, nobody can know of in the other version.
            if self.api.v1_ended and key in self.blurred:
                continue
            gaps = [after - before for before, after in pairwise(moments)]
            assert all(self.api.repeat == "expires" and gap >= LIFETIME for gap in gaps), key

    @invariant()
    def no_secret_is_kept(self):
        assert SECRET not in "".join(self.texts.values())

    @invariant()
    def what_is_open_was_opened(self):
        for record in self._records():
            if record.state == "open":
                assert record.key in self.api.opened

    def teardown(self):
        """Whatever happened: once everything is mended, nothing is lost."""
        self.processes = []
        self.api.mode = "up"
        self.store_fails = False
        for _ in range(len(self.texts) + 20):
            self.now += timedelta(minutes=5)
            self._start(Process(flush_all(lambda: self.now)), None)
        self._look_after_what_is_unsettled()
        records = {record.key: record for record in self._records()}
        for key in self.accepted - self.api.poisoned:
            record = records.get(key)
            if record and record.state == "grouped":
                storm = records.get(record.storm)  # none if it was dropped, for its incident is there
                is_told = record.storm in self.api.poisoned or (storm and storm.error)
                assert record.storm in self.api.opened or is_told, "storm lost"
            elif record and record.state == "dead":
                assert record.error
            else:
                assert record is None or record.state == "open", f"{key} still waits"
                assert key in self.api.opened, f"{key} is lost"
        self.one_failure_is_one_incident()
        self.what_is_open_was_opened()
        self.no_secret_is_kept()

    def _look_after_what_is_unsettled(self):
        """Do what the records' advice says: see whether there is an incident, then drop or retry."""
        for record in self._records():
            if record.state == "pending" and record.key not in self.api.poisoned:
                assert self.api.v1_ended
                assert "journal retry" in record.error
                if record.key in self.api.opened:
                    del self.texts[record.name]
                else:
                    self._start(Process(flush_all(lambda: self.now, prefix=record.name, also_dead=True)), None)

    def _records(self):
        return [read_record(name, text) for name, text in self.texts.items() if name.startswith(PREFIX)]


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(
    max_examples=900,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

"""A run that is deleted and made again, whatever happens in whatever order: nothing is lost, nothing doubled."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_incident.api.calls import CallSequence
from airflow_incident.api.incident import IncidentState
from airflow_incident.core.failure import Failure
from airflow_incident.core.key import started_key
from airflow_incident.core.settings import Settings
from airflow_incident.delivery.effects import Ask, Delete, Get, ReadAll, Send, Set, Show
from airflow_incident.delivery.flush import flush_all
from airflow_incident.delivery.record import PREFIX, read_record
from airflow_incident.delivery.report import DeliveryPolicy, IncidentContent, prepare
from airflow_incident.delivery.reporter import deliver
from airflow_incident.errors import ServerError, TransportError

TASK, DAG, POOREST = ("task", True), ("dag", True), ("dag", False)
"""Who tells, and whether it knows when the run began: 3.0's DAG processor does not."""


class Incident:
    """What incident.io has, and when it changed."""

    def __init__(self, number, key, now):
        self.id = f"id-{number}"
        self.key = key
        self.created_at = now
        self.updated_at = now
        self.closed_at = None

    def state(self):
        return IncidentState(
            self.id,
            status_category="closed" if self.closed_at else "triage",
            created_at=self.created_at,
            updated_at=self.updated_at,
        )


class IncidentIo:
    """An incident.io that is up, down or slow (the answer is lost), a store, and the processes that use both."""

    def __init__(self):
        super().__init__()
        self.texts = {}
        self.incidents = []
        self.mode = "up"
        self.processes = []

    def _go(self, process, steps):
        try:
            while steps is None or steps > 0:
                process[1] = self._take(process[0].send(process[1]))
                steps = None if steps is None else steps - 1
        except StopIteration:
            return
        self.processes.append(process)

    def _take(self, step):
        match step:
            case Get(name):
                return self.texts.get(name)
            case Set(name, text):
                self.texts[name] = text
            case Delete(name):
                self.texts.pop(name, None)
            case ReadAll(prefix):
                return {name: text for name, text in sorted(self.texts.items()) if name.startswith(prefix)}
            case Send(body):
                return self._create(body["idempotency_key"])
            case Show(incident_id):
                return ServerError(503) if self.mode == "down" else self._shown(incident_id).state()
            case Ask(call):
                return self._asked(call)
        return None

    def _create(self, key):
        if self.mode == "down":
            return TransportError("ConnectError: refused")
        found = next((each for each in self.incidents if each.key == key), None)
        if found is None:
            found = Incident(len(self.incidents), key, self.now)
            self.incidents.append(found)
        return TransportError("ReadTimeout", maybe_delivered=True) if self.mode == "slow" else found.state()

    def _shown(self, incident_id):
        return next(each for each in self.incidents if each.id == incident_id)

    def _asked(self, call):
        if isinstance(call, CallSequence):
            steps, answer = call.steps(None), None
            try:
                while True:
                    answer = self._asked(steps.send(answer))
            except StopIteration as end:
                return end.value
        return self._answered(call)

    def _answered(self, call):
        assert call.path == "/v2/incident_updates"
        return self._shown(call.query["incident_id"]).closed_at


class MadeAgainMachine(IncidentIo, RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
        self.began = self.now - timedelta(minutes=1)
        self.starts = [self.began]
        self.told = set()

    @initialize(lives=st.sampled_from([0, 1, 1]), forgotten=st.booleans())
    def begin(self, lives, forgotten):
        """Mostly with a life that is over, and whose incident is closed."""
        for _ in range(lives):
            self.report(TASK, None)
            self.a_person_closes_it()
            self.the_run_is_made_again()
        if forgotten:
            self.the_records_are_forgotten()

    @rule(who=st.sampled_from([TASK, TASK, DAG, POOREST]), steps=st.none() | st.none() | st.integers(0, 12))
    def report(self, who, steps, *, anywhere=False):
        """Fail, in one of the run's lives; finished, or left on its way."""
        level, knows = who
        # A DAG's callback comes when its tasks' are over; one that knows no start could not tell their record.
        steps = steps if knows or anywhere else None
        failure = Failure(
            "orders", "r1", level, task_id="load", failed_at=self.now, started_at=self.began if knows else None
        )
        told = prepare(failure, Settings(), IncidentContent(), deployment="prod", redact=str)
        rules = DeliveryPolicy(now=lambda: self.now, deployment="prod", conn_id="c", storm_dag=0, storm_connection=0)
        if knows and steps is None:
            self.told.add(self.began)
        self._go([deliver(told, rules), None], steps)

    @rule()
    def flush(self):
        self._go([flush_all(lambda: self.now), None], None)

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), steps=st.none() | st.integers(1, 8))
    def go_on(self, data, steps):
        self._go(self.processes.pop(data.draw(st.integers(0, len(self.processes) - 1))), steps)

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def die(self, data):
        self.processes.pop(data.draw(st.integers(0, len(self.processes) - 1)))

    @precondition(lambda self: any(not each.closed_at for each in self.incidents))
    @rule()
    def a_person_closes_it(self):
        self.now += timedelta(seconds=1)
        for each in self.incidents:
            if not each.closed_at:
                each.closed_at = each.updated_at = self.now
        self.now += timedelta(seconds=1)

    @precondition(lambda self: any(each.closed_at for each in self.incidents))
    @rule()
    def a_person_writes_a_summary(self):
        for each in self.incidents:
            each.updated_at = self.now

    @rule()
    def the_run_is_made_again(self):
        """Its callbacks are over by then."""
        self.processes.clear()
        self.now += timedelta(seconds=1)
        self.began = self.now
        self.starts.append(self.began)
        self.now += timedelta(seconds=1)

    @rule(minutes=st.sampled_from([1, 59, 61]))
    def time_passes(self, minutes):
        self.now += timedelta(minutes=minutes)

    @rule(mode=st.sampled_from(["up", "up", "slow", "down"]))
    def api_becomes(self, mode):
        self.mode = mode

    @precondition(lambda self: all(each.closed_at for each in self.incidents))
    @rule()
    def the_records_are_forgotten(self):
        """As a recovery does with what it has closed; what waits stays."""
        self.texts = {name: text for name, text in self.texts.items() if '"pending"' in text}

    @invariant()
    def one_is_open_at_most(self):
        assert sum(not each.closed_at for each in self.incidents) <= 1

    @invariant()
    def each_life_has_opened_one_at_most(self):
        """Under the run's first key, or under its own; a flush may deliver an earlier life's as well."""
        for start in self.starts:
            own = started_key(Failure("orders", "r1", started_at=start), deployment="prod")
            first = own.partition("/started/")[0]
            opened = [each.key for each in self.incidents if each.key in {first, own} and each.created_at >= start]
            assert len(opened) <= 1, opened

    @invariant()
    def the_record_leads_to_what_is_open(self):
        """Else no recovery would close it."""
        for each in self.incidents:
            if not each.closed_at and not self.processes:
                assert each.key in {read_record(name, text).sent_key for name, text in self._records()}

    def _records(self):
        return [(name, text) for name, text in self.texts.items() if name.startswith(PREFIX)]

    def teardown(self):
        """Each life whose failure was told to the end has had an incident that was open in it."""
        self.mode = "up"
        self.processes.clear()
        self._go([flush_all(lambda: self.now), None], None)
        for start in self.told - {self.began}:
            assert any(each.closed_at is None or each.closed_at >= start for each in self.incidents)
        if self.began in self.told:
            assert any(each.closed_at is None or each.closed_at >= self.began for each in self.incidents)
        self.one_is_open_at_most()


TestMadeAgain = MadeAgainMachine.TestCase
TestMadeAgain.settings = settings(
    max_examples=500,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    ("slow", "quick", "step"),
    [(TASK, other, step) for other in (POOREST, DAG) for step in range(10)] + [(POOREST, TASK, 4), (POOREST, TASK, 5)],
)
def test_whoever_is_frozen_at_any_step_the_record_leads_to_what_is_open(slow, quick, step):
    """One of two callbacks stops somewhere, and goes on once the other is done; the poorest while it asks."""
    machine = MadeAgainMachine()
    machine.begin(lives=1, forgotten=True)
    machine.report(slow, step, anywhere=True)
    machine.report(quick, None)
    while machine.processes:
        machine._go(machine.processes.pop(), None)
    machine.one_is_open_at_most()
    machine.each_life_has_opened_one_at_most()
    machine.the_record_leads_to_what_is_open()
    assert [bool(each.closed_at) for each in machine.incidents] == [True, False]

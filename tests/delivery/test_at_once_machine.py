"""Runs of a DAG that share an incident, whatever happens in whatever order: one is open at most, none is lost."""

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airflow_incident.api.closing import CloseOptions
from airflow_incident.api.incident import IncidentState
from airflow_incident.core.failure import Failure
from airflow_incident.core.settings import Settings
from airflow_incident.delivery.flush import flush_all
from airflow_incident.delivery.record import PREFIX
from airflow_incident.delivery.recovery import Recovery, close_run
from airflow_incident.delivery.report import DeliveryPolicy, IncidentContent, prepare
from airflow_incident.delivery.reporter import deliver
from tests.delivery.test_made_again_machine import IncidentIo

CLOSED = {"id": "st-1", "name": "Closed", "category": "closed", "rank": 1}
RUNS = 4


class AtOnceMachine(IncidentIo, RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
        self.clears = dict.fromkeys(range(RUNS), 0)

    def _failure(self, run):
        return Failure(
            "orders",
            f"r{run}",
            clear_count=self.clears[run],
            failed_at=self.now,
            run_type="backfill",
            logical_date=datetime(2026, 1, 1 + run, tzinfo=UTC),
        )

    @property
    def _rules(self):
        return DeliveryPolicy(now=lambda: self.now, deployment="prod", conn_id="c", storm_dag=0, storm_connection=0)

    @rule(run=st.integers(0, RUNS - 1), steps=st.none() | st.integers(0, 14))
    def report(self, run, steps):
        """Fail; finished, or left on its way."""
        told = prepare(self._failure(run), Settings(), IncidentContent(), deployment="prod", redact=str)
        self._go([deliver(told, self._rules), None], steps)

    @rule(steps=st.none() | st.integers(0, 14))
    def flush(self, steps):
        self._go([flush_all(lambda: self.now), None], steps)

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), steps=st.none() | st.integers(1, 8))
    def go_on(self, data, steps):
        self._go(self.processes.pop(data.draw(st.integers(0, len(self.processes) - 1))), steps)

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def die(self, data):
        self.processes.pop(data.draw(st.integers(0, len(self.processes) - 1)))

    @rule(minutes=st.sampled_from([1, 59, 61]))
    def time_passes(self, minutes):
        self.now += timedelta(minutes=minutes)

    @rule(mode=st.sampled_from(["up", "up", "slow"]))
    def api_becomes(self, mode):
        self.mode = mode

    @precondition(lambda self: not self.processes and any(not each.closed_at for each in self.incidents))
    @rule()
    def a_person_closes_it(self):
        self.now += timedelta(seconds=1)
        for each in self.incidents:
            if not each.closed_at:
                each.closed_at = each.updated_at = self.now
        self.now += timedelta(seconds=1)

    @precondition(lambda self: not self.processes)
    @rule()
    def every_run_is_cleared_and_recovers(self):
        """Begin with the earliest; after the last one nothing is open."""
        self.mode = "up"
        self.now += timedelta(seconds=1)
        for run in range(RUNS):
            self.clears[run] += 1
            recovery = Recovery(
                self._failure(run), "dag", CloseOptions("DAG orders recovered"), all_the_same="all the same"
            )
            self._go([close_run(recovery, self._rules), None], None)
        assert all(each.closed_at for each in self.incidents)
        self.now += timedelta(seconds=1)

    def _answered(self, call):
        if call.path == "/v1/incident_statuses":
            return [CLOSED]
        if call.path == "/v2/incident_updates":
            return super()._answered(call)
        incident = self._shown(call.path.split("/")[3])
        if call.method == "POST":
            incident.closed_at = incident.updated_at = self.now
        category = "closed" if incident.closed_at else "triage"
        return IncidentState(incident.id, "INC-1", status_category=category)

    @invariant()
    def one_is_open_at_most(self):
        assert sum(not each.closed_at for each in self.incidents) <= 1

    def teardown(self):
        """Deliver what waits, which opens no second one."""
        self.mode = "up"
        self.processes.clear()
        self._go([flush_all(lambda: self.now), None], None)
        self.one_is_open_at_most()
        assert not any('"pending"' in text for name, text in self.texts.items() if name.startswith(PREFIX))


TestAtOnce = AtOnceMachine.TestCase
TestAtOnce.settings = settings(
    max_examples=500,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

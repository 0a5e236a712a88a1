"""What becomes of an earlier attempt's incident when its run succeeds, step by step; store, API and clock are the test's."""

from datetime import UTC, datetime, timedelta

import pytest

from airflow_incident.api.calls import CallSequence
from airflow_incident.api.closing import CloseOptions, CloseResult
from airflow_incident.api.incident import IncidentState
from airflow_incident.core.failure import Failure
from airflow_incident.core.settings import Settings
from airflow_incident.delivery.effects import Ask, Get
from airflow_incident.delivery.outcome import close_event
from airflow_incident.delivery.recovery import Recovery, close_run
from airflow_incident.delivery.report import DeliveryPolicy, IncidentContent, prepare
from airflow_incident.errors import (
    FieldError,
    IncidentIoError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    TransportError,
    ValidationError,
)
from tests.delivery.test_reporter import World as Reporting

RUN_PAGE = "https://airflow.example.com/dags/orders/runs/r1"
OPTIONS = CloseOptions("DAG orders recovered", RUN_PAGE)
HANDLED = "DAG orders succeeded all the same"
STATUSES = [
    {"id": "st-1", "name": "Triage", "category": "triage", "rank": 1},
    {"id": "st-2", "name": "Investigating", "category": "live", "rank": 2},
    {"id": "st-5", "name": "Done", "category": "closed", "rank": 5},
    {"id": "st-4", "name": "Closed", "category": "closed", "rank": 4},
    {"id": "st-6", "name": "Canceled", "category": "canceled", "rank": 6},
]
ROLE = "01FCNDV6P870EA6S7TK1DSYDG0"
DAY = datetime(2026, 11, 20, tzinfo=UTC)
OPEN = IncidentState(id="01H", reference="INC-1")


class World(Reporting):
    """The reports' world, where incidents stand somewhere and can be closed."""

    def __init__(self):
        super().__init__()
        self.category = {}
        self.led = set()
        self.links = []
        self.journal_error = {}
        self.steps = []
        self.calls = []

    def fail(self, run="r1", clear=0, **facts):
        rules = {name: facts.pop(name) for name in ("conn_id", "send") if name in facts}
        wanted = {name: facts.pop(name) for name in ("scope", "refail") if name in facts}
        failure = Failure(dag_id="orders", run_id=run, clear_count=clear, **facts)
        settings = Settings(**{"refail": "new"} | wanted)
        return self.report_failure(failure, settings, **rules)

    def report_failure(self, failure, settings=None, **rules):
        report = prepare(failure, settings or Settings(), IncidentContent(), deployment="prod", redact=str)
        if "conn_id" in rules:
            return self.run(self.delivery(report, **rules))
        return self.deliver_report(report, **rules)

    def delivery(self, report, **rules):
        from airflow_incident.delivery.reporter import deliver

        options = {"now": lambda: self.now, "deployment": "prod", "storm_dag": 0, "storm_connection": 0}
        return deliver(report, DeliveryPolicy(**options | rules))

    def succeed(self, run="r1", clear=1, scope="run", wish=OPTIONS, *, send=True, key_name=None, alerts=False, **facts):
        handled = facts.pop("all_the_same", HANDLED)
        success = Failure(dag_id="orders", run_id=run, clear_count=clear, **facts)
        rules = DeliveryPolicy(now=lambda: self.now, deployment="prod", conn_id="c", send=send)
        self.steps, self.calls = [], []
        return self.run(close_run(Recovery(success, scope, wish, key_name, alerts, handled), rules))

    def take(self, step):
        self.steps.append(step)
        if not isinstance(step, Ask) or "summary" in (getattr(step.call, "body", None) or {}).get("incident", ()):
            return super().take(step)
        try:
            return self.plan(step.call) if isinstance(step.call, CallSequence) else self.answer(step.call)
        except IncidentIoError as error:
            return error

    def plan(self, plan):
        steps = plan.steps()
        try:
            call = next(steps)
            while True:
                self.calls.append(f"{call.method} {call.path}")
                try:
                    answer = self.answer(call)
                except IncidentIoError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(answer)
        except StopIteration as end:
            return end.value

    def answer(self, call):
        for part, error in self.journal_error.items():
            if part in f"{call.method} {call.path}":
                raise error
        if call.path == "/v1/incident_statuses":
            return STATUSES
        if call.path == "/v1/incident_attachments":
            return self.links.append(call.body)
        if "alert_events" in call.path:
            return None
        incident_id = call.path.split("/")[3]
        if call.method == "POST":
            (status,) = [s for s in STATUSES if s["id"] == call.body["incident"]["incident_status_id"]]
            self.category[incident_id] = status["category"]
        category = self.category.get(incident_id, "triage")
        return IncidentState(
            incident_id, "INC-1", status_category=category, permalink="http://x", has_lead=incident_id in self.led
        )

    @property
    def kinds(self):
        return [record.state for record in self.records()]


@pytest.fixture
def world():
    return World()


def kinds(recovered):
    return [settled.kind for settled in recovered.settled]


def line(recovered):
    (said,) = recovered.log_events(str, Failure(dag_id="orders", run_id="r1"))
    assert len(said.line.splitlines()) == 1
    return said.line.rpartition(" (outcome=")[0]


def test_a_step_of_the_first_attempt_has_nothing_to_close(world):
    """Nothing is read, nothing is asked, also if something is open under the run's own key."""
    world.fail(clear=0)
    for scope in ("run", "task", "task_instance"):
        assert world.succeed(clear=0, scope=scope, all_the_same=None).settled == ()
        assert world.steps == []


def test_a_cleared_run_without_an_open_record_costs_no_request(world):
    """Its records are looked for, nobody is asked."""
    assert world.succeed(clear=3).settled == ()
    assert [type(step) for step in world.steps] == [Get, Get, Get, Get]


def test_what_a_callback_of_this_attempt_opened_is_closed_with_a_note(world):
    """The run got over the failure."""
    world.fail(clear=0, level="task", task_id="load")
    recovered = world.succeed(clear=0)
    assert kinds(recovered) == ["closed"]
    assert [link["resource"]["title"] for link in world.links] == [HANDLED]
    assert "DAG orders, run r1 succeeded all the same" in line(recovered)


def test_an_earlier_attempt_s_incident_is_closed(world):
    """The link is attached, the first closed status set, the record forgotten."""
    world.fail()
    recovered = world.succeed()
    assert kinds(recovered) == ["closed"]
    assert world.category == {"id-1": "closed"}
    assert world.links == [
        {"incident_id": "id-1", "resource": {"resource_type": "arbitrary_url", "url": RUN_PAGE, "title": OPTIONS.title}}
    ]
    assert world.records() == []
    assert line(recovered) == (
        "incident.io: INC-1 http://x is closed because DAG orders, run r1 recovered; it has a link to the run"
    )


def test_twice_changes_nothing(world):
    """The second success finds no record, and asks nobody."""
    world.fail()
    world.succeed()
    assert world.succeed().settled == ()
    assert len(world.links) == 1
    assert world.calls == []


def test_what_this_attempt_has_opened_stays(world):
    """An operator's incident of the same attempt is not an earlier one's; the earlier attempt's is closed."""
    world.fail(clear=0)
    world.fail(clear=1, level="operator")
    assert kinds(world.succeed(clear=1)) == ["closed"]
    assert world.category == {"id-1": "closed"}
    assert [record.clear_count for record in world.records()] == [1]


def test_every_earlier_attempt_is_looked_at_up_to_twenty(world):
    """Each has a key of its own; what is further back stays."""
    for clear in (0, 4, 24):
        world.fail(clear=clear)
    assert kinds(world.succeed(clear=25)) == ["closed"]
    assert len([step for step in world.steps if isinstance(step, Get)]) == 20 + 1 + 1  # this attempt, and the ledger
    assert kinds(world.succeed(clear=5)) == ["closed", "closed"]


def test_another_run_s_incident_stays_open(world):
    """A run closes its own."""
    world.fail("r1")
    world.fail("r2")
    world.succeed("r1")
    assert world.category == {"id-1": "closed"}


def test_a_deliberate_incident_has_its_own_name(world):
    """Only the recovery that names it closes it."""
    failure = Failure(dag_id="orders", run_id="r1", level="operator")
    world.deliver_report(
        prepare(failure, Settings(), IncidentContent(key_name="bad rows"), deployment="prod", redact=str)
    )
    assert world.succeed().settled == ()
    assert kinds(world.succeed(key_name="bad rows")) == ["closed"]


def test_a_task_closes_its_own_incident_at_its_scope(world):
    """At scope task the key names the task."""
    settings = Settings(scope="task")
    for task in ("load", "check"):
        world.report_failure(Failure(dag_id="orders", run_id="r1", level="task", task_id=task), settings)
    assert kinds(world.succeed(scope="task", level="task", task_id="load")) == ["closed"]
    assert world.category == {"id-1": "closed"}


@pytest.mark.parametrize("category", ["closed", "declined", "canceled", "merged"])
def test_what_is_over_is_done(world, category):
    """Nothing is attached, nothing is edited, the record is forgotten."""
    world.fail()
    world.category["id-1"] = category
    assert kinds(world.succeed()) == ["already_closed"]
    assert world.calls == ["GET /v2/incidents/id-1"]
    assert world.records() == []


def test_what_is_gone_is_done(world):
    """A deleted incident leaves nothing to close."""
    world.fail()
    world.journal_error["GET /v2"] = NotFoundError(404, type="not_found")
    assert kinds(world.succeed()) == ["gone"]
    assert world.records() == []


@pytest.mark.parametrize("how", ["led", "live", "learning", "paused", "something new"])
def test_what_a_person_has_taken_gets_a_link_once(world, how):
    """It has left triage, or somebody leads it: a note, once, and hands off."""
    world.fail()
    if how == "led":
        world.led.add("id-1")
    else:
        world.category["id-1"] = how
    recovered = world.succeed()
    assert kinds(recovered) == ["claimed"]
    assert "stays open: a person has claimed it; it has a link to the run" in line(recovered)
    assert world.succeed().settled == ()
    assert world.calls == []
    assert len(world.links) == 1
    assert world.category.get("id-1") != "closed"


def test_what_airflow_itself_has_given_is_no_persons_doing(world):
    """An incident that was opened with a lead and out of triage is closed, as long as it stands where it began."""
    settings = Settings(roles={ROLE: "bob@example.com"}, status="fixing")
    for run, stands, kind in (("r1", "live", "closed"), ("r2", "paused", "claimed")):
        world.report_failure(Failure(dag_id="orders", run_id=run), settings)
        (record,) = (record for record in world.records() if record.run_id == run)
        world.led.add(record.incident.id)
        world.category[record.incident.id] = stands
        assert kinds(world.succeed(run)) == [kind]


def test_always_closes_also_what_a_person_has_taken(world):
    """Also after the note was attached, and then without a second one."""
    world.fail()
    world.led.add("id-1")
    world.succeed()
    assert kinds(world.succeed(wish=OPTIONS._replace(always=True))) == ["closed"]
    assert len(world.links) == 1
    assert world.category == {"id-1": "closed"}


def test_a_run_without_a_page_attaches_nothing(world):
    """The incident is closed all the same, and the line says so."""
    world.fail()
    assert "has no link" in line(world.succeed(wish=OPTIONS._replace(url=None)))
    assert world.links == []


def test_a_link_that_cannot_be_attached_stops_nothing(world):
    """The incident is closed; the line names the reason."""
    world.fail()
    world.journal_error["attachments"] = PermissionDeniedError(403, type="resource_forbidden")
    recovered = world.succeed()
    assert kinds(recovered) == ["closed"]
    assert "incident editor" in line(recovered)


@pytest.mark.parametrize("wanted", ["Done", "done", " DONE ", "st-5"])
def test_the_status_may_be_named(world, wanted):
    """By name in any case, or by ID."""
    world.fail()
    assert kinds(world.succeed(wish=OPTIONS._replace(status=wanted))) == ["closed"]


def test_an_unknown_status_is_one_line_with_the_known_names(world):
    """The incident and its record stay, for somebody may mend the name."""
    world.fail()
    recovered = world.succeed(wish=OPTIONS._replace(status="Finished"))
    assert kinds(recovered) == ["refused"]
    assert "'Finished' is not a status of this account; known: Triage, Investigating, Closed, Done, Canceled" in line(
        recovered
    )
    assert world.kinds == ["open"]
    assert kinds(world.succeed(wish=OPTIONS._replace(status="Done"))) == ["closed"]
    assert len(world.links) == 1


@pytest.mark.parametrize(
    ("where", "said", "role"),
    [
        ("actions/edit", "no", "'incident editor'"),
        ("actions/edit", "closing past the post-incident flow is not allowed", "'post-incident flow opt-out'"),
        ("GET /v2", "no", "'viewer'"),
        ("statuses", "no", "'viewer'"),
    ],
)
def test_a_key_that_lacks_a_role_is_one_line_that_names_it(world, where, said, role):
    """It waits for a flush: the key can be given the role."""
    world.fail()
    error = PermissionDeniedError(403, type="resource_forbidden", errors=(FieldError(message=said),))
    world.journal_error[where] = error
    recovered = world.succeed()
    assert kinds(recovered) == ["kept"]
    assert f"Give the API key the role {role}." in line(recovered)
    world.journal_error.clear()
    assert len(world.flush().recovered) == 1


@pytest.mark.parametrize("where", ["GET /v2", "statuses", "actions/edit"])
def test_an_outage_leaves_it_to_a_flush(world, where):
    """The record says what is still to be done; a flush does it, with one link in all."""
    world.fail()
    world.journal_error[where] = ServerError(503)
    recovered = world.succeed()
    assert kinds(recovered) == ["kept"]
    assert "The next flush tries again" in line(recovered)
    world.flush()
    assert world.category.get("id-1") != "closed"
    world.journal_error.clear()
    assert len(world.flush().recovered) == 1
    assert world.category == {"id-1": "closed"}
    assert len(world.links) == 1
    assert world.records() == []


def test_an_outage_leaves_it_to_the_next_success_as_well(world):
    """Whoever comes first."""
    world.fail()
    world.journal_error["edit"] = TransportError("no")
    world.succeed()
    world.journal_error.clear()
    assert kinds(world.succeed()) == ["closed"]
    assert len(world.links) == 1


def test_after_one_outage_the_other_attempts_are_only_written_down(world):
    """What has no answer now would have none a moment later."""
    world.fail(clear=0)
    world.fail(clear=1)
    world.journal_error["GET /v2"] = ServerError(503)
    assert kinds(world.succeed(clear=2)) == ["kept", "kept"]
    assert len(world.calls) == 1
    assert all(record.closing for record in world.records())


def test_a_breaker_that_is_open_writes_it_down(world):
    """No request, and the flush knows."""
    world.fail()
    assert kinds(world.succeed(send=False)) == ["kept"]
    assert world.calls == []
    assert len(world.flush().recovered) == 1


def test_a_flush_leaves_alone_what_a_person_took_meanwhile(world):
    """The rules are the same."""
    world.fail()
    world.succeed(send=False)
    world.led.add("id-1")
    assert list(world.flush().recovered) == []
    assert world.category == {}
    assert len(world.links) == 1
    world.flush()
    assert len(world.links) == 1


def test_a_failure_that_never_left_is_dropped(world):
    """The run recovered before incident.io was asked: nothing is sent any more."""
    world.refusal = TransportError("refused", maybe_delivered=False)
    world.fail()
    world.refusal = None
    world.sent.clear()
    recovered = world.succeed()
    assert kinds(recovered) == ["dropped"]
    assert line(recovered).endswith("is dropped: it recovered before incident.io was asked")
    assert world.records() == []
    world.flush()
    assert world.sent == []


def test_a_failure_that_may_have_left_is_asked_for_again_then_closed(world):
    """The same body with the same key is answered with the incident that it opened, if it did."""
    world.refusal = TransportError("timed out", maybe_delivered=True)
    world.fail()
    (first,) = world.sent
    world.refusal = None
    assert kinds(world.succeed()) == ["closed"]
    assert world.sent == [first, first]
    assert world.category == {"id-1": "closed"}
    assert world.records() == []


def test_a_failure_that_may_have_left_waits_for_an_answer(world):
    """In an outage nobody knows; the flush sends it and closes it."""
    world.refusal = TransportError("timed out", maybe_delivered=True)
    world.fail()
    assert kinds(world.succeed()) == ["kept"]
    assert world.kinds == ["pending"]
    world.refusal = None
    assert len(world.flush().recovered) == 1
    assert world.category == {"id-1": "closed"}
    assert world.records() == []


def test_what_was_refused_is_forgotten(world):
    """Nothing was opened, and nothing need be."""
    world.refusal = ValidationError(422)
    world.fail()
    assert kinds(world.succeed()) == ["discarded"]
    assert world.records() == []


def test_a_storm_s_incident_stays(world):
    """It stands for others too; only the record under it goes."""
    world.fail()
    (record,) = world.records()
    grouped = record._replace(state="grouped", storm="airflow/prod/storm/x")
    world.texts[record.name] = grouped.text()
    assert kinds(world.succeed()) == ["grouped"]
    assert world.calls == []
    assert world.records() == []


def test_an_incident_that_nobody_knows_is_one_line(world):
    """incident.io said only that the key was used: there is no ID to close."""
    world.fail()
    (record,) = world.records()
    world.texts[record.name] = record._replace(incident=None).text()
    recovered = world.succeed()
    assert kinds(recovered) == ["unknown"]
    assert record.key in line(recovered)
    assert world.calls == []


def test_another_connection_s_incident_is_left_alone(world):
    """A record names a connection, and only the callback's own is used."""
    world.fail(conn_id="other")
    assert kinds(world.succeed()) == ["other_connection"]
    assert world.calls == []
    assert world.kinds == ["open"]


def test_a_forged_record_is_left_alone(world):
    """What cannot be read as ours closes nothing and is not deleted."""
    world.fail()
    (record,) = world.records()
    for text in ("{", record._replace(key="airflow/other").text()):
        world.texts[record.name] = text
        assert world.succeed().settled == ()
        assert world.texts[record.name] == text
    assert world.calls == []


def test_a_store_that_fails_is_one_warning(world):
    """Nobody is asked about what nobody knows."""
    world.fail()
    world.store_fails = True
    recovered = world.succeed()
    assert recovered.settled == ()
    assert line(recovered) == "incident.io: the journal cannot be used: read-only"


def test_a_store_that_fails_at_the_end_hides_nothing(world):
    """The incident is closed, and told; a later success finds it over."""
    world.fail()
    answered = world.take

    def take(step):
        answer = answered(step)
        world.store_fails = world.store_fails or isinstance(step, Ask)
        return answer

    world.take = take
    recovered = world.succeed()
    assert kinds(recovered) == ["closed"]
    assert recovered.journal_error == "read-only"
    world.store_fails = False
    world.take = answered
    assert kinds(world.succeed()) == ["already_closed"]


# Scope dag


def at_dag(world, run, day, clear=0, **facts):
    failure = Failure(dag_id="orders", run_id=run, clear_count=clear, logical_date=day, **facts)
    return world.report_failure(failure, Settings(scope="dag"))


def recovers(world, run, day, clear=0, **facts):
    return kinds(world.succeed(run, clear, "dag", logical_date=day, **facts))


def test_a_later_run_s_success_closes_what_the_dag_has_open(world):
    """Whichever run opened it."""
    at_dag(world, "r1", DAY)
    assert recovers(world, "r2", DAY + timedelta(days=1)) == ["closed"]
    assert world.category == {"id-1": "closed"}
    assert recovers(world, "r3", DAY + timedelta(days=2)) == []


def test_an_old_backfill_s_success_does_not_close_today_s_failure(world):
    """Only a run that is not earlier says that the DAG is well again."""
    at_dag(world, "today", DAY)
    assert recovers(world, "old", DAY - timedelta(days=300)) == []
    assert world.category == {}
    assert world.calls == []


def test_runs_without_a_moment_close_nothing(world):
    """Unknown on either side: nobody can tell which is later."""
    at_dag(world, "r1", None)
    assert recovers(world, "r2", DAY) == []
    world.texts.clear()
    at_dag(world, "r3", DAY)
    assert recovers(world, "r4", None) == []


def test_the_moment_after_which_a_run_is_due_stands_in(world):
    """Runs without a logical date have one."""
    at_dag(world, "r1", None, run_after=DAY)
    assert recovers(world, "r2", None, run_after=DAY + timedelta(hours=1)) == ["closed"]


@pytest.mark.parametrize("clear", [0, 1])
def test_the_same_run_closes_it(world, clear):
    """Once cleared, or if it got over a task's failure."""
    at_dag(world, "r1", DAY)
    assert recovers(world, "r1", DAY, clear=clear) == ["closed"]


def test_a_step_of_the_same_run_keeps_it_open_until_it_is_cleared(world):
    """What it opened on purpose."""
    at_dag(world, "r1", DAY, level="operator")
    assert recovers(world, "r1", DAY) == []
    assert recovers(world, "r1", DAY, clear=1) == ["closed"]


def test_a_run_between_two_failures_does_not_close_the_later_one(world):
    """A failure that joins an open incident makes it stand for the later run."""
    at_dag(world, "r1", DAY)
    at_dag(world, "r3", DAY + timedelta(days=2))
    assert recovers(world, "r2", DAY + timedelta(days=1)) == []
    assert recovers(world, "r1", DAY, clear=1) == []
    assert recovers(world, "r3", DAY + timedelta(days=2), clear=1)[0] == "closed"


def test_a_joining_run_of_unknown_time_leaves_it_open(world):
    """Then nobody can tell that all is well."""
    at_dag(world, "r1", DAY)
    at_dag(world, "r2", None)
    assert recovers(world, "r3", DAY + timedelta(days=1)) == []


def test_an_earlier_failure_that_joins_changes_nothing(world):
    """The incident stands for the latest run."""
    at_dag(world, "r2", DAY)
    at_dag(world, "r1", DAY - timedelta(days=1))
    assert recovers(world, "r1", DAY - timedelta(days=1), clear=1) == ["grouped"]
    assert recovers(world, "r2", DAY, clear=1) == ["closed"]


def test_a_cleared_run_drops_what_it_left_waiting(world):
    """At scope dag, too."""
    world.refusal = TransportError("no")
    at_dag(world, "r1", DAY)
    world.refusal = None
    assert recovers(world, "r1", DAY, clear=1) == ["dropped"]


def test_a_record_knows_its_attempt(world):
    """So that a later release can tell earlier from later."""
    at_dag(world, "r1", DAY, clear=2)
    found = [(r.clear_count, r.scope, r.run_at) for r in world.records()]
    assert found == [(2, "dag", DAY)] * 2


def test_a_success_without_a_run_is_an_error_of_ours(world):
    """The door tells it in one line."""
    with pytest.raises(IncidentIoError, match="names no run_id"):
        world.succeed(run="")


# Alerts


def alert_fails(world, clear=0):
    return world.report_failure(Failure(dag_id="orders", run_id="r1", clear_count=clear), Settings(channel="alert"))


def test_an_alert_that_may_not_have_arrived_is_not_fired_again(world):
    """It might page somebody for a run that has recovered: by the success nor by a flush in an outage."""
    world.refusal = TransportError("timed out", maybe_delivered=True)
    alert_fails(world)
    world.refusal = None
    world.sent.clear()
    world.journal_error["alert_events"] = ServerError(503)
    assert kinds(world.succeed(alerts=True)) == ["kept"]
    assert len(world.flush().recovered) == 0
    world.journal_error.clear()
    (record,) = world.flush().recovered
    assert record.endpoint == "alert"
    assert world.records() == []
    assert world.sent == []


@pytest.mark.parametrize(
    ("became", "said"),
    [
        (CloseResult("closed", OPEN, has_link=True), "INC-1 is closed; it has the link ("),
        (CloseResult("claimed", OPEN), "INC-1 stays open: a person has claimed it; it has no link ("),
        (CloseResult("already_closed", OPEN), "INC-1 was closed before ("),
    ],
)
def test_what_a_step_closes_by_id_is_one_sentence(became, said):
    assert close_event(became, Failure("orders", "r1"), str).line.startswith(f"incident.io: {said}")

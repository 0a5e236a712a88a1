"""A run recovers: through the callback, the operator and the hook, over the wire, to the sandbox."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import pytest

from airflow_incident import (
    ConfigurationError,
    IncidentHook,
    NotFoundError,
    PermissionDeniedError,
    RecoveryNotifier,
    ResolveIncidentOperator,
    open_incident,
    resolve_incident,
)
from airflow_incident.airflow_bridge.compat import BaseHook
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.delivery import run as delivery
from airflow_incident.sandbox import catalogue
from airflow_incident.sandbox.fault import FaultProxy
from airflow_incident.sandbox.server import Sandbox
from tests.airflow_versions import AIRFLOW, BASE_URL
from tests.contract import check_all
from tests.doors import API_KEY, call_async, call_sync, dag_context, forget_process, listen, task_context, use_store
from tests.memory_store import Texts

pytestmark = pytest.mark.release

EVERY_DOOR = pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
DAY = datetime(2026, 11, 20, tzinfo=UTC)
UI = "https://airflow.example.com"
LEAD = {"incident_role_id": catalogue.ROLES[0]["id"], "assignee": {"email": "bob@example.com"}}


@pytest.fixture(autouse=True)
def _process(monkeypatch, brisk):
    """Turn the journal on, in a process that has met no outage and spent no time; the UI has an address."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    monkeypatch.setenv(BASE_URL, UI)
    forget_process()
    yield
    forget_process()


@pytest.fixture
def store(monkeypatch):
    return use_store(monkeypatch, Texts())


@pytest.fixture
def counted(monkeypatch):
    counts = {}
    add = lambda name, number: counts.update({name: counts.get(name, 0) + number})  # noqa: E731
    stats = SimpleNamespace(incr=add, timing=lambda *_: None)
    monkeypatch.setattr("airflow_incident.airflow_bridge.compat.Stats", stats, raising=False)
    return counts


def run(run_id="run-1", clear=0, **facts):
    """Build what the DAG's callback is told of a run."""
    facts = {"run_type": "manual", "logical_date": DAY, "run_after": DAY} | facts
    return SimpleNamespace(dag_id="orders", run_id=run_id, clear_number=clear, **facts)


def failed(run_id="run-1", clear=0, context=None, **options):
    facts = {name: options.pop(name) for name in ("run_type", "logical_date") if name in options}
    open_incident(**options)(context or dag_context(run_id, dag_run=run(run_id, clear, **facts)))


def succeeded(run_id="run-1", clear=1, call=call_sync, context=None, **options):
    """Succeed; return all that was logged."""
    facts = {name: options.pop(name) for name in ("run_type", "logical_date") if name in options}
    context = context or dag_context(run_id, reason="success", dag_run=run(run_id, clear, **facts))
    with listen() as heard:
        call(resolve_incident(**options), context)
    assert API_KEY not in heard.everything
    return heard


def statuses(box):
    return [incident["incident_status"]["name"] for incident in box.incidents_v2]


def links(box):
    return [link["resource"] for opened in box.store.all() for link in opened.attachments]


def paths(box, since=0):
    return [f"{seen.method} {seen.path}" for seen in box.requests[since:]]


@EVERY_DOOR
def test_a_cleared_run_that_succeeds_closes_its_incident(connected, store, counted, call):
    """With a link to the run; another run's incident stays open; every byte is as documented."""
    failed("run-1")
    failed("run-2")
    heard = succeeded("run-1", call=call)
    assert statuses(connected) == ["Closed", "Triage"]
    (link,) = links(connected)
    assert link["title"] == "DAG orders recovered in Airflow, run run-1"
    assert link["permalink"] == f"{UI}/dags/orders/{'runs/' if AIRFLOW >= (3, 0) else 'grid?dag_run_id='}run-1"
    (text,) = heard.texts(logging.INFO)
    assert "INC-1" in text
    assert "is closed because DAG orders, run run-1 recovered; it has a link to the run" in text
    assert [record.run_id for record in store.records()] == ["run-2"]
    assert counted == {"incident_io.opened": 2, "incident_io.recovered": 1}
    check_all(connected)


@EVERY_DOOR
def test_twice_changes_nothing(connected, store, call):
    """The second success asks nobody and says nothing."""
    failed()
    succeeded(call=call)
    before = len(connected.requests)
    assert succeeded(call=call).ours == []
    assert paths(connected, before) == []


@EVERY_DOOR
@pytest.mark.parametrize("options", [{}, {"scope": "task"}, {"scope": "task_instance"}])
def test_a_first_attempt_s_success_is_one_look_in_the_journal(connected, store, monkeypatch, call, options):
    """No connection, no request, no line, no second look."""
    looks = []
    store.failing = {"get": lambda: looks.append(1)}
    monkeypatch.setattr(BaseHook, "get_connection", lambda *_: pytest.fail("the connection was read"))
    assert succeeded(clear=0, call=call, **options).ours == []
    assert len(looks) == 1
    assert connected.requests == []


@EVERY_DOOR
def test_a_name_that_only_the_connection_has_is_looked_for(sandbox, connect, store, monkeypatch, call):
    """Where neither argument nor airflow.cfg names the deployment; without a connection there is nothing to say."""
    monkeypatch.delenv("AIRFLOW__INCIDENT_IO__DEPLOYMENT")
    assert succeeded(clear=0, call=call).ours == []
    connect(sandbox.url, extra='{"deployment": "named in the connection"}')
    failed(context=task_context())
    succeeded(clear=0, call=call)
    assert statuses(sandbox) == ["Closed"]


@EVERY_DOOR
@pytest.mark.parametrize("setting", ["ENABLED", "JOURNAL"])
def test_what_is_turned_off_makes_no_look_and_no_line(connected, store, monkeypatch, call, setting):
    """A success that has nothing to close has nothing to say."""
    monkeypatch.setenv(f"AIRFLOW__INCIDENT_IO__{setting}", "False")
    store.failing = {"get": pytest.fail}
    assert succeeded(clear=0, call=call).ours == []


# A run that succeeds although something failed


@EVERY_DOOR
def test_a_run_that_got_over_a_task_s_failure_closes_its_incident(connected, store, counted, call):
    """A teardown failed, or `one_failed` handled it: the link says that the run succeeded all the same."""
    failed(context=task_context())
    assert connected.incidents[0]["name"] == "DAG orders failed: load (ValueError)"
    heard = succeeded(clear=0, call=call)
    assert statuses(connected) == ["Closed"]
    assert links(connected)[0]["title"] == "DAG orders succeeded all the same, run run-1"
    (text,) = heard.texts(logging.INFO)
    assert "is closed because DAG orders, run run-1 succeeded all the same; it has a link to the run" in text
    assert store.records() == []
    assert counted == {"incident_io.opened": 1, "incident_io.recovered": 1}
    assert succeeded(clear=0, call=call).ours == []
    check_all(connected)


def test_a_cleared_run_that_got_over_it_closes_both_attempts(connected, store):
    """The first attempt failed, the second had a teardown that did."""
    failed(clear=0)
    failed(context=task_context(clear=1), refail="new")
    succeeded(clear=1)
    assert statuses(connected) == ["Closed", "Closed"]
    assert [link["title"] for link in links(connected)] == [
        "DAG orders recovered in Airflow, run run-1",
        "DAG orders succeeded all the same, run run-1",
    ]


def test_a_run_that_failed_twice_and_got_over_it_closes_the_one_incident_that_both_are_in(connected, store):
    """Nothing of either attempt is left in the journal, and nobody is told of an incident that stays."""
    failed(clear=0)
    failed(clear=1)
    heard = succeeded(clear=2)
    assert statuses(connected) == ["Closed"]
    assert [record for record in store.texts if record.startswith("incident_io.")] == []
    assert "stays" not in heard.sole(logging.INFO)


def test_a_missed_deadline_s_incident_is_closed_when_the_run_succeeds(connected, store):
    """It was late, and is there."""
    deadline = {"dag_run": {"dag_id": "orders", "dag_run_id": "run-1"}, "deadline": {"deadline_time": "2026-01-01"}}
    call_async(open_incident(), deadline)
    succeeded(clear=0)
    assert statuses(connected) == ["Closed"]


@pytest.mark.parametrize("options", [{}, {"scope": "dag"}], ids=["run", "dag"])
def test_what_a_step_of_the_run_opened_on_purpose_stays(connected, store, options):
    """Whoever wrote the step wanted it, also where it shares the run's key, and a callback comes after it."""
    from airflow_incident import CreateIncidentOperator

    context = task_context()
    context["ti"].xcom_push = lambda **_: None
    CreateIncidentOperator(task_id="tell", **options).execute(context)
    failed(context=task_context(), **options)
    assert succeeded(clear=0, **options).ours == []
    assert statuses(connected) == ["Triage"]


def test_a_step_cannot_tell_that_its_run_will_succeed(connected, store):
    """The operator closes what earlier attempts opened, not what this one has."""
    failed(context=task_context())
    assert operate(clear=0) == []
    assert statuses(connected) == ["Triage"]


@pytest.mark.parametrize("scope", ["task", "task_instance"])
def test_a_run_that_got_over_a_failure_closes_its_tasks_incidents(connected, store, scope):
    """At the scopes of tasks a run closes those of the tasks that it failed with; another task's stays."""
    for index in (0, 1):
        failed(context=task_context(task_id="load", map_index=index), scope=scope)
    failed(context=task_context(task_id="check"), scope=scope)
    states = [SimpleNamespace(task_id="load", map_index=index) for index in (0, 1)]
    success = dag_context(reason="success", dag_run=run(clear=0, get_task_instances=lambda state: states))
    succeeded(context=success, scope=scope)
    assert statuses(connected) == ["Closed"] * (2 if scope == "task_instance" else 1) + ["Triage"]


def test_a_task_that_comes_to_itself_closes_its_own(connected, store):
    """Cleared alone while its run goes on, which counts as no clear before 3.2."""
    failed(context=task_context(), scope="task")
    success = task_context()
    del success["exception"]
    succeeded(context=success, scope="task")
    assert statuses(connected) == ["Closed"]
    assert links(connected)[0]["title"] == "Task orders.load succeeded all the same, run run-1"


def test_a_run_of_a_dag_s_incident_that_got_over_it_closes_it(connected, store):
    """At scope dag, which backfills have; unless a later run has failed since."""
    context = task_context(dag_run=run(clear=0))
    failed(context=context, scope="dag")
    succeeded(clear=0, scope="dag")
    assert statuses(connected) == ["Closed"]


def test_a_failure_that_was_got_over_and_waits_is_dropped(sandbox, connect, store):
    """An outage kept it, and now it is over."""
    with FaultProxy(sandbox.direct_port, "refuse") as wire:
        connect(wire.url)
        failed(context=task_context())
    text = succeeded(clear=0).texts(logging.INFO)[0]
    assert "it succeeded all the same before incident.io was asked" in text
    assert sandbox.requests == []
    assert store.records() == []


def test_a_person_who_has_it_keeps_it_when_the_run_gets_over_it(connected, store):
    """With the link, once; then nothing more is read or said."""
    failed(context=task_context())
    connected.store.edit(connected.incidents[0]["id"], {"incident_role_assignments": [LEAD]})
    assert "stays open: a person has claimed it" in succeeded(clear=0).texts(logging.INFO)[0]
    assert succeeded(clear=0).ours == []
    assert statuses(connected) == ["Triage"]


@EVERY_DOOR
def test_a_look_that_fails_is_one_warning(connected, store, monkeypatch, call):
    """Nobody can tell whether there is something to close."""

    def fail():
        raise OSError("read-only")

    store.failing["get"] = fail
    monkeypatch.setattr(BaseHook, "get_connection", lambda *_: pytest.fail("the connection was read"))
    assert "the journal cannot be used: OSError: read-only" in succeeded(clear=0, call=call).sole(logging.WARNING)


# What it closes, and how


@EVERY_DOOR
def test_at_task_level_it_acts_only_where_incidents_stand_for_tasks(connected, store, call):
    """At scope run a task's success says nothing of the run; at scope task it closes the task's own."""
    for task in ("load", "check"):
        failed(context=task_context(task_id=task), scope="task")
    success = task_context(clear=1, task_id="load")
    del success["exception"]
    for scope in ("run", "dag"):
        assert succeeded(context=success, call=call, scope=scope).ours == []
    assert statuses(connected) == ["Triage", "Triage"]
    succeeded(context=success, call=call, scope="task")
    assert statuses(connected) == ["Closed", "Triage"]
    assert links(connected)[0]["title"] == "Task orders.load recovered in Airflow, run run-1"


def test_the_configuration_may_say_what_incidents_stand_for(connected, store, monkeypatch):
    """The scope of airflow.cfg counts for both callbacks."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__SCOPE", "task")
    failed(context=task_context())
    success = task_context(clear=1)
    del success["exception"]
    succeeded(context=success)
    assert statuses(connected) == ["Closed"]


@EVERY_DOOR
def test_an_incident_with_a_lead_stays_open_and_gets_the_note_once(connected, store, call):
    """Hands off what a person has claimed."""
    failed()
    connected.store.edit(connected.incidents[0]["id"], {"incident_role_assignments": [LEAD]})
    heard = succeeded(call=call)
    assert "stays open: a person has claimed it; it has a link to the run" in heard.texts(logging.INFO)[0]
    succeeded(call=call)
    assert statuses(connected) == ["Triage"]
    assert len(links(connected)) == 1


@pytest.mark.parametrize("place", ["argument", "config"])
def test_always_closes_what_a_person_has_taken(connected, store, monkeypatch, place):
    """As an argument, or in airflow.cfg."""
    failed()
    connected.store.edit(connected.incidents[0]["id"], {"incident_role_assignments": [LEAD]})
    if place == "config":
        monkeypatch.setenv("AIRFLOW__INCIDENT_IO__RESOLVE", "always")
    succeeded(**({"resolve": "always"} if place == "argument" else {}))
    assert statuses(connected) == ["Closed"]


@pytest.mark.parametrize("category", ["closed", "declined", "canceled", "merged"])
def test_what_is_over_is_left_as_it_is(connected, store, category):
    """Also where v1 has no word for it; the record is forgotten."""
    failed()
    connected.store.move("INC-1", category)
    before = statuses(connected)
    succeeded()
    assert statuses(connected) == before
    assert links(connected) == []
    assert store.records() == []


def test_what_is_gone_is_done(connected, store):
    """incident.io has forgotten it."""
    failed()
    connected.clear()
    assert "no longer exists" in succeeded().texts(logging.INFO)[0]
    assert store.records() == []


@pytest.mark.parametrize("where", ["argument", "connection", "config"])
def test_the_status_may_be_named(sandbox, connect, store, monkeypatch, where):
    """In any case, wherever options are set."""
    extra = '{"resolved_status": "post-incident"}' if where == "connection" else "{}"
    connect(sandbox.url, extra=extra)
    if where == "config":
        monkeypatch.setenv("AIRFLOW__INCIDENT_IO__RESOLVED_STATUS", "post-incident")
    failed()
    succeeded(**({"resolved_status": "POST-incident"} if where == "argument" else {}))
    assert statuses(sandbox) == ["Post-incident"]


def test_an_unknown_status_is_one_line_with_the_known_names(connected, store):
    """The record is kept for when the name is mended."""
    failed()
    heard = succeeded(resolved_status="Finished")
    assert "'Finished' is not a status of this account; known: Triage, Investigating," in heard.error
    assert len(store.records()) == 1


@pytest.mark.parametrize(
    ("roles", "role"),
    [
        (("viewer", "incident_creator"), "'incident editor'"),
        (("incident_creator", "incident_editor"), "'viewer'"),
        (("viewer", "incident_creator", "incident_editor"), "'post-incident flow opt-out'"),
    ],
)
def test_a_key_without_a_role_is_one_line_that_names_it(connect, store, roles, role):
    """And the record is kept."""
    with Sandbox(roles=roles, post_incident_flow=True) as box:
        connect(box.url)
        failed()
        box.store.move("INC-1", "live", "Fixing")
        heard = succeeded(resolve="always")
        assert f"Give the API key the role {role}." in heard.error
        assert statuses(box) == ["Fixing"]
        assert len(store.records()) == 1


@EVERY_DOOR
def test_an_outage_is_one_warning_and_a_flush_closes_it(sandbox, connect, store, call):
    """What is still to be done is written down."""
    connect(sandbox.url)
    failed()
    with FaultProxy(sandbox.direct_port, "error-503") as wire:
        connect(wire.url)
        heard = succeeded(call=call)
    (text,) = heard.texts()
    assert "stays open for now" in text
    assert statuses(sandbox) == ["Triage"]
    connect(sandbox.url)
    assert len(delivery.flush().recovered) == 1
    assert statuses(sandbox) == ["Closed"]
    assert store.records() == []


def test_a_failure_that_never_left_is_dropped_and_counted(sandbox, connect, store, counted):
    """The run recovered before incident.io was asked."""
    with FaultProxy(sandbox.direct_port, "refuse") as wire:
        connect(wire.url)
        failed()
    (record,) = store.records()
    assert (record.state, record.maybe_delivered) == ("pending", False)
    assert "it recovered before incident.io was asked" in succeeded().texts(logging.INFO)[0]
    assert store.records() == []
    assert counted == {"incident_io.journalled": 1, "incident_io.withdrawn": 1}
    assert sandbox.requests == []


def test_a_failure_that_may_have_left_is_closed(sandbox, connect, store):
    """The answer was lost; the same request tells which incident it is."""
    with FaultProxy(sandbox.direct_port, "drop-after-accept") as wire:
        connect(wire.url)
        failed()
    (record,) = store.records()
    assert (record.state, record.maybe_delivered) == ("pending", True)
    connect(sandbox.url)
    PROCESS.reset()
    succeeded()
    assert statuses(sandbox) == ["Closed"]
    assert store.records() == []


def test_an_operator_s_incident_of_the_same_attempt_stays(connected, store):
    """A leaf that opens an incident in a run that goes green meant it."""
    from airflow_incident import CreateIncidentOperator

    failed("run-1")
    context = task_context(clear=1)
    context["ti"].xcom_push = lambda **_: None
    CreateIncidentOperator(task_id="tell", name="Late, but there").execute(context)
    succeeded("run-1")
    assert statuses(connected) == ["Closed", "Triage"]


def test_an_old_backfill_s_success_does_not_close_today_s_failure(connected, store):
    """Backfill runs count as one DAG; only one that is not earlier closes what the DAG has open."""
    failed("today", run_type="backfill", logical_date=DAY)
    succeeded("old", clear=0, run_type="backfill", logical_date=DAY - timedelta(days=300))
    assert statuses(connected) == ["Triage"]
    succeeded("later", clear=0, run_type="backfill", logical_date=DAY + timedelta(days=1))
    assert statuses(connected) == ["Closed"]


def test_an_alert_is_resolved(sandbox, connect, store):
    """The same deduplication key, once."""
    source = {"alert_source_id": sandbox.options.alert_source_id}
    connect(sandbox.url, extra=json.dumps(source | {"alert_source_token": sandbox.options.alert_source_token}))
    failed(channel="alert")
    (alert,) = sandbox.alerts
    assert alert["status"] == "firing"
    succeeded(channel="alert")
    assert [alert["status"] for alert in sandbox.alerts] == ["resolved"]
    before = len(sandbox.requests)
    succeeded(channel="alert")
    assert paths(sandbox, before) == []


# What never harms Airflow


@EVERY_DOOR
@pytest.mark.parametrize(
    "context",
    [None, {}, 5, "x", {"dag": object()}, {"dag_run": object(), "run_id": 7}, {"dag_run": {"clear_number": "2"}}],
    ids=["none", "empty", "number", "word", "dag", "run", "run as dict"],
)
def test_an_odd_context_never_raises(connected, store, call, context):
    """At any scope: nothing, or one line."""
    for scope in ("run", "task", "dag"):
        with listen() as heard:
            call(resolve_incident(scope=scope), context)
        assert len(heard.texts()) <= 1
    assert connected.requests == []


@EVERY_DOOR
@pytest.mark.parametrize("name", ["scope", "deployment", "resolve", "resolved_status", "channel"])
@pytest.mark.parametrize("value", [5, ["x"], object(), b"x", "\ud800", "x" * 100_000], ids=lambda v: repr(v)[:12])
def test_an_argument_of_any_type_never_raises(connected, store, call, name, value):
    """Whatever is bound to it; a wrong one is one line, and closes what it can close without it."""
    failed()
    context = dag_context(reason="success", dag_run=run(clear=1))
    with listen() as heard:
        if call is call_sync:
            partial(resolve_incident, **{name: value})(context)
        else:
            call(RecoveryNotifier(context=context, **{name: value}), context)
    assert len(heard.texts()) <= 1


@EVERY_DOOR
@pytest.mark.parametrize("error", [OSError("read-only"), SystemExit(3), NotImplementedError()], ids=repr)
@pytest.mark.parametrize("what", ["get", "set", "delete"])
def test_a_store_that_fails_is_at_most_one_warning(connected, store, call, what, error):
    """A store that cannot be read closes nothing; one that cannot be written hides nothing."""
    failed()

    def fail():
        raise error

    store.failing[what] = fail
    heard = succeeded(call=call)
    expected = 0 if what == "set" else 1
    assert len([text for text in heard.texts() if "the journal cannot be used" in text]) == expected
    assert statuses(connected) == (["Triage"] if what == "get" else ["Closed"])


@EVERY_DOOR
def test_a_missing_connection_is_one_warning(store, call):
    """It is named, and what to do."""
    heard = succeeded(call=call, conn_id="nowhere")
    assert "airflow connections add nowhere" in heard.sole(logging.WARNING)


@EVERY_DOOR
def test_turned_off_is_one_info_line(connected, store, monkeypatch, call):
    """On a laptop; and without the journal nobody knows what was opened."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ENABLED", "False")
    assert "nothing is closed" in succeeded(call=call).sole(logging.INFO)
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ENABLED", "True")
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "False")
    assert "journal is false" in succeeded(call=call).sole(logging.INFO)
    assert connected.requests == []


def test_another_connection_s_record_is_left_alone(connected, connect, store):
    """A record chooses neither the key nor the host."""
    connect(connected.url, conn_id="other")
    failed(conn_id="other")
    before = len(connected.requests)
    assert "is left to connection 'other'" in succeeded().texts(logging.INFO)[0]
    assert paths(connected, before) == []


# The operator


def operate(clear=1, **options):
    context = task_context(clear=clear)
    del context["exception"]
    return ResolveIncidentOperator(task_id="close", **options).execute(context)


def test_the_operator_closes_what_earlier_attempts_opened(connected, store):
    """And returns it."""
    failed()
    (closed,) = operate(note="All rows are there")
    assert closed["reference"] == "INC-1"
    assert statuses(connected) == ["Closed"]
    assert links(connected)[0]["title"] == "All rows are there"
    assert operate() == []


def test_the_operator_closes_a_deliberate_incident_by_its_key(connected, store):
    """`key` is the one of CreateIncidentOperator."""
    from airflow_incident import CreateIncidentOperator

    context = task_context()
    context["ti"].xcom_push = lambda **_: None
    CreateIncidentOperator(task_id="tell", key="bad rows").execute(context)
    assert operate() == []
    assert len(operate(key="bad rows")) == 1


def test_the_operator_closes_one_incident_by_id_without_the_journal(connected, monkeypatch):
    """Whoever opened it, in whichever attempt; hands off what a person has claimed, unless told."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "False")
    one = IncidentHook().create_incident(idempotency_key="by-hand").id
    connected.store.edit(one, {"incident_role_assignments": [LEAD]})
    assert operate(clear=0, incident_id=one) == []
    assert statuses(connected) == ["Triage"]
    assert len(operate(clear=0, incident_id=one, resolve="always")) == 1
    assert statuses(connected) == ["Closed"]
    check_all(connected)


@pytest.mark.parametrize("options", [{"incident_id": "01H0000000000000000000000"}, {"resolved_status": "Finished"}])
def test_what_a_retry_cannot_help_fails_the_task_for_good(connected, store, options):
    """An incident that is not there, a status that is not there."""
    from airflow_incident.airflow_bridge.compat import AirflowFailException

    failed()
    with pytest.raises(AirflowFailException, match=r"answered 404|known: Triage"):
        operate(**options)


def test_what_a_retry_may_help_is_raised(sandbox, connect, store):
    """Airflow tries again."""
    connect(sandbox.url)
    failed()
    with FaultProxy(sandbox.direct_port, "error-503", times=5) as wire:
        connect(wire.url)
        with pytest.raises(Exception, match="answered 503") as caught:
            operate()
        assert caught.value.retryable
        assert len(operate()) == 1


def test_the_operator_needs_the_journal_or_an_id(connected, monkeypatch):
    """Else nobody knows what was opened."""
    from airflow_incident.airflow_bridge.compat import AirflowFailException

    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "False")
    with pytest.raises(AirflowFailException, match="give incident_id"):
        operate()


def test_the_operator_does_nothing_where_incidents_are_turned_off(connected, store, monkeypatch):
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ENABLED", "False")
    assert operate(incident_id="01H") == []
    assert connected.requests == []


# The hook


def by_thread(hook, *args, **options):
    return hook.resolve_incident(*args, **options)


def by_coroutine(hook, *args, **options):
    return asyncio.run(hook.aresolve_incident(*args, **options))


@pytest.mark.parametrize("resolve", [by_thread, by_coroutine])
def test_the_hook_closes_an_incident(connected, resolve):
    """What it returns says what became of it."""
    hook = IncidentHook()
    one = hook.create_incident(idempotency_key="one").id
    assert resolve(hook, one, note="Done", url=UI).kind == "closed"
    assert resolve(hook, one).kind == "already_closed"
    assert [link["title"] for link in links(connected)] == ["Done"]
    two = hook.create_incident(idempotency_key="two").id
    connected.store.edit(two, {"incident_role_assignments": [LEAD]})
    assert resolve(hook, two).kind == "claimed"
    assert resolve(hook, two, always=True, status="post-incident").kind == "closed"
    assert statuses(connected) == ["Closed", "Post-incident"]
    with pytest.raises(NotFoundError):
        resolve(hook, "01H0000000000000000000000")
    three = hook.create_incident(idempotency_key="three").id
    with pytest.raises(ConfigurationError, match="known: Triage"):
        resolve(hook, three, status="Finished")
    check_all(connected)


@pytest.mark.parametrize("resolve", [by_thread, by_coroutine])
def test_the_hook_names_the_role_that_is_missing(connect, resolve):
    with Sandbox(roles=("viewer", "incident_creator")) as box:
        connect(box.url)
        hook = IncidentHook()
        one = hook.create_incident(idempotency_key="one").id
        with pytest.raises(PermissionDeniedError) as caught:
            resolve(hook, one)
        assert caught.value.advice == "Give the API key the role 'incident editor'."

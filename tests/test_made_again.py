"""A run that was deleted and made again, with the id that it had: its failure is a new one, through every door."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_incident import CreateIncidentOperator, open_incident, resolve_incident
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.delivery import run
from airflow_incident.sandbox.fault import FaultProxy
from airflow_incident.sandbox.options import REPEATS
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_all
from tests.doors import call_async, call_sync, forget_process, listen, use_store
from tests.memory_store import Texts

EVERY_DOOR = pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
LONG_AGO = datetime(2026, 1, 5, 9, 30, 0, 123456, tzinfo=UTC)
KEY = "airflow/tests/dag/orders/run/run-1"


@pytest.fixture(autouse=True)
def _process(monkeypatch, brisk, alone):
    """Turn the journal on, in a process that has met no outage and spent no time."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    forget_process()
    yield
    forget_process()


@pytest.fixture
def store(monkeypatch):
    return use_store(monkeypatch, Texts())


@pytest.fixture(params=REPEATS)
def any_box(request, connect):
    """Each way of incident.io to answer a repeated key."""
    with Sandbox(repeat=request.param) as box:
        connect(box.url)
        yield box


def at_dag(start, **facts):
    run = SimpleNamespace(dag_id="orders", run_id="run-1", clear_number=0, run_type="manual", start_date=start)
    vars(run).update(facts)
    return {"dag": SimpleNamespace(dag_id="orders"), "run_id": "run-1", "reason": "task_failure", "dag_run": run}


def at_task(start, **facts):
    ti = SimpleNamespace(dag_id="orders", run_id="run-1", task_id="load", map_index=-1, try_number=1, max_tries=0)
    context = at_dag(start, **facts)
    del context["reason"]
    return context | {"ti": ti, "exception": ValueError("boom")}


def poorest(start=None):
    return {"dag": SimpleNamespace(dag_id="orders"), "run_id": "run-1", "reason": "task_failure"}


def of_deadline(start):
    """Build what the triggerer is told, where a run is what JSON can say."""
    run = {"dag_id": "orders", "dag_run_id": "run-1", "clear_number": 0, "start_date": start.isoformat()}
    return {"dag_run": run, "deadline": {"deadline_time": "2026-01-01T00:00:00Z"}}


def now():
    return datetime.now(UTC)


def fail(context, call=call_sync, **options):
    with listen() as heard:
        call(open_incident(**options), context)
    return heard


def close(box):
    box.close(box.incidents[-1]["id"])


def categories(box):
    return [incident["incident_status"]["category"] for incident in box.incidents_v2]


def keys(box):
    return [row.request["idempotency_key"] for row in box.store.all()]


def later(start):
    return f"{KEY}/started/{start:%Y-%m-%dT%H%%3A%M%%3A%S.%fZ}"


@EVERY_DOOR
@pytest.mark.parametrize("build", [at_dag, at_task, of_deadline])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_what_a_person_had_closed_does_not_stand_for_the_run_that_was_made_again(
    sandbox, connect, store, call, build, version
):
    """Within the hour in which the first record answers: a new incident, under a key that names the start."""
    connect(sandbox.url, extra=json.dumps({"api_version": version}))
    fail(build(LONG_AGO), call)
    close(sandbox)
    start = now()
    heard = fail(build(start), call)
    assert keys(sandbox) == [KEY, later(start)]
    assert categories(sandbox) == ["closed", "triage"]
    assert "INC-2 " in heard.texts(20)[-1]
    assert "is open for DAG orders, run run-1" in heard.texts(20)[-1]
    check_all(sandbox)


@EVERY_DOOR
def test_without_a_record_the_answer_tells(connected, store, call):
    """Our own recovery closed it, and forgot the record; incident.io answers the used key with the old incident."""
    fail(at_dag(LONG_AGO), call)
    resolve_incident()(at_dag(LONG_AGO, clear_number=1) | {"reason": "success"})
    assert (categories(connected), store.records()) == (["closed"], [])
    start = now()
    fail(at_dag(start), call)
    assert keys(connected) == [KEY, later(start)]
    assert [record.sent_key for record in store.records()] == [later(start)]
    check_all(connected)


@EVERY_DOOR
def test_without_a_journal_the_answer_tells(connected, monkeypatch, call):
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "False")
    fail(at_dag(LONG_AGO), call)
    close(connected)
    fail(at_dag(now()), call)
    assert categories(connected) == ["closed", "triage"]


def test_however_incident_io_answers_a_used_key(any_box, store):
    """By the record: it knows which incident the first run had."""
    fail(at_dag(LONG_AGO))
    close(any_box)
    start = now()
    for context in (at_task(start), at_dag(start), poorest()):
        fail(context)
    assert keys(any_box) == [KEY, later(start)]


@pytest.mark.parametrize("first", [at_task, at_dag, poorest])
@pytest.mark.parametrize("second", [at_task, at_dag, poorest])
@pytest.mark.parametrize("hours", [0, 2])
@pytest.mark.parametrize("forgotten", [False, True])
def test_both_callbacks_of_a_run_have_one_incident(connected, store, monkeypatch, first, second, hours, forgotten):
    """Also if one of them does not know when the run began, and whichever comes first; also an hour later."""
    fail(at_dag(LONG_AGO))
    close(connected)
    if forgotten:
        store.texts.clear()
    start = now()
    fail(first(start))
    monkeypatch.setattr(run, "utc_now", lambda: now() + timedelta(hours=hours))
    fail(second(start))
    known = not (first is second is poorest)
    assert keys(connected) == [KEY, later(start)][: 1 + known]
    assert categories(connected) == ["closed", "triage"][: 1 + known]


@EVERY_DOOR
def test_an_incident_that_was_closed_during_the_run_stays_closed(connected, store, monkeypatch, call):
    """By a person who has seen the task's failure; the DAG's callback comes hours later, and opens nothing."""
    start = now() - timedelta(hours=1)
    fail(at_task(start), call)
    close(connected)
    monkeypatch.setattr(run, "utc_now", lambda: now() + timedelta(hours=2))
    heard = fail(at_dag(start), call)
    assert "was closed by a person; nothing more is sent" in heard.texts()[0]
    store.texts.clear()
    fail(at_dag(start), call)
    assert keys(connected) == [KEY]


def test_as_long_as_the_first_run_s_incident_is_open_it_stands_for_both(connected, store):
    """Whoever made the run again will find it there."""
    fail(at_dag(LONG_AGO))
    for start in (now(), now()):
        fail(at_task(start))
        fail(at_dag(start))
    assert keys(connected) == [KEY]
    close(connected)
    fail(at_dag(now()))
    assert categories(connected) == ["closed", "triage"]


def test_a_third_time_is_a_third_incident(connected, store):
    """With and without the record of the second."""
    fail(at_dag(LONG_AGO))
    for _ in range(3):
        close(connected)
        fail(at_dag(now()))
        fail(poorest())
    store.texts.clear()
    close(connected)
    fail(at_dag(now()))
    assert categories(connected) == ["closed"] * 4 + ["triage"]


def test_what_was_changed_since_it_was_closed_is_told_by_its_own_dates(connect, store):
    """Somebody wrote a summary into the closed incident while the second run was at work."""
    clock = [time.time()]
    with Sandbox(clock=lambda: clock[0]) as box:
        connect(box.url)
        fail(at_dag(LONG_AGO))
        close(box)
        start = now()
        clock[0] += 60
        box.store.edit(box.incidents[0]["id"], {"summary": "It was the moon."})
        store.texts.clear()
        fail(at_dag(start))
        assert keys(box) == [KEY, later(start)]
        assert [seen.method for seen in box.requests] == ["POST"] * 3


@pytest.mark.parametrize("category", ["declined", "canceled", "merged", "learning"])
@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_whatever_became_of_the_first_incident(connect, store, category, forgotten, version):
    """Declined, canceled, merged, or in its post-incident flow: its updates tell since when."""
    clock = [time.time()]
    with Sandbox(clock=lambda: clock[0]) as box:
        connect(box.url, extra=json.dumps({"api_version": version}))
        fail(at_dag(LONG_AGO))
        box.store.move("INC-1", category)
        start = now()
        clock[0] += 60
        box.store.edit(box.incidents[0]["id"], {"summary": "Lessons."})
        if forgotten:
            store.texts.clear()
        fail(at_dag(start))
        assert keys(box) == [KEY, later(start)]
        asked = [seen.path for seen in box.requests if seen.method == "GET"]
        assert asked[-1] == "/v2/incident_updates"
        assert len(asked) == (1 if forgotten else 2)
        check_all(box)


def test_what_is_gone_at_incident_io_stands_for_nothing(connected, store):
    fail(at_dag(LONG_AGO))
    connected.store.clear()
    start = now()
    fail(at_dag(start))
    assert keys(connected) == [later(start)]


def test_an_incident_that_was_asked_to_open_closed_opens_once(connected, store):
    """Its being over says nothing."""
    start = now() + timedelta(minutes=1)  # a scheduler whose clock goes wrong
    for _ in range(2):
        fail(at_dag(start), status="closed")
        store.texts.clear()
    assert keys(connected) == [KEY]


def test_a_key_that_may_not_look_opens_nothing_twice(connect, store):
    """Whether it was over before cannot be told: as a person's word it stays."""
    clock = [time.time()]
    with Sandbox(roles=("incident_creator",), clock=lambda: clock[0]) as box:
        connect(box.url)
        fail(at_dag(LONG_AGO))
        box.store.move("INC-1", "declined")
        start = now()
        clock[0] += 60
        box.store.edit(box.incidents[0]["id"], {"summary": "Changed"})
        store.texts.clear()
        heard = fail(at_dag(start))
        assert "was closed by a person" in heard.texts()[0]
        assert keys(box) == [KEY]


@EVERY_DOOR
def test_in_an_outage_it_is_kept_and_a_flush_finds_out(sandbox, connect, store, call):
    """What the record holds is enough."""
    connect(sandbox.url)
    fail(at_dag(LONG_AGO))
    close(sandbox)
    start = now()
    with FaultProxy(sandbox.direct_port, "error-503") as wire:
        connect(wire.url)
        fail(at_dag(start), call)
    connect(sandbox.url)
    assert [record.incident.reference for record in run.flush().opened] == ["INC-2"]
    assert keys(sandbox) == [KEY, later(start)]
    PROCESS.reset()
    fail(poorest())
    assert keys(sandbox) == [KEY, later(start)]


@pytest.mark.parametrize("after", ["success of the same attempt", "clear"])
def test_its_recovery_closes_the_second_incident(connected, store, after):
    """The record leads to it."""
    fail(at_dag(LONG_AGO))
    close(connected)
    start = now()
    fail(at_task(start))
    assert categories(connected) == ["closed", "triage"]
    clear = 1 if after == "clear" else 0
    resolve_incident()(at_dag(start, clear_number=clear) | {"reason": "success"})
    assert categories(connected) == ["closed", "closed"]
    assert store.records() == []


@pytest.mark.parametrize("scope", ["task", "task_instance"])
def test_at_the_scopes_of_tasks_it_is_the_same(connected, store, scope):
    fail(at_task(LONG_AGO), scope=scope)
    close(connected)
    start = now()
    fail(at_task(start), scope=scope)
    assert keys(connected)[1].startswith(f"{KEY}/task/load/started/")


def test_a_deliberate_step_is_made_again_as_well(connected, store):
    """With the key that it gives its incident."""
    for known in (LONG_AGO, None):
        context = at_task(known or now())
        context["ti"].xcom_push = lambda **_: None
        CreateIncidentOperator(task_id="tell", key="bad rows").execute(context)
        close(connected)
    assert keys(connected)[1].startswith(f"{KEY}/key/bad%20rows/started/")


def test_a_clock_that_goes_wrong_doubles_nothing(connected, store):
    """The scheduler's is an hour ahead: by its time the run begins after its incident was closed."""
    start = now() + timedelta(hours=1)
    fail(at_task(start))
    close(connected)
    for context in (at_task(start), at_dag(start), poorest()):
        fail(context)
    assert keys(connected) == [KEY]


def test_a_callback_that_comes_late_from_the_deleted_run_joins_the_second(connected, store):
    """A worker that was cut off tells of its task when the run is made again already."""
    fail(at_dag(LONG_AGO))
    close(connected)
    start = now()
    fail(at_dag(start))
    fail(at_task(LONG_AGO))
    assert keys(connected) == [KEY, later(start)]


@pytest.mark.parametrize("clear", [None, "0", 0.0], ids=repr)
def test_an_unreadable_count_of_clears_is_none(connected, store, clear):
    fail(at_dag(LONG_AGO, clear_number=clear))
    close(connected)
    start = now()
    fail(at_dag(start, clear_number=clear))
    assert keys(connected) == [KEY, later(start)]


def test_backfill_runs_that_are_made_again(connected, store):
    """At scope dag the DAG's incident decides: it is over, so there is a next one."""
    for start in (LONG_AGO, None):
        fail(at_dag(start or now(), run_type="backfill"))
        close(connected)
    assert categories(connected) == ["closed", "closed"]


def test_a_cleared_run_needs_no_other_key(connected, store):
    """The count of clears tells it apart; its start is new, too."""
    fail(at_dag(LONG_AGO))
    close(connected)
    fail(at_dag(now(), clear_number=1))
    assert keys(connected) == [KEY, f"{KEY}/clear/1"]


def test_runs_in_threads_agree(connected, store):
    """Ten mapped tasks of the second run at once."""
    fail(at_dag(LONG_AGO))
    close(connected)
    start = now()

    async def everyone():
        await asyncio.gather(*(asyncio.to_thread(open_incident(), at_task(start)) for _ in range(10)))

    asyncio.run(everyone())
    assert sorted(set(keys(connected))) == [KEY, later(start)]
    assert len(connected.incidents) == 2


@pytest.mark.parametrize("start", [None, 5, "yesterday", object()], ids=["none", "number", "word", "object"])
def test_an_unreadable_start_is_none(connected, store, start):
    """As ever, then: the record answers."""
    fail(at_dag(LONG_AGO))
    close(connected)
    fail(at_dag(start))
    assert keys(connected) == [KEY]

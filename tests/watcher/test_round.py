"""One round over a real database and a local incident.io: what differs is set right, and nothing else."""

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest

from airflow_incident import open_incident, resolve_incident
from airflow_incident.airflow_bridge import database as bridge
from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.cli import main as cli
from airflow_incident.cli.watch import WatcherCallbacks
from airflow_incident.core.timing import CALLBACKS_FIRST, DEEP_SECONDS
from airflow_incident.delivery import run as delivery
from airflow_incident.sandbox import catalogue
from airflow_incident.sandbox.options import ALERT_SOURCE_ID, ALERT_SOURCE_TOKEN
from airflow_incident.watcher.state import NAME, State, read_state
from tests.airflow_versions import AIRFLOW
from tests.doors import listen
from tests.journal_records import keep
from tests.watcher.installation import (
    Clock,
    break_file,
    dag_run,
    delete,
    fail,
    insert,
    mend_file,
    one_round,
    succeed,
    task_row,
    turn_on,
    update,
    watcher,
)

LEAD = {"incident_role_id": catalogue.ROLES[0]["id"], "assignee": {"email": "bob@example.com"}}
BUNDLE = "dags-folder" if AIRFLOW >= (3, 0) else ""


def keys(box):
    return sorted(row.request["idempotency_key"].removeprefix("airflow/tests/") for row in box.store.all())


def statuses(box):
    """Tell the status of each incident, the oldest first."""
    return [incident["incident_status"]["name"] for incident in box.incidents_v2]


def told(run_id="r1", dag_id="orders", **options):
    """Let the callback of a failed run come through, as Airflow calls it."""
    with bridge.database() as read:
        (run,) = read.runs_of([(dag_id, run_id)])
    open_incident(**options)(bridge.run_context(run))


def set_option(monkeypatch, **options):
    for name, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__INCIDENT_IO__{name.upper()}", str(value))


def other_connection(connect, box, **fields):
    connect(box.url, conn_id="other", **fields)


# Failed runs


def test_a_lost_callback_is_made_good_once(watched):
    """The key is the callback's, and the title and the text tell which task failed and what does not run for it."""
    fail()
    assert one_round().opened == 1
    (incident,) = watched.incidents
    assert keys(watched) == ["dag/orders/run/r1"]
    assert incident["name"] == "DAG orders failed: load"
    assert "1 task does not run: `report`" in incident["summary"]
    assert "`finance`" in incident["summary"]
    told()
    assert one_round().differences == 0
    assert len(watched.incidents) == 1


def test_a_run_of_which_no_task_failed_says_so(watched):
    """Somebody marked it as failed, or it ran too long: nobody is to look for a failed task."""
    insert("DagRun", dag_run("marked"))
    assert one_round().opened == 1
    (incident,) = watched.incidents
    assert (
        "**Error:** no task of it failed: it exceeded its time limit, or somebody marked it as failed"
        in incident["summary"]
    )
    assert "clear the run in " in incident["summary"]
    assert "task's log" not in incident["summary"]


def test_what_a_callback_has_told_is_left_alone(watched):
    """Also what waits, was refused, is a storm's, was told by a task, or as an alert."""
    fail("told")
    told("told")
    for number, state in enumerate(("pending", "dead", "grouped", "open")):
        fail(f"kept-{number}")
        keep(f"kept-{number}", state=state, due_at=datetime.now(UTC) + timedelta(minutes=5))
    assert one_round().opened == 0
    assert len(watched.incidents) == 1


@pytest.mark.parametrize(
    ("seconds", "opened"), [(CALLBACKS_FIRST.seconds - 5, 0), (CALLBACKS_FIRST.seconds, 1), (86_300, 1), (86_500, 0)]
)
def test_only_what_failed_two_minutes_to_a_day_ago_is_opened(watched, seconds, opened):
    turn_on(timedelta(days=3))
    fail(ago=timedelta(seconds=seconds))
    assert one_round().opened == len(watched.incidents) == opened


def test_a_run_that_fails_while_it_watches_is_found_by_an_ordinary_round(watched):
    """Of a run that was seen running, and of one that began and failed between two rounds, after its grace."""
    clock = Clock()
    watching = watcher(clock)
    insert("DagRun", dag_run("seen", state="running"))
    watching.round()
    update("DagRun", {"run_id": "seen"}, state="failed", end_date=datetime.now(UTC))
    fail("quick", ago=timedelta())
    for _ in range(3):
        clock.passes(seconds=35)
        assert watching.round().opened == 0
    clock.passes(seconds=35)
    assert watching.round().opened == 2
    assert keys(watched) == ["dag/orders/run/quick", "dag/orders/run/seen"]
    clock.passes(seconds=35)
    assert watching.round().differences == 0


def test_a_run_that_was_marked_failed_by_hand_is_found_by_the_deep_look(watched):
    clock = Clock()
    watching = watcher(clock)
    insert("DagRun", dag_run("old", state="success"))
    clock.passes(minutes=4)
    watching.round()
    clock.passes(minutes=5)
    watching.round()
    update("DagRun", {"run_id": "old"}, state="failed", end_date=datetime.now(UTC))
    clock.passes(seconds=DEEP_SECONDS)
    assert watching.round().opened == 1


def test_turned_on_among_a_thousand_failed_runs_it_opens_none(watched):
    """None of them now, and none later; the next one that fails has its incident."""
    Variables().delete(NAME)
    insert("DagRun", *(dag_run(f"old-{number}", ago=timedelta(minutes=3 + number)) for number in range(1000)))
    clock = Clock()
    watching = watcher(clock)
    assert watching.round().opened == 0
    clock.passes(minutes=11)
    assert watching.round().opened == 0
    assert one_round(clock).opened == 0
    fail("new", ago=timedelta(seconds=-10))
    clock.passes(minutes=11)
    assert watching.round().opened == 1
    assert keys(watched) == ["dag/orders/run/new"]


def test_the_moment_it_was_turned_on_is_kept_before_anything_is_done(watched, monkeypatch):
    """A first round that breaks off must not leave out what fails before the next one."""
    Variables().delete(NAME)
    keep()
    monkeypatch.setattr("airflow_incident.delivery.run.flush", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one_round()
    assert read_state(Variables().get(NAME)).opens_since


def test_a_cleared_run_that_fails_again_is_a_new_failure(watched):
    """As for the callbacks it joins the incident that is open, and has one of its own after that was closed."""
    fail()
    one_round()
    update("DagRun", {"run_id": "r1"}, clear_number=1)
    assert one_round().opened == 1
    assert len(watched.incidents) == 1
    watched.store.close("INC-1")
    update("DagRun", {"run_id": "r1"}, clear_number=2)
    assert one_round().opened == 1
    assert keys(watched) == ["dag/orders/run/r1", "dag/orders/run/r1/clear/2"]
    assert one_round().differences == 0


def test_a_run_that_was_deleted_and_made_again_is_a_new_failure(watched):
    fail(ago=timedelta(minutes=30))
    one_round()
    watched.store.close("INC-1")
    delete("TaskInstance", run_id="r1")
    delete("DagRun", run_id="r1")
    fail(start_date=datetime.now(UTC) + timedelta(seconds=1))
    assert one_round().opened == 1
    assert len(keys(watched)) == 2
    assert keys(watched)[1].startswith("dag/orders/run/r1/started/")
    assert one_round().differences == 0


# What is to be left out


def test_tags_rules_and_options_say_what_is_opened_as_for_the_callbacks(watched, monkeypatch, connect, tmp_path):
    """Not what is excluded, tagged off, or turned off by a rule; by another connection, and as severe, as tags say."""
    other_connection(connect, watched)
    rules = tmp_path / "routes.yaml"
    rules.write_text(
        "- match: {run_type: scheduled}\n  set: {enabled: false}\n- match: {dag_id: orders}\n  set: {visibility: private}\n"
    )
    set_option(monkeypatch, auto_exclude="left_*", routes_file=rules)
    for dag in ("orders", "quiet", "loud", "elsewhere", "left_out"):
        fail(dag_id=dag)
    fail("ruled", run_type="scheduled")
    clock = Clock()
    watching = watcher(clock)
    watching.round()
    assert keys(watched) == [f"dag/{dag}/run/r1" for dag in ("elsewhere", "loud", "orders")]
    shown = {i["name"].split()[1]: i for i in watched.incidents_v2}
    assert shown["loud"]["severity"]["name"] == "Critical"
    assert [shown[dag]["visibility"] for dag in ("orders", "loud")] == ["private", "public"]
    assert {r.conn_id for r in delivery.list_records()[0] if r.dag_id == "elsewhere"} == {"other"}
    clock.passes(minutes=5)
    assert watching.round().opened == 0  # what may have none is not tried each round


def test_what_failed_in_silence_stays_silent(watched, monkeypatch, tmp_path):
    """A rule for two hours of maintenance is no list of incidents for when it ends, also for another watcher."""
    rules = tmp_path / "routes.yaml"
    rules.write_text("- match: {dag_id: orders}\n  set: {enabled: false}\n")
    set_option(monkeypatch, routes_file=rules)
    clock = Clock()
    fail("silent")
    fail("cleared")
    assert watcher(clock).round().differences == 0
    rules.write_text("[]\n")
    clock.passes(hours=2)
    assert watcher(clock).round().differences == 0
    update("DagRun", {"run_id": "cleared"}, clear_number=1, end_date=clock())
    clock.passes(minutes=3)
    assert watcher(clock).round().opened == 1
    assert keys(watched) == ["dag/orders/run/cleared/clear/1"]
    clock.passes(hours=23)
    watcher(clock).round()
    assert len(read_state(Variables().get(NAME)).left_out) == 0


def test_what_failed_while_nothing_was_enabled_stays_silent(watched, monkeypatch):
    """Turned off for half an hour of maintenance, and on again: no flood. A rule may enable a DAG all the same."""
    clock = Clock()
    set_option(monkeypatch, enabled=False)
    fail()
    assert one_round(clock).differences == 0
    clock.passes(minutes=30)
    monkeypatch.delenv("AIRFLOW__INCIDENT_IO__ENABLED")
    assert one_round(clock).differences == 0
    assert not watched.incidents


def test_a_rule_that_enables_a_dag_goes_before_what_is_turned_off(watched, monkeypatch, tmp_path):
    rules = tmp_path / "routes.yaml"
    rules.write_text("- match: {dag_id: orders}\n  set: {enabled: true}\n")
    set_option(monkeypatch, enabled=False, routes_file=rules)
    fail()
    assert one_round().opened == 1
    assert keys(watched) == ["dag/orders/run/r1"]


def test_auto_open_off_opens_nothing(watched, monkeypatch):
    set_option(monkeypatch, auto_open=False)
    fail()
    assert one_round().differences == 0
    assert not watched.incidents


def test_a_round_that_opens_nothing_leaves_alone_what_another_watcher_remembers(watched, monkeypatch):
    """Somebody runs `watch --once` in a shell without the service's settings, again and again."""
    clock = Clock()
    watching = watcher(clock)
    watching.round()
    fail(ago=timedelta())
    break_file("orders.py", BUNDLE)
    done = []
    for _ in range(4):
        done.append(watching.round())
        set_option(monkeypatch, auto_open=False, import_errors=False)
        one_round(clock)
        set_option(monkeypatch, auto_open=True, import_errors=True)
        clock.passes(minutes=2)
    assert (sum(each.opened for each in done), sum(each.broken for each in done)) == (1, 1)


@pytest.mark.parametrize(("hours", "opened"), [(0.5, 1), (2, 0)])
def test_what_failed_while_auto_open_was_turned_off_is_left_alone(watched, monkeypatch, hours, opened):
    """Turned off for less than an hour may as well be another watcher's round."""
    clock = Clock()
    watcher(clock).round()
    set_option(monkeypatch, auto_open=False)
    watcher(clock).round()
    fail(ago=timedelta())
    clock.passes(hours=hours)
    watcher(clock).round()
    set_option(monkeypatch, auto_open=True)
    assert watcher(clock).round().opened == opened


def test_no_journal_is_one_clear_error(watched, monkeypatch, capsys):
    monkeypatch.setattr("airflow_incident.cli.watch._log_to_output", lambda: None)
    set_option(monkeypatch, journal=False)
    assert cli.main(["watch", "--once"]) == 1
    error = capsys.readouterr().err
    assert "[incident_io] journal is false: nobody knows which failures have an incident. Remove it" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("gone", [False, True])
def test_a_dag_that_cannot_be_read_costs_its_text_only(watched, gone):
    """It does not keep the others from their incidents, and what its tags forbid or set still holds."""
    from airflow.models.serialized_dag import SerializedDagModel

    of = SerializedDagModel.__table__
    with bridge.database() as read:
        kept = read._session.execute(of.select().where(of.c.dag_id.in_(["loud", "quiet"]))).mappings().all()
        mine = of.c.dag_id.in_(["loud", "quiet"])
        read._session.execute(of.delete().where(mine) if gone else of.update().where(mine).values(data={}))
    try:
        for dag_id in ("loud", "quiet", "orders"):
            fail(dag_id=dag_id)
        one_round()
        assert keys(watched) == ["dag/loud/run/r1", "dag/orders/run/r1"]
        severities = [incident.get("severity", {}).get("name") for incident in watched.incidents_v2]
        assert "Critical" in severities
    finally:
        with bridge.database() as read:
            read._session.execute(of.delete().where(mine))
            read._session.execute(of.insert(), [dict(row) for row in kept])


# What is to be closed


def test_each_incident_is_what_the_rules_say_after_one_round(watched):
    """Marked success by hand, cleared and successful while nobody called, a handled failure, a run that was deleted."""
    for run in ("by-hand", "cleared", "handled", "deleted", "failed"):
        fail(run)
        told(run)
    succeed("by-hand")
    succeed("cleared", clear_number=1)
    update("DagRun", {"run_id": "handled"}, state="success")
    delete("TaskInstance", run_id="deleted")
    delete("DagRun", run_id="deleted")
    clock = Clock()
    clock.passes(minutes=3)
    done = one_round(clock)
    assert (done.recovered, done.gone) == (3, 1)
    assert statuses(watched) == [*["Closed"] * 4, "Triage"]
    links = [[link["resource"]["title"] for link in row.attachments] for row in watched.store.all()]
    assert links[:3] == [
        ["DAG orders succeeded all the same, run by-hand"],
        ["DAG orders recovered in Airflow, run cleared"],
        ["DAG orders succeeded all the same, run handled"],
    ]
    assert one_round(clock).differences == 0


@pytest.mark.parametrize("scope", ["run", "dag"])
def test_an_incident_is_closed_under_the_deployment_that_it_was_opened_with(watched, scope):
    """A DAG file names another one, or airflow.cfg did."""
    fail()
    told(deployment="team a/ü", scope=scope)
    succeed()
    assert one_round().recovered == 1
    assert statuses(watched) == ["Closed"]


def test_what_a_person_has_claimed_stays_open_and_is_left(watched, monkeypatch):
    fail()
    told()
    incident = watched.incidents_v2[0]["id"]
    watched.store.edit(incident, {"incident_role_assignments": [LEAD]})
    succeed()
    assert one_round().recovered == 1
    assert statuses(watched) == ["Triage"]
    asked = len(watched.requests)
    assert one_round().differences == 0
    assert len(watched.requests) == asked
    set_option(monkeypatch, resolve="always")
    assert one_round().recovered == 1
    assert statuses(watched) == ["Closed"]


@pytest.mark.parametrize("resolve", ["if_unclaimed", "always"])
def test_a_deleted_run_is_closed_as_a_recovered_one_is(watched, monkeypatch, resolve):
    """In the status that is configured, and what a person has claimed only where that is asked for."""
    status = next(each["name"] for each in catalogue.STATUSES if each["category"] == "learning")
    set_option(monkeypatch, resolve=resolve, resolved_status=status)
    for run in ("free", "claimed"):
        fail(run)
        told(run)
    watched.store.edit(watched.incidents_v2[1]["id"], {"incident_role_assignments": [LEAD]})
    for table in ("TaskInstance", "DagRun"):
        delete(table)
    clock = Clock()
    clock.passes(minutes=3)
    with listen() as heard:
        assert one_round(clock).gone == 2
    assert statuses(watched) == [status, status if resolve == "always" else "Triage"]
    assert any("run free was deleted in Airflow" in text for text in heard.texts(logging.INFO))
    assert not any("link to the run" in text for text in heard.texts(logging.INFO))
    assert one_round(clock).differences == 0


@pytest.mark.parametrize("change", [{"scope": "bundle"}, {"conn_id": " "}])
def test_a_record_that_nobody_can_use_costs_nothing_else(watched, change):
    """Of a later version, or edited by hand: what waits is delivered, and what has failed is opened."""
    fail("odd")
    told("odd")
    (record,) = delivery.list_records()[0]
    Variables().set(record.name, record._replace(**change).text())
    succeed("odd")
    keep("waits")
    insert("DagRun", dag_run("waits", state="running"))
    fail("lost")
    one_round()
    assert keys(watched) == ["dag/orders/run/lost", "dag/orders/run/odd", "dag/orders/run/waits"]
    assert statuses(watched)[0] == "Triage"


def test_what_a_step_has_opened_on_purpose_stays_open(watched):
    fail()
    keep(state="open", level="operator", key="airflow/tests/dag/orders/run/r1/key/mine")
    keep("r2", state="open", level="operator")
    fail("r2")
    succeed()
    succeed("r2")
    assert one_round().differences == 0


def test_auto_resolve_off_closes_nothing(watched, monkeypatch):
    set_option(monkeypatch, auto_resolve=False)
    fail()
    told()
    succeed()
    assert one_round().differences == 0
    assert statuses(watched) == ["Triage"]


@pytest.mark.parametrize("scope", ["task", "task_instance"])
def test_a_tasks_incident_is_closed_when_the_task_is_successful(watched, scope):
    """Although its run goes on; at scope task only once all of its map indexes are."""
    run = dag_run("r1", state="running")
    insert("DagRun", run)
    for index in (0, 1):
        insert("TaskInstance", task_row(run, "load", "failed", map_index=index))
    with bridge.database() as read:
        (row,) = read.runs_of([("orders", "r1")])
    for index in (0, 1):
        context = bridge.run_context(row, task=f"load[{index}]")
        open_incident(scope=scope)(context | {"exception": ValueError("boom")})
    assert len(watched.incidents) == {"task": 1, "task_instance": 2}[scope]
    clock = Clock()
    clock.passes(minutes=1)
    assert one_round(clock).differences == 0
    update("TaskInstance", {"map_index": 0}, state="success")
    one_round(clock)
    assert statuses(watched) == {"task": ["Triage"], "task_instance": ["Closed", "Triage"]}[scope]
    update("TaskInstance", {"map_index": 1}, state="success")
    succeed()
    one_round(clock)
    assert set(statuses(watched)) == {"Closed"}
    assert one_round(clock).differences == 0


def test_a_tasks_incident_is_closed_although_its_instances_became_fewer(watched):
    """The task before it listed two shops, and after a clear only one: Airflow calls the other instance removed."""
    run = dag_run("r1", state="running")
    insert("DagRun", run)
    for index, state in enumerate(("success", "removed")):
        insert("TaskInstance", task_row(run, "load", state, map_index=index))
    keep(state="open", level="task", scope="task", task="load[1]", written_at=datetime.now(UTC) - timedelta(minutes=9))
    assert one_round().recovered == 1


@pytest.mark.parametrize("state", ["skipped", "removed"])
@pytest.mark.parametrize("scope", ["task", "task_instance"])
def test_a_tasks_incident_is_closed_once_its_run_is_successful_without_it(watched, scope, state):
    """Cleared, it was skipped, or Airflow has removed the instance."""
    run = dag_run("r1", state="running")
    insert("DagRun", run)
    insert("TaskInstance", task_row(run, "load", "failed", map_index=1))
    with bridge.database() as read:
        (row,) = read.runs_of([("orders", "r1")])
    context = bridge.run_context(row, task="load[1]")
    open_incident(scope=scope)(context | {"exception": ValueError("boom")})
    update("TaskInstance", {"map_index": 1}, state=state)
    update("DagRun", {"run_id": "r1"}, state="success", end_date=datetime.now(UTC) - timedelta(minutes=1))
    assert one_round().recovered == 1
    assert statuses(watched) == ["Closed"]
    assert one_round().differences == 0


def test_a_dags_incident_is_closed_by_a_later_success_only(watched):
    """At scope dag one incident stands for all runs, as long as one of them is there."""
    for number in (1, 2):
        fail(
            f"r{number}",
            logical_date=datetime(2026, 1, number, tzinfo=UTC),
            execution_date=datetime(2026, 1, number, tzinfo=UTC),
        )
        told(f"r{number}", scope="dag")
    assert len(watched.incidents) == 1
    clock = Clock()
    clock.passes(minutes=5)
    delete("TaskInstance", run_id="r2")
    delete("DagRun", run_id="r2")
    assert one_round(clock).differences == 0
    assert statuses(watched) == ["Triage"]
    later = datetime(2026, 1, 3, tzinfo=UTC)
    insert(
        "DagRun", dag_run("r3", state="success", ago=timedelta(minutes=-3), logical_date=later, execution_date=later)
    )
    one_round(clock)
    assert statuses(watched) == ["Closed"]
    clock.passes(minutes=30)
    assert one_round(clock).recovered == 0


@pytest.mark.parametrize(("run_type", "status"), [("scheduled", "Triage"), ("backfill", "Closed")])
def test_a_failed_backfills_incident_is_closed_by_backfills_only(watched, run_type, status):
    """Today's scheduled run does not bring the data of January."""
    fail("january", run_type="backfill")
    told("january")
    insert("DagRun", dag_run("older", state="success", run_type="backfill"))
    today = datetime.now(UTC)
    moments = dict.fromkeys(("logical_date", "execution_date"), today)
    insert("DagRun", dag_run("today", state="success", ago=timedelta(minutes=-1), run_type=run_type, **moments))
    clock = Clock()
    clock.passes(minutes=5)
    one_round(clock)
    assert statuses(watched) == [status]
    succeed("january")
    one_round(clock)
    assert statuses(watched) == ["Closed"]


@pytest.mark.skipif(AIRFLOW < (3, 0), reason="each run has a logical date")
def test_a_dags_incident_is_closed_also_where_runs_have_no_logical_date(watched):
    """Assets start them; what counts then is the moment after which a run may begin."""
    old = {"logical_date": None, "run_after": datetime(2026, 1, 1, tzinfo=UTC)}
    new = {"logical_date": None, "run_after": datetime(2026, 1, 2, tzinfo=UTC)}
    fail(**old)
    told(scope="dag")
    insert("DagRun", dag_run("later", state="success", ago=timedelta(minutes=-1), **new))
    clock = Clock()
    clock.passes(minutes=5)
    assert one_round(clock).recovered == 1
    assert statuses(watched) == ["Closed"]


def test_a_dags_incident_is_closed_when_all_of_its_runs_were_deleted(watched):
    fail("r1")
    told("r1", scope="dag")
    delete("TaskInstance", run_id="r1")
    delete("DagRun", run_id="r1")
    clock = Clock()
    clock.passes(minutes=5)
    assert one_round(clock).gone == 2
    assert statuses(watched) == ["Closed"]
    assert one_round(clock).differences == 0


def test_an_alert_is_resolved(watched, connect):
    source = {"alert_source_id": ALERT_SOURCE_ID, "alert_source_token": ALERT_SOURCE_TOKEN}
    connect(watched.url, extra=source)
    fail()
    told(channel="alert")
    assert one_round().opened == 0
    succeed()
    assert one_round().recovered == 1
    assert [alert["status"] for alert in watched.alerts] == ["resolved"]
    assert one_round().differences == 0


def test_a_handled_failure_that_a_callback_closes_first_is_not_closed_twice(watched):
    fail()
    told()
    succeed()
    with bridge.database() as read:
        (run,) = read.runs_of([("orders", "r1")])
    resolve_incident()(bridge.run_context(run))
    asked = len(watched.requests)
    assert one_round().differences == 0
    assert len(watched.requests) == asked


@pytest.mark.parametrize("text", ["nobody's", '{"opens_since": 3}'])
def test_a_memory_that_cannot_be_read_is_begun_anew_with_one_line(watched, text):
    """What failed before that is opened by nobody, so somebody must be told."""
    fail()
    Variables().set(NAME, text)
    watching = watcher()
    with listen() as heard:
        assert watching.round().opened == 0
        assert watching.round().differences == 0
    (line,) = heard.texts(logging.WARNING)
    assert "the Variable incident_io_watcher cannot be read" in line
    assert read_state(Variables().get(NAME)).opens_since


@pytest.mark.parametrize("now", [{"state": "failed", "clear_number": 1}, {"state": "running"}, {"clear_number": 1}])
def test_a_run_that_changes_while_a_round_acts_is_left_to_the_next_one(watched, monkeypatch, now):
    """Its incident is not closed for a success that is none any more."""
    for run in ("r1", "r2"):
        fail(run)
        told(run)
        succeed(run)
    close, at = WatcherCallbacks.recovered, {"dag_id": "orders", "run_id": "r2"}
    monkeypatch.setattr(WatcherCallbacks, "recovered", lambda *given: (close(*given), update("DagRun", at, **now)))
    assert one_round().recovered == 1
    assert statuses(watched) == ["Closed", "Triage"]


# DAG files


def seen_since(**ago):
    """Let watchers know of each broken file for some time."""
    with bridge.database() as read:
        broken = dict.fromkeys(read.broken_files(), datetime.now(UTC) - timedelta(**ago))
    Variables().set(NAME, State(opens_since=datetime.now(UTC), broken=broken).text())


def test_a_broken_file_is_opened_after_the_grace_and_once(watched):
    """With the end of its error and the bundle; not again within an hour of rounds, and closed when it is mended."""
    clock = Clock()
    watching = watcher(clock)
    break_file("orders.py", BUNDLE)
    for _ in range(5):
        assert watching.round().broken == 0
        clock.passes(minutes=1)
    assert watching.round().broken == 1
    (incident,) = watched.incidents
    assert "orders.py" in incident["name"]
    assert "ModuleNotFoundError: No module named 'pandas'" in incident["summary"]
    for _ in range(60):
        clock.passes(minutes=1)
        assert watching.round().differences == 0
    mend_file("orders.py")
    clock.passes(minutes=1)
    assert watching.round().mended == 1
    assert statuses(watched) == ["Closed"]
    break_file("orders.py", BUNDLE)
    for _ in range(7):
        clock.passes(minutes=1)
        watching.round()
    assert statuses(watched) == ["Closed", "Triage"]


def test_a_file_that_is_broken_for_two_minutes_has_no_incident(watched):
    clock = Clock()
    watching = watcher(clock)
    break_file("orders.py", BUNDLE)
    watching.round()
    clock.passes(minutes=2)
    watching.round()
    mend_file("orders.py")
    clock.passes(minutes=10)
    assert watching.round().differences == 0
    assert not watched.incidents


def test_a_mended_files_incident_is_left_to_who_has_claimed_it(watched):
    break_file("orders.py", BUNDLE)
    seen_since(minutes=6)
    one_round()
    watched.store.edit(watched.incidents_v2[0]["id"], {"incident_role_assignments": [LEAD]})
    mend_file("orders.py")
    assert one_round().mended == 1
    assert statuses(watched) == ["Triage"]
    assert one_round().differences == 0


def test_fifty_broken_files_at_once_are_a_storm_that_names_them(watched):
    """A package is missing: the limit holds, and every file is accounted for."""
    for number in range(50):
        break_file(f"dag_{number:02}.py", BUNDLE)
    seen_since(minutes=6)
    clock = Clock()
    watching = watcher(clock)
    assert watching.round().broken == 50
    watching.round()
    assert len(watched.incidents) == 21
    (storm,) = [i for i in watched.incidents if i["name"].startswith("Many Airflow DAGs")]
    own = {i["name"] for i in watched.incidents if i is not storm}
    for number in range(50):
        file = f"dag_{number:02}.py"
        assert any(file in name for name in own) or file in storm["summary"], file
    for number in range(50):
        mend_file(f"dag_{number:02}.py")
    watching.round()
    assert statuses(watched).count("Closed") == 20


def test_a_file_of_excluded_dags_alone_has_no_incident(watched, monkeypatch):
    set_option(monkeypatch, auto_exclude="orders,loud,elsewhere")
    with bridge.database() as read:
        dags = read._session
        from airflow.models import DagModel

        path = dags.execute(DagModel.__table__.select().where(DagModel.__table__.c.dag_id == "orders")).mappings().one()
    file = path["relative_fileloc"] if "relative_fileloc" in path else path["fileloc"]
    break_file(file, path.get("bundle_name", ""))
    seen_since(minutes=6)
    one_round()
    assert not watched.incidents
    set_option(monkeypatch, auto_exclude="loud,elsewhere")
    one_round()
    assert "`orders`" in watched.incidents[0]["summary"]


def test_a_file_that_is_gone_is_said_to_be(watched):
    break_file("orders.py", BUNDLE)
    seen_since(minutes=6)
    one_round()
    mend_file("orders.py")
    with listen() as heard:
        one_round()
    (text,) = heard.texts(logging.INFO)
    assert "is closed because DAG file " in text
    assert "can be imported again, or is gone (" in text


# Rounds


def test_a_round_that_has_no_time_left_leaves_what_waits_to_the_next_one(watched):
    """A thousand failures after an outage take minutes; what failed since is not to wait for them."""
    for number in range(3):
        keep(f"waits-{number}")
    flushed = delivery.flush(goes_on=iter([True, False, False]).__next__)
    assert (len(flushed.opened), len(flushed.pending), flushed.stopped) == (2, 1, None)
    assert len(delivery.flush().opened) == 1


def test_a_connection_has_its_turn_however_long_others_take(watched, connect):
    """One that hangs would use up the time of all, in each round anew."""
    connect(watched.url, conn_id="other")
    for number in range(3):
        keep(f"waits-{number}")
    keep("last", conn_id="other")
    flushed = delivery.flush(goes_on=lambda: False)
    assert sorted(record.conn_id for record in flushed.opened) == ["incident_io_default", "other"]


def test_what_a_round_has_no_time_for_is_the_next_ones(watched, monkeypatch):
    monkeypatch.setattr("airflow_incident.watcher.round.LONGEST_ROUND", 0.0)
    for number in range(3):
        keep(f"waits-{number}")
        insert("DagRun", dag_run(f"waits-{number}", state="running"))
    fail("gone")
    told("gone")
    delete("TaskInstance", run_id="gone")
    delete("DagRun", run_id="gone")
    fail("lost")
    clock = Clock()
    clock.passes(minutes=4)
    done = one_round(clock)
    assert done.differences == 0
    monkeypatch.setattr("airflow_incident.watcher.round.LONGEST_ROUND", 60.0)
    done = one_round(clock)
    assert (done.gone, done.opened, done.delivered) == (1, 1, 3)


def test_the_time_of_a_round_ends_what_it_closes_and_delivers(watched):
    """Each by itself may take minutes: a thousand deleted runs, a thousand failures after an outage."""
    for number in range(3):
        keep(f"waits-{number}")
        insert("DagRun", dag_run(f"waits-{number}", state="running"))
        keep(f"gone-{number}", state="open", written_at=datetime.now(UTC) - timedelta(minutes=9))
    watching = watcher()
    closed, real = [], delivery.close_records
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "_goes_on", iter([True] * 4 + [False] * 99).__next__)
        patch.setattr(delivery, "flush", lambda *, goes_on: pytest.fail("no time is left") if goes_on() else None)
        patch.setattr(delivery, "close_records", lambda *a, **k: closed.append(real(*a, **k)) or closed[0])
        done = watching.round()
    assert len(closed[0].settled) == done.gone == 1
    assert watching.round().gone == 2


def test_what_closes_a_deleted_run_is_in_airflow_cfg_though_its_connection_cannot_be_read(
    watched, monkeypatch, connect
):
    status = next(each["name"] for each in catalogue.STATUSES if each["category"] == "learning")
    set_option(monkeypatch, resolved_status=status)
    connect(watched.url, conn_id="team")
    fail()
    told(conn_id="team")
    monkeypatch.delenv("AIRFLOW_CONN_TEAM")
    for table in ("TaskInstance", "DagRun"):
        delete(table)
    clock = Clock()
    clock.passes(minutes=3)
    one_round(clock)
    connect(watched.url, conn_id="team")
    delivery.flush()
    assert statuses(watched) == [status]


def test_a_round_delivers_what_waits_and_says_so_in_one_line(watched):
    keep("waits")
    insert("DagRun", dag_run("waits"))
    with listen() as heard:
        assert one_round().delivered == 1
    assert any("INC-1" in text for text in heard.texts(logging.INFO))
    assert one_round().differences == 0


def test_a_full_journal_is_not_told_again_what_it_has_forgotten(watched, monkeypatch):
    """More failures in a day than the journal keeps: those it has dropped are not opened again, nor after it shrinks."""
    for name in ("airflow_incident.delivery.flush", "airflow_incident.watcher.decide"):
        monkeypatch.setattr(f"{name}.KEEP_RECORDS", 3)
    monkeypatch.setattr("airflow_incident.delivery.flush.SUPPRESS_FOR", timedelta())
    set_option(monkeypatch, storm_limit=0, storm_limit_per_dag=0)
    for number in range(6):
        fail(f"r{number}", ago=timedelta(minutes=30 - number))
    clock = Clock()
    watching = watcher(clock)
    watching.round()
    for _ in range(3):
        clock.passes(minutes=11)
        assert watching.round().opened == 0
    assert len(delivery.list_records()[0]) == 3
    for number in range(6):
        succeed(f"r{number}")
    watching.round()
    for number in range(3):
        update("DagRun", {"run_id": f"r{number}"}, state="failed", end_date=datetime.now(UTC) - timedelta(minutes=30))
    clock.passes(minutes=11)
    assert watching.round().opened == 0
    assert len(watched.incidents) == 6


def test_its_state_tells_that_it_lives(watched):
    """When the last round ended, how long it took, and how far apart they are."""
    one_round()
    state = read_state(Variables().get(NAME))
    assert abs(datetime.now(UTC) - state.last_round) < timedelta(minutes=1)
    assert state.seconds > 0
    assert json.loads(Variables().get(NAME))


def test_queries_do_not_grow_with_the_journal(watched):
    """Ten records of runs, tasks and DAGs, or a hundred: a round asks as often, at most ten times."""
    from airflow import settings
    from sqlalchemy import event

    def fill(first, last):
        for number in range(first, last):
            scope = ("run", "task", "dag")[number % 3]
            of_dag = (
                {"of_dag": f"airflow/tests/dag/d{number}", "key": f"airflow/tests/dag/d{number}"}
                if scope == "dag"
                else {}
            )
            insert("DagRun", dag_run(f"q{number}", f"d{number}"))
            insert("TaskInstance", task_row(dag_run(f"q{number}", f"d{number}"), "load", "failed"))
            keep(f"q{number}", f"d{number}", "open", scope=scope, task="load", **of_dag)

    asked = []
    count = lambda *_: asked.append(_[2])  # noqa: E731
    watching = watcher()
    numbers = []
    for first, last in ((0, 10), (10, 100)):
        fill(first, last)
        watching.round()
        event.listen(settings.engine, "before_cursor_execute", count)
        assert watching.round().differences == 0
        event.remove(settings.engine, "before_cursor_execute", count)
        numbers.append(len(asked))
        asked.clear()
    assert numbers[0] == numbers[1] <= 10


def test_the_context_of_a_deleted_run_is_none(watched):
    fail()
    with bridge.database() as read:
        (run,) = read.runs_of([("orders", "r1")])
    delete("TaskInstance", run_id="r1")
    delete("DagRun", run_id="r1")
    assert bridge.run_context(run) is None

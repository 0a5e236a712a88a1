"""What the watcher decides, case by case; the machines beside this file find the order that nobody has thought of."""

from datetime import UTC, datetime, timedelta

import pytest

from airflow_incident.airflow_bridge.database import File, Run
from airflow_incident.core.failure import Failure
from airflow_incident.core.key import idempotency_key
from airflow_incident.delivery.record import KEEP_RECORDS, Closing, Record
from airflow_incident.watcher import decide
from airflow_incident.watcher.decide import Duties

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DUTIES = Duties(opens=True, closes=True, import_after=timedelta(minutes=5), covers=bool)
FAILED = Run(1, "orders", "r1", "failed", 0, NOW - HOUR, NOW - HOUR / 2)
FILE = File("orders.py", "git")


def record(state="open", level="dag", **fields):
    key = fields.pop("key", "airflow/tests/dag/orders/run/r1")
    given = {"written_at": NOW - HOUR / 2, "started_at": FAILED.started_at, "scope": "run"} | fields
    return Record(state, key, "orders", "r1", "c", level, **given)


def opened(*records, run=FAILED):
    open_now, _ = decide.failed_runs([run], records, DUTIES, since=NOW - 2 * HOUR, now=NOW)
    return open_now


@pytest.mark.parametrize("state", ["pending", "open", "grouped", "dead"])
@pytest.mark.parametrize("level", ["dag", "task", "deadline", "operator"])
def test_any_record_of_the_run_is_the_failures_but_what_a_step_was_refused(state, level):
    assert bool(opened(record(state, level))) == ((state, level) == ("dead", "operator"))


def test_what_a_step_has_named_itself_says_nothing_of_the_runs_failure():
    assert opened(record(level="operator", key="airflow/tests/dag/orders/run/r1/key/mine"))


def test_a_key_that_was_cut_no_longer_tells_whether_a_step_has_named_it():
    """So it says nothing either: the failure's own record, if there is one, answers for it."""
    dag_id, run_id = "orders" * 20, "r1" * 20
    key = idempotency_key(Failure(dag_id, run_id), deployment="a" * 40, name="mine")
    assert "/key/" not in key
    run = FAILED._replace(dag_id=dag_id, run_id=run_id)
    step = record(level="operator", key=key)._replace(dag_id=dag_id, run_id=run_id)
    assert opened(step, run=run)
    success = {(dag_id, run_id): run._replace(state="success", clear_count=1)}
    assert decide.recovered([step], DUTIES, runs=success, tasks={}, latest={}, now=NOW) == ([], [])


@pytest.mark.parametrize(("state", "is_new"), [("open", True), ("grouped", True), ("pending", False), ("dead", False)])
def test_a_run_that_was_made_again_is_new_where_the_one_before_was_delivered(state, is_new):
    """What waits still has the same key, and says what it has to say."""
    assert bool(opened(record(state, started_at=NOW - 3 * HOUR))) == is_new


def test_another_attempts_record_is_none_of_this_one():
    assert opened(record(), run=FAILED._replace(clear_count=1))


def test_what_a_full_journal_has_dropped_is_not_looked_for():
    """Nobody knows whether it was told: looked for is what failed after the oldest that it has kept."""
    kept = [record(written_at=NOW - timedelta(seconds=n)) for n in range(KEEP_RECORDS)]
    assert decide.looks_since(NOW - HOUR, kept[1:]) == NOW - HOUR
    assert decide.looks_since(NOW - HOUR, kept) == kept[-1].written_at
    assert decide.looks_since(NOW, kept) == NOW


def of_file(since, **fields):
    return record(level="import", key=f"airflow/tests/import/git/orders.py/{since}", **fields)._replace(
        dag_id=str(FILE), run_id=decide.moment_text(since)
    )


def test_a_file_goes_on_with_the_moment_of_its_incident_whatever_another_watcher_has_noted():
    found = decide.files([FILE], {FILE: NOW - HOUR}, [of_file(NOW - 2 * HOUR)], DUTIES, NOW)
    assert found.first_seen[FILE] == NOW - 2 * HOUR
    assert (found.broken, found.mended) == ([], [])


def test_a_file_that_breaks_again_after_its_incident_was_left_to_a_person_has_another():
    found = decide.files([FILE], {FILE: NOW - HOUR}, [of_file(NOW - 2 * HOUR, recovered=True)], DUTIES, NOW)
    assert found.broken == [FILE]
    assert found.mended == []


@pytest.mark.parametrize(
    "left", [{"recovered": True}, {"closing": Closing("x")}, {"closing": Closing("x", error="422")}]
)
def test_what_is_settled_or_left_to_a_flush_is_not_closed_again(left):
    success = {("orders", "r1"): FAILED._replace(state="success")}
    left = record(**left)
    assert decide.recovered([left], DUTIES, runs=success, tasks={}, latest={}, now=NOW) == ([], [])
    assert decide.recovered([left], DUTIES, runs={}, tasks={}, latest={}, now=NOW) == ([], [])
    assert (
        decide.files(
            [], {}, [of_file(NOW - HOUR)._replace(recovered=left.recovered, closing=left.closing)], DUTIES, NOW
        ).mended
        == []
    )


def test_a_deployment_that_is_too_long_for_a_key_is_not_read_from_it():
    """What is left of its name would be another deployment's."""
    success = {("orders", "r1"): FAILED._replace(state="success")}
    for name, known in (("a" * 100, "a" * 100), ("a" * 300, None)):
        key = idempotency_key(Failure("orders", "r1" * 50), deployment=name)
        (found,), _ = decide.recovered([record(key=key)], DUTIES, runs=success, tasks={}, latest={}, now=NOW)
        assert found.deployment == known

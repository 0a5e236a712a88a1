"""Each example DAG, run as it is shipped: those that fail open exactly one incident."""

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from tests.airflow_dags import read_dags
from tests.airflow_versions import TELLS_EXCEPTION
from tests.journal_records import forget_all
from tools.stage import copy_dags

DAGS = Path(__file__).parent.parent / "dags"
NAMES = ["bad_csv", "both_levels", "deliberate_step", "hold_while_open", "incident_io_flush", "mapped_tasks"]


class Ran(NamedTuple):
    """What became of an example's run."""

    state: str
    failed: list[str]
    dag: Any
    run_id: str


@pytest.fixture
def run(airflow_db, connected, tmp_path, monkeypatch):
    """Run an example to its end, as `airflow dags test` would."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # Airflow runs only what lies in its DAGs folder.
    examples = airflow_db / "dags" / "examples"
    copy_dags(examples)

    def run(name):
        dag = read_dags(examples / f"{name}.py")[name]
        ran = dag.test()
        failed = sorted(task.task_id for task in ran.get_task_instances() if task.state == "failed")
        return Ran(ran.state, failed, dag, ran.run_id)

    yield run
    shutil.rmtree(examples)


def test_there_is_one_example_for_each_way():
    assert sorted(file.stem for file in DAGS.glob("*.py")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short_enough_to_be_read_in_the_readme(name):
    assert len((DAGS / f"{name}.py").read_text().splitlines()) <= 40


def test_the_csv_has_more_good_rows_than_bad_ones_and_the_same_columns_in_each():
    rows = list(csv.reader((DAGS / "orders.csv").read_text().splitlines()))
    assert len(rows) > 30
    assert {len(row) for row in rows} == {5}


def test_bad_rows_fail_the_pipeline_and_the_incident_lists_them(run, connected):
    ran = run("bad_csv")
    assert (ran.state, ran.failed) == ("failed", ["check"])
    (incident,) = connected.incidents
    assert incident["name"] == "DAG bad_csv failed: check" + (" (ValueError)" if TELLS_EXCEPTION else "")
    for problem in [
        "5 bad rows in orders.csv",
        "A-10486: quantity is -3",
        "A-10492: price is missing",
        "A-10499: unreadable date: 2026-03-3",
        "A-10504: unreadable date: 03/04/2026",
        "A-10506: quantity is 0",
    ]:
        assert (problem in incident["summary"]) is TELLS_EXCEPTION


def test_both_levels_share_an_incident_that_holds_the_exception(run, connected):
    """It asks for a severity that every new account has, and for nothing that an account may lack."""
    ran = run("both_levels")
    assert (ran.state, ran.failed) == ("failed", ["load"])
    (incident,) = connected.incidents
    assert ("the warehouse refused 42 rows" in incident["summary"]) is TELLS_EXCEPTION
    assert "Left out" not in incident["summary"]
    assert incident["severity"]["name"] == "Major"
    assert incident["custom_field_entries"] == []


def test_a_run_of_both_levels_that_was_cleared_and_succeeds_closes_its_incident(run, connected, monkeypatch):
    """The callbacks of the example itself, as Airflow calls them for the run's second attempt."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    forget_all()
    first = run("both_levels")
    assert connected.incidents_v2[0]["incident_status"]["category"] == "triage"
    again = SimpleNamespace(dag_id="both_levels", run_id=first.run_id, clear_number=1, run_type="manual")
    first.dag.on_success_callback({"dag": first.dag, "dag_run": again, "run_id": again.run_id})
    assert connected.incidents_v2[0]["incident_status"]["category"] == "closed"


def test_a_dag_is_held_while_an_incident_is_open(run, connected):
    """A Minor one holds nothing; a Major one does until a person closes it, here after the first look."""
    severities = {severity["name"]: severity["id"] for severity in connected.catalogue.severities}
    minor, major = [
        connected.store.create({"idempotency_key": name, "visibility": "public", "severity_id": severities[name]}, "v2")
        for name in ("Minor", "Major")
    ]
    record = connected.store.record

    def close_after_the_first_look(request):
        record(request)
        if request.path == "/v2/incidents" and looks(connected) == 1:
            connected.close(major["id"])

    connected.store.record = close_after_the_first_look
    ran = run("hold_while_open")
    assert (ran.state, ran.failed) == ("success", [])
    assert looks(connected) == 2
    assert {each["id"]: each["incident_status"]["category"] for each in connected.incidents_v2} == {
        minor["id"]: "triage",
        major["id"]: "closed",
    }


def looks(box):
    """Count how often it was asked what is open."""
    return sum(request.path == "/v2/incidents" for request in box.requests)


def test_a_deliberate_step_opens_its_incident_and_fails_the_run(run, connected):
    ran = run("deliberate_step")
    assert (ran.state, ran.failed) == ("failed", ["open_incident", "publish"])
    (incident,) = connected.incidents
    assert incident["name"] == "Today's orders are not published"
    assert incident["summary"].startswith("Dashboards show yesterday's orders.")


def test_four_mapped_tasks_that_fail_open_one_incident(run, connected):
    ran = run("mapped_tasks")
    assert (ran.state, ran.failed) == ("failed", ["fetch_orders"] * 4)
    (incident,) = connected.incidents
    assert ("does not answer" in incident["summary"]) is TELLS_EXCEPTION

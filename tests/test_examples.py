"""Each example DAG, run as it is shipped, opens exactly one incident."""

import csv
import shutil
from pathlib import Path

import pytest

DAGS = Path(__file__).parent.parent / "dags"
NAMES = ["bad_csv", "both_levels", "deliberate_step", "incident_io_flush", "mapped_tasks"]


@pytest.fixture
def run(airflow_db, connected, tmp_path, monkeypatch):
    """Run an example to its end as `airflow dags test` would; return its state, its failed tasks, its incident."""
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # Airflow runs only what lies in its DAGs folder.
    examples = airflow_db / "dags" / "examples"
    shutil.copytree(DAGS, examples)

    def run(name):
        bag = DagBag(examples / f"{name}.py")
        assert bag.import_errors == {}
        ran = bag.dags[name].test()
        failed = sorted(task.task_id for task in ran.get_task_instances() if task.state == "failed")
        (incident,) = connected.incidents
        return ran.state, failed, incident

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


@pytest.mark.airflow
def test_bad_rows_fail_the_pipeline_and_the_incident_lists_them(run):
    state, failed, incident = run("bad_csv")
    assert (state, failed) == ("failed", ["check"])
    assert incident["name"] == "DAG bad_csv failed"
    for problem in [
        "5 bad rows in orders.csv",
        "A-10486: quantity is -3",
        "A-10492: price is missing",
        "A-10499: unreadable date: 2026-03-3",
        "A-10504: unreadable date: 03/04/2026",
        "A-10506: quantity is 0",
    ]:
        assert problem in incident["summary"]


@pytest.mark.airflow
def test_both_levels_share_an_incident_that_holds_the_exception(run):
    state, failed, incident = run("both_levels")
    assert (state, failed) == ("failed", ["load"])
    assert "the warehouse refused 42 rows" in incident["summary"]


@pytest.mark.airflow
def test_a_deliberate_step_opens_its_incident_and_fails_the_run(run):
    state, failed, incident = run("deliberate_step")
    assert (state, failed) == ("failed", ["open_incident", "publish"])
    assert incident["name"] == "Today's orders are not published"
    assert incident["summary"].startswith("Dashboards show yesterday's orders.")


@pytest.mark.airflow
def test_four_mapped_tasks_that_fail_open_one_incident(run):
    state, failed, incident = run("mapped_tasks")
    assert (state, failed) == ("failed", ["fetch_orders"] * 4)
    assert "does not answer" in incident["summary"]

"""The flush DAG delivers what waits, and fails when somebody should look."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from airflow_incident import IncidentNotifier, journal_flush_dag, open_incident
from airflow_incident.airflow_bridge.variables import Variables
from tests.airflow_dags import load_dag
from tests.airflow_versions import AIRFLOW, TASKS_CAN_LIST
from tests.journal_records import FAILED, forget_all, keep, kept

SOURCE = """
from airflow_incident import journal_flush_dag

dag = journal_flush_dag(schedule=None)
"""


@pytest.fixture
def flush(airflow_db, connected, caplog, capsys):
    """Run the flush DAG over a journal; return its state and what it said."""
    forget_all()

    def run():
        caplog.clear()
        ran = load_dag(airflow_db, SOURCE, "flush").test()
        return ran.state, caplog.text + capsys.readouterr().out

    yield run
    forget_all()


@TASKS_CAN_LIST
def test_what_waits_is_delivered_with_the_time_of_its_failure(flush, connected):
    record = keep()
    state, said = flush()
    assert state == "success"
    (incident,) = connected.incidents
    assert f"{FAILED:%Y-%m-%d %H:%M:%S} UTC" in incident["summary"]
    assert kept(record.name).state == "open"
    assert re.search(r"INC-1 http\S+ was opened for DAG orders, run r1", said)
    assert "1 delivered" in said


@TASKS_CAN_LIST
def test_an_empty_journal_is_well(flush):
    state, said = flush()
    assert (state, "nothing waits" in said) == ("success", True)


@TASKS_CAN_LIST
def test_what_was_refused_fails_the_run(flush, connected):
    keep("r1", state="dead", error="422 severity is unknown")
    keep("r2")
    state, said = flush()
    assert state == "failed"
    assert "incident.io: DAG orders, run r1 (failed at 2026-03-04 09:30:00 UTC) was refused: 422 severity" in said
    assert "incident.io: 1 refused; fix the cause, then run: airflow-incident journal retry" in said
    assert len(connected.incidents) == 1


@TASKS_CAN_LIST
@pytest.mark.parametrize(("minutes", "state"), [(59, "success"), (61, "failed")])
def test_what_has_waited_for_an_hour_fails_the_run(flush, minutes, state):
    now = datetime.now(UTC)
    keep(written_at=now - timedelta(minutes=minutes), due_at=now + timedelta(minutes=5))
    ended, said = flush()
    assert ended == state
    assert "waits since" in said
    assert ("1 waiting, the oldest since" in said) == (state == "failed")


@pytest.mark.skipif(AIRFLOW == (3, 0), reason="dag.test() shows no log there; tests/airflow/test_journal.py reads it")
def test_where_tasks_cannot_list_variables_it_names_the_command(flush, monkeypatch):
    """Airflow 3.0 to 3.2."""

    def names(*_):
        raise NotImplementedError("tasks list Variables from Airflow 3.3 on")

    with monkeypatch.context() as patched:
        patched.setattr(Variables, "read_all", names)
        state, said = flush()
    assert state == "failed"
    assert "tasks list Variables from Airflow 3.3 on. Where Airflow's database is, this does the same: " in said


def test_it_runs_alone_and_catches_nothing_up():
    dag = journal_flush_dag()
    told = (dag.dag_id, dag.max_active_runs, dag.catchup, set(dag.tags))
    assert told == ("incident_io_flush", 1, False, {"incident.io", "incident:off"})
    assert dag.get_task("flush").retries == 0


def test_it_takes_what_a_dag_takes_but_opens_no_incident_itself():
    """Its own failure would wait in the same journal, a new one every five minutes."""

    def tell(context):
        pass

    both = [open_incident(), tell]
    dag = journal_flush_dag(
        "other", None, tags=["mine"], on_failure_callback=both, default_args={"on_failure_callback": both}
    )
    assert (dag.dag_id, set(dag.tags)) == ("other", {"mine", "incident:off"})
    assert dag.on_failure_callback in (tell, [tell])
    assert list(dag.get_task("flush").on_failure_callback) == [tell]
    alone = journal_flush_dag(default_args={"on_failure_callback": IncidentNotifier()})
    assert not alone.get_task("flush").on_failure_callback

"""The button of a task instance: which incident it leads to, by the journal in Airflow's database."""

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from airflow.models.taskinstancekey import TaskInstanceKey

from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.core.key import dag_key, storm_key
from airflow_incident.delivery.record import OpenIncident, record_name
from airflow_incident.delivery.reporter import STORM
from airflow_incident.links import IncidentLink
from airflow_incident.plugin import IncidentPlugin, RunLink
from tests.conftest import ROOT
from tests.journal_records import INCIDENT, forget_all, keep

PAGE = INCIDENT.permalink


@pytest.fixture(autouse=True)
def _empty(airflow_db):
    forget_all()
    yield
    forget_all()


def leads_to(task="load", run="r1", dag="orders", map_index=-1):
    """Press the button of a task instance."""
    return RunLink().get_link(None, ti_key=TaskInstanceKey(dag, task, run, 1, map_index))


def incident(number, host="https://app.incident.io"):
    return OpenIncident(id=f"0{number}", reference=f"INC-{number}", permalink=f"{host}/x/incidents/{number}")


def opened(number, run="r1", **fields):
    """Leave the record of an incident, with a key of its own."""
    return keep(run, state="open", incident=incident(number), key=f"airflow/tests/{run}/{number}", **fields)


@pytest.mark.parametrize("map_index", [-1, 0, 7])
@pytest.mark.parametrize("told_by", [{"level": "dag"}, {"level": "task", "task": "load[3]"}, {"level": "deadline"}])
def test_every_task_instance_of_a_failed_run_leads_to_its_incident(map_index, told_by):
    """Plain or mapped, whoever told of the failure: one incident stands for the run."""
    keep(state="open", **told_by)
    assert leads_to("load", map_index=map_index) == PAGE
    assert leads_to("untouched", map_index=map_index) == PAGE


def test_nothing_leads_to_another_run_s_incident():
    """Not a run whose id begins like it, not a DAG whose records are listed with it, not a run of another DAG."""
    keep(state="open")
    keep("r1", "orders.sub", state="open", incident=incident(8))
    assert [leads_to(run=run) for run in ("r", "r11", "R1")] == [""] * 3
    assert leads_to(dag="order") == ""
    assert leads_to(dag="orders.sub") == incident(8).permalink
    assert leads_to() == PAGE


@pytest.mark.parametrize("run", ["manual__2026-01-01T00:00:00+00:00", 'a "quoted" \\ run', "löad 雪", "50%_off"])
def test_any_run_id_is_found(run):
    """As it stands in the record's text, whatever JSON makes of it."""
    keep(run, state="open")
    assert leads_to(run=run) == PAGE


def test_without_an_incident_there_is_no_button():
    """A run that never failed, a failure that waits or was refused, an alert, which has no page."""
    assert leads_to() == ""
    keep(state="pending")
    keep(state="dead", key="airflow/tests/dag/orders/run/r1")
    keep("r2", state="open", incident=OpenIncident(id="dedup"))
    assert leads_to() == leads_to(run="r2") == ""


def test_a_cleared_run_leads_to_its_newest_incident():
    """The latest attempt decides, not who was written last."""
    now = datetime.now(UTC)
    opened(2, clear_count=1, written_at=now - timedelta(hours=2))
    opened(1, written_at=now)
    assert leads_to() == incident(2).permalink


def test_an_incident_of_a_task_is_that_task_s_button():
    """At scope task with all its map indexes, at scope task_instance with one; others have the run's."""
    opened(1, level="dag", scope="task", written_at=datetime.now(UTC))
    opened(2, level="task", scope="task", task="load")
    opened(3, level="task", scope="task", task="check[4]")
    opened(4, level="task", scope="task_instance", task="each[0]")
    opened(5, level="task", scope="task_instance", task="each[1]")
    seen = {
        "load": leads_to("load"),
        "loader": leads_to("loader"),
        "check[4]": leads_to("check", map_index=4),
        "check[0]": leads_to("check", map_index=0),
        "each[0]": leads_to("each", map_index=0),
        "each[1]": leads_to("each", map_index=1),
        "each[2]": leads_to("each", map_index=2),
    }
    assert {task: page[-1] for task, page in seen.items()} == {
        "load": "2", "loader": "1", "check[4]": "3", "check[0]": "3", "each[0]": "4", "each[1]": "5", "each[2]": "1",
    }  # fmt: skip


def test_a_failure_goes_before_a_deliberate_step():
    """What a step has opened is shown where nothing else is."""
    opened(1, level="operator", task="tell", written_at=datetime.now(UTC))
    assert leads_to() == incident(1).permalink
    opened(2)
    assert leads_to() == incident(2).permalink


def test_a_run_that_was_gathered_leads_to_what_gathered_it():
    """Under a storm's incident, and under the one that the DAG had open, which stands for a later run by now."""
    key = storm_key("tests", "20260304T0930Z", "a1")
    keep(state="grouped", storm=key)
    assert leads_to() == ""
    keep(key, STORM, state="open", key=key, level="storm", incident=incident(5))
    assert leads_to() == incident(5).permalink
    of_dag = dag_key("tests", "orders")
    keep("r3", state="open", key=of_dag, scope="dag", incident=incident(6))
    keep("r2", state="grouped", storm=of_dag, scope="dag", incident=incident(6))
    assert leads_to(run="r2") == leads_to(run="r3") == incident(6).permalink


@pytest.mark.parametrize("page", ["javascript:alert(1)//app.incident.io/", "https://incident.io.evil.example/1", None])
def test_a_forged_page_is_no_button(page, monkeypatch):
    """Neither from the journal nor, for an operator's own, from its XCom; core.pages is tried with more of them."""
    keep(state="open", incident=OpenIncident(id="01H", permalink=page))
    assert leads_to() == ""
    monkeypatch.setattr("airflow_incident.links.XCom.get_value", lambda **_: {"permalink": page})
    assert IncidentLink().get_link(None, ti_key=None) == ""


def test_an_xcom_that_cannot_be_read_is_no_button(monkeypatch, caplog):
    """Airflow 3.0 asks for it at the end of a task, before its callbacks."""

    def broken(**_):
        raise SystemExit("no bucket")

    monkeypatch.setattr("airflow_incident.links.XCom.get_value", broken)
    assert IncidentLink().get_link(None, ti_key=None) == ""
    assert "no link from a step to its incident: SystemExit" in caplog.text


@pytest.fixture
def warnings(caplog):
    """Return what the plugin has said."""
    caplog.set_level(logging.DEBUG, "airflow_incident")
    return lambda: [f"{seen.levelname} {seen.getMessage()}" for seen in caplog.records if "incident.io" in seen.message]


@pytest.mark.parametrize("text", ['{"run_id":"r1"', '["r1"]', '{"version":2,"run_id":"r1"}'])
def test_a_broken_record_is_one_line(text, warnings):
    """It costs its own run the button, and only as long as nothing else tells of that run."""
    Variables().set(record_name("orders", "forged"), text)
    assert leads_to(run="r2") == ""
    assert warnings() == []
    assert leads_to() == ""
    (line,) = warnings()
    assert line.startswith("WARNING incident.io: no link from a task instance to its incident: UnreadableRecordError(")
    keep(state="open")
    assert leads_to() == PAGE
    assert len(warnings()) == 1


def test_a_record_under_another_s_name_is_not_believed(warnings):
    """Who may write one Variable has not written all."""
    record = keep("r2", state="open")
    Variables().set(record_name("orders", "forged"), record.text().replace('"r2"', '"r1"'))
    assert leads_to() == ""
    assert len(warnings()) == 1


ASK = """
from airflow.models.taskinstancekey import TaskInstanceKey
from tests.found_link import found_link

link = found_link()
for run in ("r1", "none"):
    print(run, link.name, repr(link.get_link(None, ti_key=TaskInstanceKey("orders", "load", run, 1))))
"""


@pytest.fixture
def python(installed, airflow_db):
    """Run Python in an Airflow that finds our plugin by itself; return what it prints, and all that it says."""

    def run(*arguments, **environment):
        path = os.pathsep.join([str(installed), str(ROOT)])
        done = subprocess.run(
            [sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": path} | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout.splitlines(), done.stdout + done.stderr

    return run


def test_airflow_finds_the_button(python):
    """By the entry point that this checkout declares; the command line lists where it comes from."""
    keep(state="open")
    lines, _ = python("-c", ASK)
    assert lines[-2:] == [f"r1 incident.io {PAGE!r}", "none incident.io ''"]
    lines, _ = python("-m", "airflow", "plugins", "-o", "json")
    (ours,) = [row for row in json.loads(lines[-1]) if row["name"] == IncidentPlugin.name]
    assert ours["global_operator_extra_links"] == ["<airflow_incident.plugin.RunLink object>"]


def test_a_database_that_cannot_be_read_is_one_line(python, tmp_path):
    """Each button is missing, and nothing raises."""
    lines, said = python("-c", ASK, AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{tmp_path}/nothing.db")
    assert [line for line in lines if line.startswith(("r1 ", "none "))] == ["r1 incident.io ''", "none incident.io ''"]
    assert said.count("no link from a task instance to its incident: OperationalError(") == 2
    assert "Traceback" not in said

"""The incident.io button in a whole Airflow that runs, as its REST API gives it to the UI."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_incident.plugin import RunLink
from airflow_incident.sandbox.server import Sandbox
from tests.airflow.running_airflow import RunningAirflow
from tests.airflow_versions import RUNS_WHOLE
from tests.conftest import ROOT

pytestmark = [pytest.mark.airflow, RUNS_WHOLE]

DAGS = """
from airflow.sdk import DAG, task
from airflow_incident import CreateIncidentOperator, open_incident

@task
def boom():
    raise ValueError("no such table: orders")

@task
def check(number):
    raise ValueError(number)

@task
def fine():
    pass

ours = {"on_failure_callback": open_incident()}

with DAG("both_levels", default_args=ours, **ours):
    fine() >> [boom(), check.expand(number=[1, 2])]

with DAG("dag_level_only", **ours):
    fine() >> [boom(), check.expand(number=[1, 2])]

with DAG("each_task", default_args={"on_failure_callback": open_incident(scope="task")}):
    boom(), check.expand(number=[1, 2])

with DAG("one_for_all", on_failure_callback=open_incident(scope="dag")):
    boom()

with DAG("deliberate"):
    fine() >> boom() >> CreateIncidentOperator(task_id="tell", trigger_rule="one_failed", then_fail=True)

with DAG("good", default_args=ours, **ours):
    fine() >> check.expand(number=[])
"""


@pytest.fixture(scope="module")
def up(airflow_db, installed) -> Iterator[SimpleNamespace]:
    """Run a whole Airflow that finds our plugin by itself, beside a sandbox."""
    with (
        tempfile.TemporaryDirectory(prefix="airflow-incident-", ignore_cleanup_errors=True) as folder,
        Sandbox() as box,
        pytest.MonkeyPatch.context() as patch,
    ):
        home = Path(folder)
        shutil.copy(airflow_db / "empty.db", home / "airflow.db")
        (home / "dags").mkdir()
        (home / "dags" / "failing.py").write_text(DAGS)
        patch.setenv("PYTHONPATH", f"{installed}:{ROOT}")
        patch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
        patch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMIT", "0")
        patch.setenv("AIRFLOW_CONN_INCIDENT_IO_DEFAULT", box.connection_json())
        with RunningAirflow(home) as airflow:
            yield SimpleNamespace(airflow=airflow, box=box)


def fail(up, dag_id: str, run_id: str = "first", *, incidents: int = 1) -> list[str]:
    """Let a run fail; return the pages of the incidents that it opens."""
    before = len(up.box.incidents)
    up.airflow.trigger(dag_id, run_id)
    up.airflow.wait_for_state("failed", dag_id, run_id)
    up.airflow.wait(lambda: len(up.box.incidents) >= before + incidents, 60, f"incident of {dag_id}")
    return [incident["permalink"] for incident in up.box.incidents[before:]]


def button(up, dag_id: str, task: str, run_id: str = "first", map_index: int = -1) -> str | None:
    """Ask for the links of a task instance, as the UI does: there is one."""
    path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}/links?map_index={map_index}"
    links = up.airflow.call("GET", path)["extra_links"]
    assert list(links) == [RunLink.name]
    return links[RunLink.name]


@pytest.mark.parametrize("dag_id", ["both_levels", "dag_level_only"])
def test_every_task_instance_of_a_failed_run_has_the_button(up, dag_id):
    """Plain and mapped, what failed and what did not, though only the DAG's callback may have told."""
    (page,) = fail(up, dag_id)
    up.airflow.wait(lambda: button(up, dag_id, "boom"), 30, "the record of the open incident")
    assert {button(up, dag_id, task) for task in ("fine", "boom")} == {page}
    assert {button(up, dag_id, "check", map_index=index) for index in (0, 1)} == {page}


def test_a_run_that_succeeds_has_none(up):
    up.airflow.trigger("good")
    up.airflow.wait_for_state("success", "good")
    assert button(up, "good", "fine") is None


def test_a_run_that_fails_again_leads_to_the_incident_that_took_it(up):
    """The open one, which says so; once that is closed, a new one. The runs beside it keep theirs."""
    (other,) = fail(up, "dag_level_only", "beside")
    (first,) = fail(up, "dag_level_only", "again")
    up.airflow.wait(lambda: button(up, "dag_level_only", "boom", "again") == first, 30, "the first incident's button")
    (opened,) = (incident for incident in up.box.incidents if incident["permalink"] == first)
    text_of = lambda: next(each["summary"] for each in up.box.incidents if each["permalink"] == first)  # noqa: E731
    up.airflow.call("POST", "dags/dag_level_only/clearTaskInstances", dag_run_id="again", dry_run=False)
    up.airflow.wait(lambda: "Failed again" in text_of(), 60, "the incident that says so")
    assert button(up, "dag_level_only", "boom", "again") == first
    up.box.close(opened["reference"])
    up.airflow.call("POST", "dags/dag_level_only/clearTaskInstances", dag_run_id="again", dry_run=False)
    up.airflow.wait(lambda: button(up, "dag_level_only", "boom", "again") != first, 60, "the second incident's button")
    assert button(up, "dag_level_only", "boom", "again") == up.box.incidents[-1]["permalink"] not in {first, other}
    assert button(up, "dag_level_only", "boom", "beside") == other


def test_at_scope_task_each_task_leads_to_its_own(up):
    """With all its map indexes."""
    pages = fail(up, "each_task", incidents=2)
    own = [button(up, "each_task", "boom"), *(button(up, "each_task", "check", map_index=index) for index in (0, 1))]
    assert own[1] == own[2] != own[0]
    assert set(own) == set(pages)


def test_at_scope_dag_a_run_leads_to_what_took_it(up):
    """The second run opens none, but is in the first one's."""
    (page,) = fail(up, "one_for_all")
    up.airflow.wait(lambda: button(up, "one_for_all", "boom"), 30, "the record of the open incident")
    assert fail(up, "one_for_all", "second", incidents=0) == []
    up.airflow.wait(lambda: button(up, "one_for_all", "boom", "second"), 30, "word of the second run")
    assert button(up, "one_for_all", "boom") == button(up, "one_for_all", "boom", "second") == page


def test_a_deliberate_step_has_one_button(up):
    """Its own and the plugin's have one name; the run's other tasks lead there too."""
    (page,) = fail(up, "deliberate")
    assert [button(up, "deliberate", task) for task in ("tell", "boom", "fine")] == [page] * 3

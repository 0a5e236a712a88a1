"""`airflow-incident explain` knows what the DAG's own callbacks were given, or says why it cannot."""

import json
import os
import subprocess
import sys

import pytest

from airflow_incident.cli import main as cli
from tests.cli.dag_runs import dag_run

SOURCE = """
from functools import partial
from airflow.providers.common.compat.sdk import DAG, BaseOperator
import airflow_incident
from airflow_incident import open_incident

FORMS = {
    "as_call": open_incident(severity="Major", name="{{ dag.dag_id }} is down"),
    "as_list": [print, open_incident(severity="Major")],
    "as_partial": partial(open_incident, severity="Major", severty="Minor"),
    "as_name": open_incident,
    "wrapped": lambda context: open_incident(context, severity="Major"),
    "without": None,
}
for name, callback in FORMS.items():
    with DAG(f"explained_{name}", schedule=None, on_failure_callback=callback):
        BaseOperator(task_id="load")
with DAG("explained_tasks", schedule=None, default_args={"on_failure_callback": open_incident(severity="Major")}):
    BaseOperator(task_id="load")
    BaseOperator(task_id="other", on_failure_callback=open_incident(severity="Minor"))
    BaseOperator(task_id="bare", on_failure_callback=None)
"""
DAGS = ["as_call", "as_list", "as_partial", "as_name", "wrapped", "without", "tasks"]


@pytest.fixture(scope="module")
def file(airflow_db, tmp_path_factory):
    """Let Airflow itself load the DAGs, and forget them afterwards."""
    from airflow.api.common.delete_dag import delete_dag

    folder = tmp_path_factory.mktemp("dags")
    path = folder / "explained.py"
    path.write_text(SOURCE)
    environment = os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(folder)}
    command = [sys.executable, "-m", "airflow", "dags", "reserialize"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=180)
    yield path
    for name in DAGS:
        delete_dag(f"explained_{name}")


@pytest.fixture
def explained(file, connected, capsys):
    def run(name, *arguments):
        with dag_run(f"explained_{name}", "r1"):
            code = cli.main(["explain", f"explained_{name}", "r1", "--json", *arguments])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


@pytest.mark.parametrize("name", ["as_call", "as_list", "as_partial"])
def test_a_severity_of_the_dag_s_file_is_known(explained, name):
    """In each form that a callback has."""
    told = explained(name)
    assert told["settings"]["severity"] == {"value": "Major", "from": "the DAG's on_failure_callback"}
    assert told["sends"].startswith("an incident with severity Major")
    assert told["sends"].endswith("by the DAG's on_failure_callback")


def test_a_title_is_shown_as_it_is_written(explained):
    assert explained("as_call")["settings"]["name"] == {
        "value": "{{ dag.dag_id }} is down",
        "from": "the DAG's on_failure_callback",
    }


def test_a_callback_without_parentheses_has_no_arguments(explained):
    told = explained("as_name")
    assert told["settings"]["severity"] == {"value": "", "from": "default"}
    assert told["sends"].endswith("by the DAG's on_failure_callback")


def test_a_dag_without_a_callback_sends_nothing_and_says_so(explained):
    assert explained("without")["sends"] == (
        "nothing: neither the DAG nor its tasks have a callback of ours, and zero touch does not cover it"
    )
    assert explained("tasks", "--task", "bare")["sends"].startswith("nothing: ")


def test_a_function_of_the_dag_s_own_may_call_ours(explained):
    """Nobody can know before it is called, so nothing is promised and nothing denied."""
    told = explained("wrapped")
    assert "Whether the DAG's callbacks, which are functions of its own, call ours cannot be known." in told["notes"]
    assert told["sends"].endswith("by a callback in the DAG's file, if it has one")


@pytest.mark.parametrize(("task", "severity"), [("load", "Major"), ("other", "Minor")])
def test_a_task_s_own_callback_goes_first(explained, task, severity):
    told = explained("tasks", "--task", task)
    assert told["settings"]["severity"] == {"value": severity, "from": f"on_failure_callback of task {task}"}


def test_callbacks_that_differ_are_told(explained):
    assert "The options of on_failure_callback of task other differ; whichever" in " ".join(explained("tasks")["notes"])


def test_a_task_that_does_not_exist_is_told(explained):
    assert "TaskNotFound" in " ".join(explained("tasks", "--task", "laod")["notes"])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "its file {file} is not on this host"),
        ("import airflow, DAG_that_is_not_there", "cannot be imported: ModuleNotFoundError"),
        ("# airflow DAG", "has no such DAG any more"),
    ],
    ids=["gone", "broken", "empty"],
)
def test_where_the_file_tells_nothing_that_is_said(explained, file, source, said):
    """What the callback was given cannot be known then, and nothing is made up."""
    file.unlink()
    if source:
        file.write_text(source)
    try:
        told = explained("as_call")
    finally:
        file.write_text(SOURCE)
    notes = " ".join(told["notes"])
    assert "What the DAG's callbacks were given cannot be known here: " in notes
    assert said.format(file=file) in notes
    assert told["sends"].endswith("by a callback in the DAG's file, if it has one")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["explained_as_cal", "r1"],
            "Airflow's database has no DAG 'explained_as_cal'; did you mean 'explained_as_call'?",
        ),
        (["explained_as_call", "r2"], "DAG explained_as_call has no run 'r2'; its latest: r1"),
        (["explained_as_list", "r2"], "DAG explained_as_list has no run 'r2', and no other"),
    ],
)
def test_what_does_not_exist_is_one_line(file, connected, capsys, arguments, said):
    with dag_run("explained_as_call", "r1"):
        code = cli.main(["explain", *arguments])
    assert (code, *capsys.readouterr()) == (1, "", f"airflow-incident explain: {said}\n")


def test_without_a_database_it_is_one_line(tmp_path):
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "airflow_incident.cli.main", "explain", "orders", "r1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("airflow-incident explain: Airflow's database cannot be asked (OperationalError). Run this")

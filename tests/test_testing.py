"""The fixture that users test their callbacks with, as the page about it tells them, in a project of their own."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from airflow_incident import open_incident, testing
from airflow_incident.airflow_bridge.database import texts_in_database
from airflow_incident.delivery.record import PREFIX
from tests.airflow_dags import load_dag
from tests.airflow_versions import AIRFLOW
from tests.conftest import ROOT
from tests.doors import dag_context

pytestmark = pytest.mark.release

incident_sandbox = testing.incident_sandbox
PAGE = ROOT / "docs" / "how-to" / "testing.md"
IMPORTS_OF_2 = "from airflow import DAG\nfrom airflow.decorators import task"
SOURCE = f"""
{IMPORTS_OF_2 if AIRFLOW < (3, 0) else "from airflow.sdk import DAG, task"}
from airflow_incident import open_incident, resolve_incident

with DAG("tested", schedule=None, on_failure_callback=open_incident(), on_success_callback=resolve_incident()) as dag:
    @task
    def boom():
        raise ValueError("no such table: orders")

    boom()
"""


@pytest.fixture
def project(tmp_path, installed):
    """Run pytest in a project of somebody else's, with the package where that finds it by its entry points."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PYTEST_"))}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}
    if Path(testing.__file__) == ROOT / "airflow_incident" / "testing.py":  # else what is installed is what is tried
        environment |= {"PYTHONPATH": f"{installed}:{ROOT}"}

    def run(*arguments, **files):
        for name, text in files.items():
            file = tmp_path / name.replace("__", "/")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *arguments]
        return subprocess.run(
            command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )

    return run


@pytest.fixture
def dag(airflow_db, monkeypatch):
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    return load_dag(airflow_db, SOURCE, "tested")


def test_the_example_of_the_page_works_in_a_project_of_its_own(project):
    blocks = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 4
    ended = project(
        **{
            name.replace("/", "__"): text.replace("from airflow.sdk import DAG, task", IMPORTS_OF_2)
            if AIRFLOW < (3, 0)
            else text
            for name, text in blocks
        }
    )
    assert "3 passed" in ended.stdout, ended.stdout + ended.stderr


def test_a_project_that_asks_for_nothing_loads_nothing(project):
    """Only the file with the fixture, which pytest finds by itself."""
    ended = project(
        **{"test_x.py": "import sys\n\n\ndef test_x():\n    print(*sys.modules)\n"},
    )
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr
    loaded = set(ended.stdout.split())
    assert {name for name in loaded if re.fullmatch(r"airflow(_incident)?(\.\w+)*", name)} == {
        "airflow_incident",
        "airflow_incident.constants",
        "airflow_incident.testing",
    }


def test_without_the_extra_a_test_fails_and_says_what_to_install(project):
    ended = project(
        **{
            "conftest.py": "import sys\n\nsys.modules['uvicorn'] = None\n",
            "test_x.py": "def test_x(incident_sandbox):\n    pass\n",
        }
    )
    assert "incident_sandbox needs uvicorn: pip install 'airflow-incident[sandbox]'" in ended.stdout
    assert "1 error" in ended.stdout
    assert "Traceback" not in ended.stdout


def test_it_tells_what_was_opened(incident_sandbox, dag):
    """And with which key; what a person does, it tells as well."""
    run = dag.test()
    [incident] = incident_sandbox.incidents
    assert (incident.reference, incident.severity, incident.status) == ("INC-1", None, "Triage")
    assert (incident.incident_type, incident.mode, incident.visibility) == ("Default", "real", "public")
    assert "tested" in incident.summary
    assert incident.key.startswith("airflow/pytest-")
    assert run.run_id[:10] in incident.key
    assert incident.details["id"]
    incident_sandbox.box.close("INC-1")
    assert incident_sandbox.incidents[0].status == "Closed"


def test_another_connection_and_other_options(incident_sandbox):
    """A connection that a callback names; and alerts, of which the test has the source."""
    incident_sandbox.connect("incident_io_prod", severity="Minor")
    open_incident(conn_id="incident_io_prod")(dag_context())
    open_incident(channel="alert", name="Paged")(dag_context("another"))
    assert [incident.severity for incident in incident_sandbox.incidents] == ["Minor", None]
    [alert] = incident_sandbox.alerts
    assert (alert.title, alert.status) == ("Paged", "firing")
    assert alert.key == incident_sandbox.incidents[1].key


def test_a_fault_ends_with_its_block_and_leaves_nothing_for_a_real_account(incident_sandbox, dag, brisk):
    """What waits in the journal meets no other test, and is gone in the end."""
    with incident_sandbox.fault("error-403"):
        dag.test()
    assert incident_sandbox.incidents == []
    assert texts_in_database(PREFIX)
    dag.test()
    assert incident_sandbox.wait_for().reference == "INC-1"
    incident_sandbox.forget()
    assert texts_in_database(PREFIX) == {}


def test_whatever_a_callback_says_nothing_is_left_in_the_journal(incident_sandbox, airflow_db, monkeypatch):
    """Neither a failure of another deployment, nor what callbacks note for one another."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    before = texts_in_database("incident_io")
    with incident_sandbox.fault("error-403"):
        open_incident(deployment="prod")(dag_context())
    open_incident()(dag_context("another"))
    assert len(texts_in_database("incident_io")) >= len(before) + 3
    incident_sandbox.forget()
    assert texts_in_database("incident_io") == before


def test_many_tests_of_one_dag_are_no_storm(incident_sandbox, dag, monkeypatch):
    """Its limit is five in ten minutes; each test has a deployment of its own."""
    for _ in range(6):
        sandbox = testing.IncidentSandbox(incident_sandbox.box, monkeypatch)
        sandbox.connect()
        dag.test()
    assert [incident.name[:17] for incident in incident_sandbox.incidents] == ["DAG tested failed"] * 6


def test_waiting_ends_when_another_process_opens_one(incident_sandbox):
    later = threading.Timer(0.2, open_incident(), [dag_context()])
    later.start()
    assert incident_sandbox.wait_for(lambda incident: "run-1" in incident.key).status == "Triage"
    later.join()


def test_waiting_in_vain_says_what_is_there(incident_sandbox):
    with pytest.raises(AssertionError, match=r"No such incident within 0\.1 s\. There are: none"):
        incident_sandbox.wait_for(seconds=0.1)
    open_incident(name="Orders are late")(dag_context())
    with pytest.raises(AssertionError, match=r"There are:\nINC-1 \(Triage\): Orders are late"):
        incident_sandbox.wait_for(lambda incident: incident.status == "Closed", seconds=0.1)


def test_an_unknown_fault_is_refused(incident_sandbox):
    with (
        pytest.raises(ValueError, match="unknown fault 'hangs'; known: none, refuse, hang"),
        incident_sandbox.fault("hangs"),
    ):
        pass

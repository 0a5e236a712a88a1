"""The tutorial, as a reader does it: its commands in a real shell, its files in a real Airflow, up to the real account."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.airflow_versions import TELLS_EXCEPTION
from tools.pages import ROOT

pytestmark = pytest.mark.airflow
pytest.importorskip("airflow.sdk", reason="the tutorial is written for Airflow 3, whose DAGs come from airflow.sdk")

STEPS = re.split(r"^## \d\. ", (ROOT / "docs" / "tutorial.md").read_text(), flags=re.MULTILINE)[1:]
INSTALLED = Path(sys.executable).parent


@pytest.fixture
def shell(tmp_path, sandbox):
    """Run a step's commands; what an earlier step exported holds in the later ones."""
    exported: list[str] = []
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    environment |= {"PATH": f"{INSTALLED}:{environment['PATH']}", "PYTHONPATH": str(ROOT)}
    environment["INCIDENT_IO_API_KEY"] = sandbox.api_key

    def run(step, **replaced):
        commands = re.search(r"```sh\n(.*?)```", STEPS[step - 1], re.DOTALL)[1]
        replaced = {"http://127.0.0.1:8910": sandbox.url, ". tutorial/bin/activate\n": ""} | replaced
        for old, new in replaced.items():
            commands = commands.replace(old, new)
        script = "".join([*exported, commands])
        exported.extend(re.findall(r"^export (?:'[^']*'|[^'\n])*\n", commands, re.MULTILINE))
        shell = ["bash", "-ec", script]
        done = subprocess.run(
            shell, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        return done.returncode, done.stdout + done.stderr

    return run


def save(step, folder):
    """Save the step's file where the tutorial says."""
    code = re.search(r"```python\n(.*?)```", STEPS[step - 1], re.DOTALL)
    (folder / "airflow" / "dags" / "first_incident.py").write_text(code[1])


def test_each_step_does_what_it_says(shell, sandbox, tmp_path):
    """Each run has one incident: with its DAG, then with the exception, then with severity and field."""
    status, output = shell(2)
    assert status == 0, output
    save(3, tmp_path)
    _, output = shell(3)
    assert [row["name"].partition(":")[0] for row in sandbox.incidents] == ["DAG first_incident failed"], output
    told = re.search(r"```\n(incident\.io: .*?) …\n```", STEPS[2])[1]
    assert told.replace("http://127.0.0.1:8910", sandbox.url) in output
    assert "three bad rows" not in sandbox.incidents[0]["summary"]

    save(4, tmp_path)
    _, output = shell(4)
    assert len(sandbox.incidents) == 2, output
    assert ("three bad rows" in sandbox.incidents[1]["summary"]) is TELLS_EXCEPTION

    save(5, tmp_path)
    _, output = shell(4)
    assert len(sandbox.incidents) == 3, output
    assert sandbox.incidents[2]["severity"]["name"] == "Major"
    assert "Affected team" in str(sandbox.incidents[2]["custom_field_entries"])

    status, output = shell(6, **{"--conn-type incident_io": f"--conn-type incident_io --conn-host {sandbox.url}"})
    assert status == 0, output
    assert "Successfully added" in output
    assert sandbox.incidents[3]["mode"] == "test"
    assert sandbox.incidents[3]["permalink"] in output

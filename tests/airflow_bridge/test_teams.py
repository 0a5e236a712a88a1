"""Airflow's teams: what their tasks have written down is seen, delivered and dropped by commands, and stays theirs."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from airflow_incident.sandbox.server import Sandbox
from tests.airflow_versions import since

pytestmark = since("3.2", "teams")

# What a task of a team does, as Airflow's API server carries it out: records of two teams, and one of none.
SCRIPT = """
import json, sys
from airflow.models import Connection, Variable
from airflow.models.team import Team
from airflow.utils.session import create_session
from airflow_incident.delivery.report import IncidentContent, by_hand, prepare
from airflow_incident.core.failure import Failure
from airflow_incident.core.settings import Settings
from airflow_incident.delivery.record import OpenIncident, Record, utc_now

url = sys.argv[1]
with create_session() as session:
    session.add_all([Team(name="alpha"), Team(name="beta")])
    session.commit()
    key = {"conn_type": "incident_io", "host": url, "password": "sandbox-key"}
    session.add(Connection(conn_id="incident_io_default", **key))
    session.add(Connection(conn_id="of_alpha", team_name="alpha", **key))

def keep(team, run, state="pending", conn_id="incident_io_default", **fields):
    report = prepare(Failure("orders", run), Settings(), IncidentContent(), deployment="tests", redact=str)
    body = dict(by_hand(report).body) if state in {"pending", "dead"} else None
    record = Record(state=state, key=report.key, dag_id="orders", run_id=run, conn_id=conn_id, level="task",
                    written_at=utc_now(), body=body, **fields)
    Variable.set(record.name, record.text(), team_name=team)

keep("alpha", "a1", conn_id="of_alpha")
keep("beta", "b1")
keep("beta", "b2", "dead", error="422 odd")
keep(None, "n1")
keep("alpha", "a2", "open", incident=OpenIncident(id="01H", reference="INC-7", permalink="http://127.0.0.1/x/7"))
"""
LOOK = """
import json
from airflow.models import TaskInstance, Variable
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.session import create_session
from sqlalchemy import select
from airflow_incident.plugin import read_page

with create_session() as session:
    rows = session.scalars(select(Variable).where(Variable.key.startswith("incident_io.orders.")))
    texts = [json.loads(row.val) | {"team": row.team_name} for row in rows]
page = read_page(TaskInstanceKey("orders", "load", "a2", 1, -1))
print(json.dumps({"page": page, "records": {t["run_id"]: [t["state"], t["team"]] for t in texts}}))
"""


@pytest.fixture
def box():
    with Sandbox() as box:
        yield box


@pytest.fixture
def command(airflow_db, box, tmp_path):
    """Return what runs a command of ours, or Python, in an Airflow with two teams and their records."""
    shutil.copy(airflow_db / "empty.db", tmp_path / "airflow.db")
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__MULTI_TEAM": "True",
        "AIRFLOW__INCIDENT_IO__JOURNAL": "True",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }

    def run(*arguments, code=0):
        module = [] if arguments[0] == "-c" else ["-m", "airflow_incident.cli.main"]
        done = subprocess.run(
            [sys.executable, *module, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    run("-c", SCRIPT, box.url)
    return run


def test_every_command_sees_the_records_of_all_teams(command, box):
    """And delivers, rewrites and deletes each for its team, with a connection that only a team has, too."""
    listed = json.loads(command("journal", "list", "--json"))["records"]
    assert sorted(record["run_id"] for record in listed) == ["a1", "a2", "b1", "b2", "n1"]
    explained = json.loads(command("explain", "orders", "b1", "--json"))
    assert [record["run_id"] for record in explained["records"]] == ["b1"]
    assert "1 refused; fix the cause" in command("doctor")
    assert len(json.loads(command("journal", "flush", "--json", code=1))["delivered"]) == 3
    assert {row.request["idempotency_key"].rpartition("/")[2] for row in box.store.all()} == {"a1", "b1", "n1"}
    assert len(json.loads(command("journal", "retry", "--json"))["delivered"]) == 1
    seen = json.loads(command("-c", LOOK).splitlines()[-1])
    assert seen == {
        "page": "http://127.0.0.1/x/7",
        "records": {
            "a1": ["open", "alpha"],
            "a2": ["open", "alpha"],
            "b1": ["open", "beta"],
            "b2": ["open", "beta"],
            "n1": ["open", None],
        },
    }
    command("journal", "drop", *(record["name"] for record in listed), "--yes")
    assert json.loads(command("-c", LOOK).splitlines()[-1])["records"] == {}

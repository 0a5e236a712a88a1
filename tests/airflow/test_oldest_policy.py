"""Zero touch on the oldest supported Airflow, 2.11: by `dag.test()`, and with a scheduler that runs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_incident.sandbox.server import Sandbox
from tests.conftest import ROOT
from tests.doors import dag_named
from tests.zero_touch_dags import DAGS, source

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(not version("apache-airflow").startswith("2."), reason="for Airflow 2.11: make oldest"),
]

RUN = """
import json, sys
from airflow.models.dagbag import DagBag
bag = DagBag(sys.argv[1], include_examples=False)
states = {dag_id: dag.test().state for dag_id, dag in bag.dags.items()}
flags = {dag_id: [dag.has_on_failure_callback, dag.has_on_success_callback] for dag_id, dag in bag.dags.items()}
print(json.dumps({"errors": bag.import_errors, "states": states, "flags": flags}))
"""
REAL = ["plain", "both_levels", "tagged_callback", "sandbox_two", "tagged_off"]
"""What the scheduler runs: one task after the other, each in a process that starts anew."""


@pytest.fixture(scope="module")
def covered(airflow_db, installed, tmp_path_factory):
    """Make an Airflow whose DAGs nobody edited, and its environment."""
    with Sandbox(rate_limit=10_000) as here, Sandbox(rate_limit=10_000) as elsewhere:

        def home(*names: str) -> SimpleNamespace:
            folder = tmp_path_factory.mktemp("home")
            (folder / "airflow.db").write_bytes((airflow_db / "empty.db").read_bytes())
            (folder / "dags").mkdir()
            (folder / "dags" / "nobody_edits.py").write_text(source(*names))
            environment = os.environ | {
                "AIRFLOW_HOME": str(folder),
                "AIRFLOW_CONN_INCIDENT_IO_DEFAULT": here.connection_json(),
                "AIRFLOW_CONN_ELSEWHERE": elsewhere.connection_json(),
                "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
                "AIRFLOW__INCIDENT_IO__AUTO_OPEN": "true",
                "AIRFLOW__INCIDENT_IO__AUTO_RESOLVE": "true",
                "AIRFLOW__INCIDENT_IO__AUTO_EXCLUDE": "sandbox_*",
                "AIRFLOW__INCIDENT_IO__SEVERITY": "Minor",
                "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)]),
            }
            here.clear()
            return SimpleNamespace(path=folder, environment=environment, here=here, elsewhere=elsewhere)

        yield home


@pytest.fixture(scope="module")
def world(covered):
    """Run all DAGs once; tell what came in at two incident.ios."""
    home = covered(*DAGS)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(home.path / "dags")],
        env=home.environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert not seen["errors"]
    return SimpleNamespace(**seen, heard=heard(home), here=home.here.incidents, elsewhere=home.elsewhere.incidents)


def heard(home) -> list[list[str]]:
    """Return what the DAGs' own callbacks have told, each as [dag_id, word]."""
    file = home.path / "heard"
    return sorted(line.split() for line in file.read_text().splitlines()) if file.exists() else []


@pytest.mark.parametrize("dag_id", DAGS)
def test_each_failed_run_has_what_its_settings_say(world, dag_id):
    """One incident, as severe as the tag or airflow.cfg says; none where it is off or excluded; their callbacks ran."""
    *_, severity, told = DAGS[dag_id]
    assert world.states[dag_id] == ("success" if dag_id == "good" else "failed")
    incidents = [row for row in world.here if dag_named(row["name"]) == dag_id]
    assert [row["severity"]["name"] for row in incidents] == ([severity] if severity else [])
    assert [word for dag, word in world.heard if dag == dag_id] == told


def test_a_tag_names_another_connection(world):
    assert [dag_named(row["name"]) for row in world.elsewhere] == ["tagged_conn"]


def test_airflow_is_told_that_there_are_callbacks(world):
    """The scheduler asks these flags, set when a DAG is made, and tells the DAG processor nothing without them."""
    assert world.flags["plain"] == [True, True]
    assert world.flags["sandbox_one"] == [False, False]
    assert world.flags["tagged_off"] == [True, False]


@pytest.fixture
def scheduled(covered):
    """Run this version's scheduler, with its DAG processor, until some DAGs have failed and told."""
    home = covered(*REAL)
    environment = home.environment | {
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor",  # it starts the command `airflow`
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    log = home.path / "scheduler.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "scheduler", "--skip-serve-logs"],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield SimpleNamespace(**vars(home) | {"environment": environment}, process=process, log=log)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


TRIGGER = """
import sys, time
from airflow.api.common.trigger_dag import trigger_dag
from airflow.exceptions import DagNotFound
for dag_id in sys.argv[1:]:
    end = time.monotonic() + 120
    while True:
        try:
            trigger_dag(dag_id, run_id="first")
            break
        except DagNotFound:
            assert time.monotonic() < end, dag_id
            time.sleep(0.5)
"""


def test_a_scheduler_that_runs_calls_ours_and_theirs(scheduled):
    """Task and DAG level, in processes of their own; one incident for both, none where a DAG is left out."""
    command = [sys.executable, "-c", TRIGGER, *REAL]
    done = subprocess.run(command, env=scheduled.environment, check=False, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr + scheduled.log.read_text()[-3000:]
    expected = sorted([dag_id, word] for dag_id in REAL for word in DAGS[dag_id][3])
    severities = {dag_id: DAGS[dag_id][2] for dag_id in REAL if DAGS[dag_id][2]}
    asked = ("plain", 2), ("both_levels", 2), ("tagged_callback", 2)

    def keys() -> list[str]:
        return [seen.body["idempotency_key"] for seen in scheduled.here.requests if seen.method == "POST"]

    def is_over() -> bool:
        return heard(scheduled) == expected and len(keys()) >= sum(count for _, count in asked)

    end = time.monotonic() + 240
    while not is_over() and time.monotonic() < end and scheduled.process.poll() is None:
        time.sleep(0.5)
    assert heard(scheduled) == expected, scheduled.log.read_text()[-3000:]
    assert sorted(keys()) == sorted(
        f"airflow/tests/dag/{dag_id}/run/first" for dag_id, count in asked for _ in range(count)
    )
    assert {dag_named(row["name"]): row["severity"]["name"] for row in scheduled.here.incidents} == severities
    assert len(scheduled.here.incidents) == len(severities)

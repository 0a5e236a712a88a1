"""Zero touch in a whole Airflow that runs: DAGs that nobody edited, covered by a few lines of configuration."""

import contextlib
import os
import shutil
from collections import Counter
from types import SimpleNamespace

import pytest

from airflow_incident.sandbox.server import Sandbox
from tests.airflow.running_airflow import RunningAirflow
from tests.airflow_versions import LISTS_FAILED, RUNS_WHOLE
from tests.doors import dag_named
from tests.zero_touch_dags import DAGS, HEAD, MAJOR, MINOR, source

pytestmark = [pytest.mark.airflow, RUNS_WHOLE]

OPTIONS = {
    "AUTO_OPEN": "true",
    "AUTO_RESOLVE": "true",
    "AUTO_INCLUDE": "[!_]*",
    "AUTO_EXCLUDE": "sandbox_*, nothing_?",
    "SEVERITY": "Minor",
    "JOURNAL": "true",
    "STORM_LIMIT": "0",
    "STORM_LIMIT_PER_DAG": "0",
}
AT_ONCE = 4
"""Runs that go on at the same time; SQLite takes no more."""
OVER = {"failed", "success"}

FACTORY = """
WISHES = {"factory_plain": [], "factory_major": ["incident:severity=Major"], "factory_off": ["incident:off"]}
for name, tags in WISHES.items():
    with DAG(name, schedule=None, tags=tags, on_failure_callback=Theirs("run")):
        boom()
with DAG("killed", schedule=None):
    @task
    def greedy():
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    greedy()
for name in ("_private", "mends", "mends_alone", "mends_elsewhere", "mends_off"):
    tags = {"mends_elsewhere": ["incident:conn=elsewhere"], "mends_off": ["incident:off"]}.get(name, [])
    with DAG(name, schedule=None, tags=tags, on_success_callback=None if name == "mends_alone" else [Theirs("good")]):
        @task
        def load(dag_run=None):
            if not dag_run.clear_number:
                raise ValueError("three bad rows")
        load()
"""
MENDED = ["mends", "mends_alone", "mends_elsewhere", "mends_off"]
MADE: dict[str, tuple[str | None, list[str]]] = {
    "factory_plain": (MINOR, ["run"]),
    "factory_major": (MAJOR, ["run"]),
    "factory_off": (None, ["run"]),
    "killed": (MINOR, []),
    "_private": (None, []),
    "mends": (MINOR, ["good"]),
    "mends_alone": (MINOR, []),
    "mends_elsewhere": (None, ["good"]),
    "mends_off": (None, ["good"]),
}
"""How severe is the incident of what comes from a loop, and what its own callbacks have told."""
EXPECTED = {name: (severity, told) for name, (_, _, severity, told) in DAGS.items()} | MADE
ELSEWHERE = {"tagged_conn", "mends_elsewhere"}


@pytest.fixture(scope="module")
def world(airflow_db, installed, tmp_path_factory):
    """Run every DAG once, clear those that mend, and tell what came in at two incident.ios."""
    home = tmp_path_factory.mktemp("zero_touch")
    shutil.copy(airflow_db / "empty.db", home / "airflow.db")
    (home / "dags").mkdir()
    for name in DAGS:
        (home / "dags" / f"{name}.py").write_text(source(name))
    (home / "dags" / "factory.py").write_text(HEAD + FACTORY)
    with (
        Sandbox(rate_limit=10_000) as here,
        Sandbox(rate_limit=10_000) as elsewhere,
        pytest.MonkeyPatch.context() as environment,
    ):
        for name, value in OPTIONS.items():
            environment.setenv(f"AIRFLOW__INCIDENT_IO__{name}", value)
        environment.setenv("PYTHONPATH", os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")]))
        with RunningAirflow(home) as airflow:
            for conn_id, box in {"incident_io_default": here, "elsewhere": elsewhere}.items():
                fields = {"conn_type": "incident_io", "host": box.url, "password": box.api_key}
                airflow.call("POST", "connections", connection_id=conn_id, **fields)
            seen = SimpleNamespace(airflow=airflow, home=home, here=here, elsewhere=elsewhere, states={})
            names = list(EXPECTED)
            for start in range(0, len(names), AT_ONCE):
                seen.states |= run(airflow, names[start : start + AT_ONCE])
            patiently(airflow, lambda: opened(here) >= {name for name in EXPECTED if EXPECTED[name][0]})
            patiently(airflow, lambda: opened(elsewhere) >= ELSEWHERE)
            for name in MENDED:
                path = f"dags/{name}/clearTaskInstances"
                airflow.call("POST", path, dag_run_id="first", dry_run=False, only_failed=True)
                airflow.wait_for_state("success", name)
            expected = Counter((name, word) for name, (_, told) in EXPECTED.items() for word in told)
            patiently(airflow, lambda: not expected - heard(home))
            patiently(airflow, lambda: len(closed(here)) == len(closed(elsewhere)) + 1 == 2)
            yield seen


def run(airflow, dag_ids) -> dict[str, str]:
    """Start some DAGs, wait until they have ended, and return how."""
    for dag_id in dag_ids:
        airflow.trigger(dag_id)
    for dag_id in dag_ids:
        airflow.wait(lambda dag_id=dag_id: airflow.state(dag_id) in OVER, 60, f"end of {dag_id}")
    return {dag_id: airflow.state(dag_id) for dag_id in dag_ids}


def patiently(airflow, until) -> None:
    """Wait for what is on its way; where it does not come, the tests say what is missing."""
    with contextlib.suppress(AssertionError):
        airflow.wait(until, 30, "answer")


def incidents(box, dag_id: str) -> list:
    """Return each incident that a run of this DAG has opened, with what asked for it."""
    key = f"airflow/tests/dag/{dag_id}/run/first"
    return [row for row in box.store.all() if row.request["idempotency_key"].startswith(key)]


def opened(box) -> set[str]:
    return {row.request["idempotency_key"].split("/")[3] for row in box.store.all()}


def closed(box) -> list[str]:
    return [dag_named(row["name"]) for row in box.incidents_v2 if row["incident_status"]["category"] == "closed"]


def heard(home) -> Counter[tuple[str, ...]]:
    """Count what the DAGs' own callbacks have told."""
    file = home / "heard"
    return Counter(tuple(line.split()) for line in file.read_text().splitlines()) if file.exists() else Counter()


@pytest.mark.parametrize("dag_id", EXPECTED)
def test_each_failed_run_has_what_its_settings_say(world, dag_id):
    """One incident, as severe as the tag or airflow.cfg says, at the connection that is meant; or none at all."""
    severity, told = EXPECTED[dag_id]
    assert world.states[dag_id] == ("success" if dag_id == "good" else "failed")
    rows = incidents(world.here, dag_id)
    assert [row.incident["severity"]["name"] for row in rows] == ([severity] if severity else [])
    assert [row.request["idempotency_key"] for row in rows] == [f"airflow/tests/dag/{dag_id}/run/first"] * len(rows)
    assert [dag_named(row.incident["name"]) for row in rows] == [dag_id] * len(rows)
    assert len(incidents(world.elsewhere, dag_id)) == (dag_id in ELSEWHERE)
    assert Counter({word: count for (dag, word), count in heard(world.home).items() if dag == dag_id}) == Counter(told)


def test_only_what_recovered_is_closed(world):
    """Of a cleared run that succeeds, at the connection that its tag names."""
    assert sorted(closed(world.here)) == ["mends", "mends_alone"]
    assert closed(world.elsewhere) == ["mends_elsewhere"]


def test_a_task_tells_at_once_and_with_its_exception(world):
    """Also a task of a DAG that nobody edited, and a mapped one."""
    for dag_id in ("plain", "mapped", "factory_plain"):
        (row,) = incidents(world.here, dag_id)
        assert "**Error:** `ValueError`" in row.incident["summary"]


def test_what_no_task_can_tell_is_told_by_the_dag(world):
    """A process that is killed takes its task's callback with it; of itself this DAG has no callback."""
    (row,) = incidents(world.here, "killed")
    assert ("**Failed task:** `greedy`" in row.incident["summary"]) is LISTS_FAILED


def test_the_dag_file_s_loading_log_says_which_tag_is_ignored(world):
    """A DAG that fails to load would have no run; the one with odd tags says so where its file is loaded."""
    logs = (world.home / "logs" / "dag_processor").rglob("tagged_wrong.py.log")
    text = "".join(log.read_text() for log in logs)
    assert "DAG tagged_wrong: tags ignored: incident:on, incident:severity, incident:severity=Minor." in text
    errors = world.airflow.call("GET", "importErrors")
    assert errors["total_entries"] == 0

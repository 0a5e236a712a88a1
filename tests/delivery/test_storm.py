"""A storm among real processes, over real HTTP: whoever reads the incidents finds every failure."""

from collections import Counter

import pytest

from airflow_incident.core.failure import Failure
from airflow_incident.core.settings import Settings
from airflow_incident.delivery.report import IncidentContent, prepare
from airflow_incident.sandbox.server import Sandbox
from tests.file_store import FileStore, client_of, ended, flush_to, fork, report_to, wait_for

PROCESSES, DAGS, RUNS = 4, 20, 3
SEVERITIES = {"Minor": 1, "Major": 2, "Critical": 3}
LIMITS = {"storm_dag": 5, "storm_connection": 20}


def told_of(dag, run):
    """Prepare a failure: every fifth DAG's is critical, and every seventh's is private."""
    settings = Settings(
        severity="Critical" if dag % 5 == 0 else "Minor", visibility="private" if dag % 7 == 0 else "public"
    )
    failure = Failure(dag_id=f"dag{dag}", run_id=f"r{run}", run_url=page(dag, run))
    return prepare(failure, settings, IncidentContent(), deployment="tests", redact=str)


def page(dag, run):
    return f"https://airflow.example.com/dags/dag{dag}/runs/r{run}"


def work_off(place, url, store):
    client = client_of(url)
    for number in range(place, DAGS * RUNS, PROCESSES):
        report_to(url, store, told_of(number % DAGS, number // DAGS), client=client, has_time=lambda: True, **LIMITS)
    client.close()


@pytest.fixture
def box():
    with Sandbox() as box:
        yield box


def test_sixty_runs_of_twenty_dags_are_all_found(box, tmp_path):
    """In an incident of their own, or by a link in the storm's, which is no less severe and no more public."""
    store = FileStore(tmp_path)
    pids = [fork(lambda place=place: work_off(place, box.url, store)) for place in range(PROCESSES)]
    with ended(pids):
        assert wait_for(*pids) == [0] * PROCESSES
    flush_to(box.url, store)
    records = store.records()
    storms = {record.key: record for record in records if record.level == "storm"}
    members = [record for record in records if record.state == "grouped"]
    own = [record for record in records if record.state == "open" and record.level != "storm"]
    print(f"\n{len(own)} alone, {len(members)} in {len(storms)} storms, {len(box.requests)} requests")  # noqa: T201
    assert len(members) + len(own) == DAGS * RUNS
    assert len(members) >= DAGS * RUNS / 4
    incidents = {incident["id"]: incident for incident in box.incidents}
    for record in members:
        storm = storms[record.storm]
        assert record.incident.id == storm.incident.id
        dag, run = int(record.dag_id.removeprefix("dag")), int(record.run_id.removeprefix("r"))
        mine, theirs = told_of(dag, run).draft, storm.like
        assert mine["visibility"] == "public" or theirs["visibility"] == "private"
        assert SEVERITIES[mine["severity"]] <= SEVERITIES[theirs["severity"]]
    for key, storm in storms.items():
        counted = Counter(record.dag_id for record in members if record.storm == key)
        summary = incidents[storm.incident.id]["summary"]
        assert ("**One failure**" if counted.total() == 1 else f"**{counted.total()} failures**") in summary
        assert all(f"- `{dag_id}`: {count}" in summary for dag_id, count in counted.items())
        (row,) = (row for row in box.store.all() if row.incident["id"] == storm.incident.id)
        links = {link["resource"]["permalink"] for link in row.attachments}
        assert links == {page(r.dag_id[3:], r.run_id[1:]) for r in members if r.storm == key}
    assert Counter(request.status for request in box.requests)[429] == 0

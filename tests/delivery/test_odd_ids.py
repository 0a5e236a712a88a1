"""Ids that are no plain words: they reach the journal, and no process of Airflow ends of them."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_incident.airflow_bridge import connections
from airflow_incident.airflow_bridge.config import read_config
from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.core.failure import Failure
from airflow_incident.delivery.opened import opened_by
from airflow_incident.delivery.record import dag_prefix, is_of_dag, read_record, record_name
from airflow_incident.errors import MissingConnectionError
from tests.airflow_versions import since
from tests.conftest import ROOT
from tests.journal_records import forget_all, keep

DAG_IDS = [
    "rec_ü",
    "日本",
    "مرحبا",
    "🚀",
    "a b/c'\"",
    "dots.and..dots.",
    "new\nline",
    "half \ud800 pair",
    "100%",
    "",
    "x" * 250,
    "ü" * 250,
]
PARSED = ["plain", "rec_ü", "日本", "dots.and..dots.", "ü" * 250]
"""Those that Airflow itself takes for a DAG's id."""

FILE = f"""
from airflow.providers.common.compat.sdk import DAG
from airflow_incident import open_incident

for dag_id in {PARSED!r}:
    globals()[dag_id] = DAG(dag_id, on_failure_callback=open_incident())
for number, conn_id in enumerate(["schlüssel", "日本", "a%C3%BC", "new\\nline", "x" * 70_000]):
    globals()[f"conn_{{number}}"] = DAG(f"conn_{{number}}", on_failure_callback=open_incident(conn_id=conn_id))
of_environment = DAG("of_environment", on_failure_callback=open_incident(conn_id="größe"))
"""


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_record_has_a_name_that_airflow_can_carry(dag_id):
    """Airflow writes it into a URL as it is: plain ASCII, at most 250 characters."""
    name = record_name(dag_id, "k")
    assert len(name) <= 250
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    assert is_of_dag(name, dag_id)
    assert not is_of_dag(record_name(dag_id + ".b", "k"), dag_id) or len(dag_id) >= 100


@given(st.text(max_size=300), st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_a_dag_is_called_its_name_is_plain(dag_id, key):
    """The key's digest tells apart what looks alike."""
    name = record_name(dag_id, key)
    assert name.isascii()
    assert name.isprintable()
    assert len(name) <= 250
    assert name.startswith(dag_prefix(dag_id))
    assert name != record_name(dag_id, key + "x")


def test_a_name_shows_what_is_plain_of_the_id():
    """A person who looks at Airflow's Variables recognizes the DAG."""
    assert record_name("rec_ü.v2", "k").startswith("incident_io.rec__.v2.")


def test_dags_whose_names_look_alike_keep_their_incidents_apart(airflow_db):
    """Two ids without a plain letter share what their records' names begin with."""
    forget_all()
    names = [keep(dag=dag, run=run, state="open").name for dag, run in (("日本", "r1"), ("中国", "r2"))]
    assert dag_prefix("日本") == dag_prefix("中国")
    assert len(set(names)) == 2
    assert [read_record(name, Variables().get(name) or "").dag_id for name in names] == ["日本", "中国"]
    failure = Failure(dag_id="韓国", run_id="r1", level="dag")
    assert opened_by(failure, deployment="tests", conn_id="incident_io_default", store=Variables()) == {}
    found = opened_by(
        failure._replace(dag_id="日本"), deployment="tests", conn_id="incident_io_default", store=Variables()
    )
    assert len(found) == 1
    forget_all()


@since("3.0", "DAG processor that answers its children itself")
def test_the_dag_processor_lives_whatever_ids_it_meets(airflow_db, sandbox, connect, monkeypatch, tmp_path):
    """Every failure but those of a connection that nobody can ask for has its incident and its record."""
    from airflow.configuration import conf

    forget_all()
    connect(sandbox.url)
    connect(sandbox.url, conn_id="größe")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", conf.get("core", "fernet_key"))
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMIT", "0")
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    file = tmp_path / "odd.py"
    file.write_text(FILE)
    dag_ids = [*(f"conn_{number}" for number in range(5)), *PARSED, "of_environment"]
    arguments = [sys.executable, "-m", "tests.delivery.processor_batch", str(file), *dag_ids]
    ended = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = ended.stdout + ended.stderr
    keys = {row.request["idempotency_key"] for row in sandbox.store.all()}
    assert len(keys) == len(PARSED) + 1, said
    records = [read_record(name, Variables().get(name) or "") for name in Variables().names("incident_io.")]
    assert sorted(r.dag_id for r in records if r.state == "open") == sorted([*PARSED, "of_environment"]), said
    assert "journal cannot be used" not in said
    forget_all()


@pytest.fixture
def answered_by(monkeypatch):
    """Have a supervisor, which is the DAG processor itself, or that of a task."""

    def by(*, in_process):
        monkeypatch.setattr(connections, "supervisor", object)
        monkeypatch.setattr(connections, "is_in_processor", lambda: in_process)

    return by


@pytest.mark.parametrize("conn_id", ["ü", "日本", "a%C3%BC", "🚀"])
def test_an_id_that_is_not_plain_is_not_asked_of_the_process_that_would_end_of_it(conn_id, answered_by):
    """A task's supervisor asks an API server over HTTP, which takes any id."""
    answered_by(in_process=False)
    connections._check_id(conn_id)
    answered_by(in_process=True)
    with pytest.raises(MissingConnectionError, match="ASCII letters"):
        connections._check_id(conn_id)


@pytest.mark.parametrize("conn_id", ["new\nline", "x" * 251, "half \ud800 pair", "nul\0"])
def test_an_id_that_no_connection_has_is_asked_of_nobody(conn_id):
    """Before Airflow 3.2 a task waits for ever when its supervisor has ended of such an id."""
    with pytest.raises(MissingConnectionError, match="250 characters"):
        read_config(conn_id)


@pytest.mark.parametrize("conn_id", ["incident_io_default", "a b", "a/b:c#d!e(f)\\g", "x" * 250])
def test_a_plain_id_is_asked_for(conn_id, answered_by):
    """As much as Airflow allows, and more."""
    answered_by(in_process=True)
    connections._check_id(conn_id)

"""The journal through the doors, in Airflow's own Variables."""

import asyncio
import importlib

import pytest

from airflow_incident import CreateIncidentOperator, open_incident
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.delivery.ledger import PREFIX as LEDGER_PREFIX
from airflow_incident.delivery.record import PREFIX, read_record
from airflow_incident.delivery.run import flush
from airflow_incident.errors import TransportError
from tests.airflow_dags import load_dag
from tests.airflow_versions import AIRFLOW, TELLS_EXCEPTION
from tests.contract import check_all

pytestmark = pytest.mark.release
AWAY = "http://127.0.0.1:9"
SOURCE = """
from airflow_incident.airflow_bridge.compat import DAG, task
from airflow_incident import CreateIncidentOperator, open_incident

with DAG("{name}", schedule=None, on_failure_callback=open_incident(),
         default_args={{"on_failure_callback": open_incident()}}) as dag:

    @task
    def load(shop):
        raise ValueError(f"shop {{shop}}")

    load.expand(shop=[1, 2, 3]) >> CreateIncidentOperator(task_id="tell", trigger_rule="one_failed", then_fail=True)
"""


GOT_OVER = {
    "teardown": "fine() >> boom().as_teardown()",
    "handled": "boom() >> fine.override(trigger_rule='one_failed')()",
}
RESOLVING = """
from airflow_incident import open_incident, resolve_incident
from airflow_incident.airflow_bridge.compat import DAG, task

@task
def boom():
    raise ValueError("gone")

@task
def fine():
    pass

with DAG("{name}", schedule=None, default_args={{"on_failure_callback": open_incident()}},
         on_failure_callback=open_incident(), on_success_callback=resolve_incident()) as dag:
    {body}
"""


class Dag:
    dag_id = "orders"


def context(run="r1", **more):
    return {"dag": Dag(), "run_id": run, "reason": "task_failure"} | more


@pytest.fixture(autouse=True)
def store(airflow_db, monkeypatch, brisk):
    """Turn the journal on, and begin with an empty one."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    PROCESS.reset()
    variables = Variables()
    for prefix in (PREFIX, LEDGER_PREFIX):
        for name in variables.names(prefix):
            variables.delete(name)
    return variables


def records(store):
    return [read_record(name, store.get(name)) for name in store.names(PREFIX)]


def test_one_run_is_one_request_whatever_calls(connected, airflow_db, store):
    """Three mapped tasks, an operator that fails after opening, the DAG: six reports, one request for an incident."""
    load_dag(airflow_db, SOURCE.format(name="journalled"), "journalled").test()
    created = [r for r in connected.requests if r.path == "/v1/incidents"]
    assert len(created) == 1
    (record,) = records(store)
    assert (record.state, record.suppressed, record.incident.reference) == ("open", 5, "INC-1")
    check_all(connected)


@pytest.mark.parametrize("name", GOT_OVER)
def test_a_run_that_got_over_a_failure_leaves_nothing_open(connected, airflow_db, store, name):
    """A failed teardown leaves a run successful, and so does a task that handles another one's failure."""
    ended = load_dag(airflow_db, RESOLVING.format(name=name, body=GOT_OVER[name]), name).test()
    assert ended.state == "success"
    (incident,) = connected.incidents_v2
    assert (incident["name"], incident["incident_status"]["name"]) == (
        f"DAG {name} failed: boom" + " (ValueError)" * TELLS_EXCEPTION,
        "Closed",
    )
    assert records(store) == []


def test_a_coroutine_writes_the_same_journal(connected, store):
    """The triggerer's way: written, sent, suppressed."""
    for _ in range(3):
        asyncio.run(open_incident().async_notify(context()))
    assert len(connected.requests) == 1
    assert records(store)[0].suppressed == 2


def test_a_coroutine_s_failure_is_kept_in_an_outage(connect, sandbox, store, caplog):
    connect(AWAY)
    asyncio.run(open_incident().async_notify(context()))
    assert records(store)[0].state == "pending"
    assert "is kept in the journal" in caplog.text
    connect(sandbox.url)
    assert len(flush().opened) == 1


def test_an_outage_is_remembered_for_a_minute(connect, sandbox, store, monkeypatch):
    """The second failure of a process is only written down, and nothing is lost."""
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "7")
    connect(AWAY)
    for run in ("r1", "r2", "r3"):
        open_incident()(context(run))
    assert [r.attempts for r in records(store)].count(0) == 2
    connect(sandbox.url)
    assert len(flush().opened) == 3
    assert {i["name"] for i in sandbox.incidents} == {"DAG orders failed"}


def test_an_operator_tries_in_an_outage_and_its_failure_is_kept(connect, sandbox, store, monkeypatch):
    """Airflow retries the step; should it give up, a flush delivers."""
    monkeypatch.setattr("airflow_incident.core.timing.BUDGET", 1.0)
    connect(AWAY)
    step = CreateIncidentOperator(task_id="tell", name="mine")
    with pytest.raises(TransportError):
        step.execute(context(ti=None))
    assert records(store)[0].state == "pending"
    connect(sandbox.url)
    flush()
    assert [i["name"] for i in sandbox.incidents] == ["mine"]


def test_a_late_report_tells_when_the_failure_was(connect, sandbox, store):
    """The text is the one that was written down at the time."""
    connect(AWAY)
    open_incident()(context())
    failed_at = records(store)[0].failed_at
    connect(sandbox.url)
    flush()
    assert f"**Failed at:** {failed_at:%Y-%m-%d %H:%M:%S} UTC" in sandbox.incidents[0]["summary"]


def test_a_record_holds_no_secret(connected, store):
    """Neither the key nor what an exception quotes."""

    class Ti:
        task_id = "load"

    error = ValueError("password=hunter2 sandbox-key")
    open_incident(exception_detail="traceback")(context(ti=Ti(), exception=error))
    names = [*store.names(PREFIX), *store.names(LEDGER_PREFIX)]
    assert names
    for name in names:
        assert "hunter2" not in store.get(name)
        assert "sandbox-key" not in store.get(name)


def test_a_journal_that_is_turned_off_is_no_trouble(connected, store, monkeypatch, caplog):
    """Each call asks, nothing is written, nobody is warned."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "False")
    open_incident()(context())
    open_incident()(context())
    assert len(connected.requests) == 2
    assert records(store) == []
    assert "journal" not in caplog.text


def test_a_cache_of_airflow_s_is_read_past(store, monkeypatch):
    """`[secrets] use_cache` keeps what the DAG processor has read, while tasks write something newer."""
    home = "airflow.sdk.execution_time.cache" if AIRFLOW >= (3, 1) else "airflow.secrets.cache"
    SecretCache = importlib.import_module(home).SecretCache  # noqa: N806 -- a class
    name = f"{PREFIX}orders.cached"
    store.set(name, "new")
    monkeypatch.setenv("AIRFLOW__SECRETS__USE_CACHE", "True")
    SecretCache.init()
    try:
        SecretCache.save_variable(name, "old")
        assert store.get(name) == "new"
    finally:
        SecretCache.reset()
        store.delete(name)

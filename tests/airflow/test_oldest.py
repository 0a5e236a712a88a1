"""The oldest supported Airflow, 2.11: `make oldest` runs this file there, with pytest and nothing else."""

import copy
import json
import os
import socket
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from urllib.parse import quote

import httpx
import pytest

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(not version("apache-airflow").startswith("2."), reason="for Airflow 2.11: make oldest"),
]

SOURCE = """
from airflow import DAG
from airflow.decorators import task
from airflow_incident import CreateIncidentOperator, open_incident

with DAG(
    {name!r},
    default_args={{"on_failure_callback": open_incident(), "owner": "data"}},
    on_failure_callback=open_incident(),
    schedule=None,
    tags=["night"],
    {arguments}
) as dag:
    @task
    def boom():
        raise ValueError("no such table: orders")

    {body}
"""
GUARDED = "boom() >> CreateIncidentOperator(task_id='tell', trigger_rule='one_failed', then_fail={then_fail})"


@pytest.fixture
def load(airflow_db):
    """Write a DAG file into the tests' DAGs folder and import it."""
    from tests.airflow_dags import load_dag

    def load(name: str, body: str = "boom()", arguments: str = ""):
        return load_dag(airflow_db, SOURCE.format(name=name, body=body, arguments=arguments), name)

    return load


def test_one_failed_run_is_one_incident(load, connected, monkeypatch):
    """Both levels tell the same failure; the incident has the exception and this version's pages."""
    monkeypatch.setenv("AIRFLOW__WEBSERVER__BASE_URL", "https://airflow.example.com/prod")
    run = load("orders").test()
    assert run.state == "failed"
    (incident,) = connected.incidents
    run_id = run.run_id.replace(":", "%3A").replace("+", "%2B")
    assert {seen.body["idempotency_key"] for seen in connected.requests} == {f"airflow/tests/dag/orders/run/{run_id}"}
    assert len(connected.requests) == 2
    text = incident["summary"]
    page = f"https://airflow.example.com/prod/dags/orders/grid?dag_run_id={run_id}"
    assert f"]({page}) (manual)" in text
    assert text.startswith("**Error:** `ValueError` in `boom`, at `")
    assert "`\n```\nno such table: orders\n```" in text
    assert f"**Failed task:** `boom`, [log]({page}&task_id=boom&tab=logs)" in text
    assert "- **Attempt:** 1 of 1" in text
    assert "- **Owners:** data" in text
    assert "- **Tags:** `night`" in text


def test_without_a_public_address_there_are_no_links(load, connected, monkeypatch):
    """An address that only the web server's own machine knows is of no use to a reader elsewhere."""
    monkeypatch.setenv("AIRFLOW__WEBSERVER__BASE_URL", "")
    load("nowhere").test()
    assert "](" not in connected.incidents[0]["summary"]


def test_mapped_tasks_and_retries_are_one_incident(load, connected):
    """Three mapped tasks fail twice each, then the run: one incident, and none before the last attempt."""
    body = """
    from datetime import timedelta
    @task(retries=1, retry_delay=timedelta(0))
    def check(number, ti=None):
        raise ValueError(f"attempt {ti.try_number}")
    check.expand(number=[1, 2, 3])"""
    assert load("mapped", body).test().state == "failed"
    (incident,) = connected.incidents
    assert "- **Attempt:** 2 of 2" in incident["summary"]
    assert len(connected.requests) == 4


def test_two_runs_have_their_own_texts(airflow_db, connected):
    """All runs share one notifier in one process; none is told another's story."""
    from tests.airflow_dags import load_dag

    source = SOURCE.replace("open_incident()", "open_incident(name='{{{{ run_id }}}} of {{{{ dag.dag_id }}}}')")
    dag = load_dag(airflow_db, source.format(name="shared", body="boom()", arguments=""), "shared")
    runs = [dag.test().run_id, dag.test().run_id]
    assert [row["name"] for row in connected.incidents] == [f"{run_id} of shared" for run_id in runs]


@pytest.mark.parametrize("then_fail", [True, False])
def test_an_operator_as_last_task_has_a_link(load, connected, then_fail):
    """It keeps the run failed with `then_fail`; its XCom and its button lead to the incident."""
    from airflow.models.taskinstance import TaskInstanceKey

    dag = load(f"leaf_{then_fail}".lower(), GUARDED.format(then_fail=then_fail))
    run = dag.test()
    assert run.state == ("failed" if then_fail else "success")
    (incident,) = connected.incidents
    ti = run.get_task_instance("tell")
    told = {field: incident[field] for field in ("id", "reference", "permalink")}
    assert ti.xcom_pull(task_ids="tell", key="incident_io") == told
    assert ti.xcom_pull(task_ids="tell") == told
    operator = _serialized(dag).get_task("tell")
    assert isinstance(ti.key, TaskInstanceKey)
    assert operator.get_extra_links(ti, "incident.io") == incident["permalink"]


def test_a_dag_with_callbacks_is_serialized(load):
    """This version writes the source of a callback in default_args into the DAG; that is stable and small."""
    dag = load("serialized")
    text = json.dumps(_as_stored(dag))
    assert text == json.dumps(_as_stored(load("serialized")))
    assert len(text) < 10_000
    assert _serialized(dag).dag_id == "serialized"


def test_callbacks_can_be_copied(load):
    """This version copies default_args for each DAG, deeply."""
    dag = load("copied")
    callback = dag.default_args["on_failure_callback"]
    twin = copy.deepcopy(callback)
    assert twin.options == callback.options
    assert copy.deepcopy(dag).dag_id == "copied"


def test_airflow_finds_the_provider(airflow_db):
    """The command line knows connection type, notifier, link and options."""

    def ask(*arguments: str) -> str:
        command = [sys.executable, "-m", "airflow", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    assert '"airflow-incident"' in ask("providers", "list", "-o", "json")
    assert '"airflow_incident.hooks.IncidentHook"' in ask("providers", "hooks", "-o", "json")
    assert "# enabled = " in ask("config", "list", "--section", "incident_io", "--defaults")


def test_a_template_touches_no_variable_that_it_does_not_name():
    """Airflow 2 warns whoever reads one of those that it is to lose."""
    from airflow.utils.context import Context

    from airflow_incident.airflow_bridge.reading import render

    context = Context({"run_id": "r1", "execution_date": "2026-03-04"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert render("Run {{ run_id }}", context) == "Run r1"


def test_the_connection_form_is_drawn():
    """Before 3.2 the hook's class builds the form; Airflow's own manager takes all of it."""
    from airflow.providers_manager import ProvidersManager

    from airflow_incident.core.settings import options_in

    manager = ProvidersManager()
    assert "incident_io" in manager.hooks
    widgets = {name for name in manager.connection_form_widgets if name.startswith("extra__incident_io__")}
    assert widgets == {f"extra__incident_io__{option.name}" for option in options_in("connection")}
    hidden = {n for n in widgets if manager.connection_form_widgets[n].field.field_class.__name__ == "PasswordField"}
    assert hidden == {f"extra__incident_io__{option.name}" for option in options_in("connection") if option.secret}
    mode = manager.connection_form_widgets["extra__incident_io__mode"].field.kwargs
    assert mode["description"].endswith("One of: real, test.")
    assert manager.field_behaviours["incident_io"]["hidden_fields"] == ["login", "port", "schema", "extra"]
    assert manager.field_behaviours["incident_io"]["relabeling"] == {"host": "Base URL", "password": "API key"}
    assert "airflow_incident.links.IncidentLink" in manager.extra_links_class_names
    assert "airflow_incident.notifications.IncidentNotifier" in manager.notification


def test_test_connection_asks_only_who_the_key_is(connected):
    """The button in the connection's form opens nothing."""
    from airflow.models.connection import Connection

    told = Connection("incident_io_default", conn_type="incident_io").test_connection()
    assert told == (True, "Connected to incident.io as 'Sandbox key', deployment 'tests'.")
    assert [seen.path for seen in connected.requests] == ["/v1/identity"]


def _as_stored(dag):
    from airflow.serialization.serialized_objects import SerializedDAG

    return SerializedDAG.to_dict(dag)


def _serialized(dag):
    from airflow.serialization.serialized_objects import SerializedDAG

    return SerializedDAG.from_dict(_as_stored(dag))


def test_the_journal_keeps_and_delivers(load, sandbox, connect, monkeypatch, capsys):
    """Written down before it is sent, suppressed when it comes again, kept in an outage, delivered by the command."""
    from airflow_incident.airflow_bridge.variables import Variables
    from airflow_incident.cli.main import main
    from airflow_incident.delivery.record import PREFIX, read_record
    from tests.doors import forget_process

    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    store = Variables()

    def states():
        records = [read_record(name, store.get(name)) for name in store.names(f"{PREFIX}kept.")]
        return sorted(record.state for record in records)

    connect(sandbox.url)
    dag = load("kept")
    dag.test()
    assert len(sandbox.requests) == 1
    assert states() == ["open"]
    connect("http://127.0.0.1:9")
    dag.test()
    assert states() == ["open", "pending"]
    connect(sandbox.url)
    forget_process()
    assert main(["journal", "flush"]) == 0
    assert states() == ["open", "open"]
    assert len(sandbox.incidents) == 2
    assert "1 delivered" in capsys.readouterr().out


def test_the_flush_dag_delivers_what_waits(airflow_db, connected):
    """Tasks have the database at hand here, as the command has."""
    from tests.airflow_dags import load_dag
    from tests.journal_records import keep, kept

    record = keep()
    source = "from airflow_incident import journal_flush_dag\n\ndag = journal_flush_dag(schedule=None)\n"
    assert load_dag(airflow_db, source, "flush").test().state == "success"
    assert kept(record.name).state == "open"
    assert len(connected.incidents) == 1


def test_a_cleared_run_that_succeeds_closes_its_incident(airflow_db, sandbox, connect, monkeypatch):
    """By names, and through this version's own context."""
    from tests.airflow_dags import load_dag

    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    connect(sandbox.url)
    source = """
from airflow import DAG
from airflow.decorators import task
from airflow_incident import open_incident, resolve_incident

with DAG(
    "mended", on_failure_callback=open_incident(severity="major"), on_success_callback=resolve_incident(), schedule=None
) as dag:
    @task
    def boom(dag_run=None):
        if not dag_run.clear_number:
            raise ValueError("no such table: orders")

    boom()
"""
    dag = load_dag(airflow_db, source, "mended")
    run = dag.test()
    assert run.state == "failed"
    (opened,) = sandbox.incidents
    assert (opened["severity"]["name"], opened["status"]) == ("Major", "triage")
    context = {"dag": dag, "dag_run": run, "run_id": run.run_id, "reason": "success"}
    run.clear_number = 1
    dag.on_success_callback(context)
    assert sandbox.incidents[0]["status"] == "closed"


def test_callbacks_that_are_swapped_say_so_and_do_nothing(airflow_db, sandbox, connect, monkeypatch):
    """With what this version gives the callbacks of tasks."""
    from tests.airflow_dags import load_dag
    from tests.doors import listen

    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    connect(sandbox.url)
    source = """
from airflow import DAG
from airflow.decorators import task
from airflow_incident import open_incident, resolve_incident

with DAG("swapped", schedule=None) as dag:
    swapped = {"on_success_callback": open_incident(), "on_failure_callback": resolve_incident()}
    @task(on_failure_callback=[open_incident(), resolve_incident(scope="task")])
    def fails():
        raise ValueError("no such table: orders")

    @task(**swapped)
    def succeeds():
        pass

    succeeds() >> fails()
"""
    with listen() as heard:
        load_dag(airflow_db, source, "swapped").test()
    assert [row["status"] for row in sandbox.incidents] == ["triage"]
    said = heard.texts()
    assert sum("NO incident was closed for DAG swapped" in line for line in said) == 1, said
    assert sum("NO incident was opened for DAG swapped" in line for line in said) == 1, said


def test_a_sensor_waits_until_an_incident_is_closed(airflow_db, connected):
    """In the task, and by the trigger that this version's triggerer would run."""
    import asyncio

    from airflow_incident.hooks import IncidentHook
    from airflow_incident.triggers import IncidentClosedTrigger
    from tests.airflow_dags import load_dag

    incident = IncidentHook().create_incident(idempotency_key="k")
    source = f"""
from airflow import DAG
from airflow_incident import IncidentClosedSensor

with DAG("held", schedule=None) as dag:
    IncidentClosedSensor(task_id="wait", incident_id={incident.id!r}, poke_interval=0.1, timeout=0.3)
"""
    dag = load_dag(airflow_db, source, "held")
    assert dag.test().state == "failed"
    connected.close(incident.id)
    assert dag.test().state == "success"

    async def first():
        return [event.payload["state"] async for event in IncidentClosedTrigger(incident_ids=[incident.id]).run()]

    assert asyncio.run(first()) == ["over"]


@pytest.fixture(scope="module")
def webserver(airflow_db, installed):
    """Run this version's webserver, open to everybody on this machine; return a client of it."""
    from tests.conftest import ROOT

    (airflow_db / "webserver_config.py").write_text("AUTH_ROLE_PUBLIC = 'Admin'\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": f"{installed}:{ROOT}",
        "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.default",
        "AIRFLOW__WEBSERVER__WARN_DEPLOYMENT_EXPOSURE": "False",
    }
    command = [sys.executable, "-m", "airflow", "webserver", "--hostname", "127.0.0.1", "--port", str(port)]
    log = airflow_db / "webserver.log"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--workers", "1"], env=environment, stdout=output, stderr=output)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
        try:
            end = time.monotonic() + 90
            while not _is_up(client):
                assert process.poll() is None and time.monotonic() < end, log.read_text()  # noqa: PT018 -- one reason
                time.sleep(0.2)
            yield client
        finally:
            process.terminate()
            process.wait(20)


def _is_up(client):
    try:
        return client.get("/health").is_success
    except httpx.TransportError:
        return False


TOLD_BY_DAG = """
from airflow import DAG
from airflow.decorators import task
from airflow_incident import CreateIncidentOperator, open_incident

with DAG({name!r}, on_failure_callback=open_incident(), schedule=None) as dag:
    @task
    def check(number):
        raise ValueError(number)

    @task
    def fine():
        pass

    {body}
"""


@pytest.mark.parametrize(
    ("name", "body", "buttons"),
    [
        ("told_by_dag", "fine() >> check.expand(number=[1, 2])", {"fine": -1, "check": 1}),
        ("told_by_step", "check(1) >> CreateIncidentOperator(task_id='tell', trigger_rule='one_failed')", {"tell": -1}),
        ("good", "fine()", {}),
    ],
)
def test_every_task_instance_of_a_failed_run_has_the_button(
    airflow_db, connected, webserver, monkeypatch, name, body, buttons
):
    """Plain, mapped, and one for a step that has its own; the webserver asks. A good run has none."""
    from airflow.models.serialized_dag import SerializedDagModel

    from tests.airflow_dags import load_dag

    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    dag = load_dag(airflow_db, TOLD_BY_DAG.format(name=name, body=body), name)
    dag.sync_to_db()
    SerializedDagModel.write_dag(dag)
    run_id = dag.test().run_id
    page = connected.incidents[0]["permalink"] if buttons else None
    for task_id, map_index in (buttons or {"fine": -1}).items():
        path = f"/api/v1/dags/{name}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/links"
        answer = webserver.get(path, params={"map_index": map_index})
        assert answer.json() == {"incident.io": page}, answer.text

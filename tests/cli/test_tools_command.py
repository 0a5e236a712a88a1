"""`airflow-incident send-test` and `explain`: see that an incident arrives, and why one is as it is."""

import io
import json
import os
import subprocess
import sys

import pytest

from airflow_incident import open_incident
from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.cli import main as cli
from airflow_incident.delivery.record import record_name
from airflow_incident.sandbox.server import Sandbox
from tests.cli.dag_runs import dag_run
from tests.contract import check_all
from tests.doors import API_KEY, dag_context, task_context
from tests.journal_records import forget_all, keep

KEY = "airflow/tests/dag/orders/run/r1"


@pytest.fixture(autouse=True)
def _journal(airflow_db, monkeypatch, capsys):
    """Turn the journal on, and begin with an empty one."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    with capsys.disabled():  # the handlers that Airflow makes keep the stream that they find
        forget_all()
    yield
    forget_all()


@pytest.fixture
def failed(airflow_db):
    """Let there be the failed run that is explained."""
    with dag_run("orders", "r1"):
        yield


@pytest.fixture
def run(capsys):
    """Run a command; return its exit code, what it printed and what it complained, free of the key."""

    def run(*arguments):
        capsys.readouterr()  # before 3.1 Airflow logs to standard output
        code = cli.main([*arguments])
        out, err = capsys.readouterr()
        assert API_KEY not in out + err
        return code, out, err

    return run


@pytest.fixture
def box(connect):
    with Sandbox(api_key=API_KEY) as served:
        connect(served.url, password=API_KEY, extra='{"severity": "Major"}')
        yield served


class Keyboard(io.StringIO):
    def isatty(self):
        return True


def complaint(err, command):
    """Return the one line of a complaint; Airflow's own lines begin with a date."""
    (line,) = [line for line in err.splitlines() if line.startswith("airflow-incident")]
    assert "Traceback" not in err
    assert line.startswith(f"airflow-incident {command}: ")
    return line


def test_a_test_incident_opens_with_the_connection_s_settings(run, box):
    """It is a test, public names are resolved, its link is printed, and nobody is asked without a terminal."""
    code, out, err = run("send-test")
    (incident,) = box.incidents
    assert code == 0
    assert err == ""
    assert out.splitlines() == [
        f"INC-1 is open, a test: {incident['permalink']}",
        "It stays open until somebody closes it.",
    ]
    assert (incident["mode"], incident["severity"]["name"]) == ("test", "Major")
    assert "deployment tests: nothing has failed" in incident["summary"]
    check_all(box)


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_where_incidents_are_turned_off_a_test_is_sent_and_says_so(run, box, monkeypatch, arguments):
    """Who asks for a test wants to see it arrive, and must not think that failures do."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ENABLED", "false")
    code, out, err = run("send-test", *arguments)
    assert (code, len(box.incidents)) == (0, 1)
    assert "[incident_io] enabled is false: no failure opens an incident here" in complaint(err, "send-test")
    assert "enabled" not in out


def test_each_test_is_an_incident_of_its_own(run, box):
    """Its key is none that a failure can have, and nothing is written down."""
    run("send-test")
    run("send-test")
    keys = {r.body["idempotency_key"] for r in box.requests if r.method == "POST"}
    assert len(keys) == len(box.incidents) == 2
    assert all(key.startswith("airflow/tests/test/") for key in keys)
    assert Variables().names("incident_io") == []


def test_a_test_incident_is_closed_again_on_request(run, box):
    assert run("send-test", "--close")[1].splitlines()[-1] == "It is closed again."
    assert box.incidents[0]["status"] == "closed"
    check_all(box)


@pytest.mark.parametrize(
    ("typed", "status"), [("\n", "closed"), ("y\n", "closed"), ("n\n", "triage"), ("no\n", "triage")]
)
def test_on_a_terminal_it_asks(run, box, monkeypatch, typed, status):
    monkeypatch.setattr(sys, "stdin", Keyboard(typed))
    assert "Close it again? [Y/n]" in run("send-test")[1]
    assert box.incidents[0]["status"] == status


def test_a_script_gets_json_and_no_question(run, box, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Keyboard("y\n"))
    told = json.loads(run("send-test", "--json")[1])
    assert told == {
        "version": 1, "id": box.incidents[0]["id"], "reference": "INC-1", "permalink": box.incidents[0]["permalink"],
        "closed": False, "error": None,
    }  # fmt: skip
    assert json.loads(run("send-test", "--json", "--close")[1])["closed"] is True


def test_what_cannot_be_closed_is_told_with_its_reference(run, connect):
    """A script learns both: which incident is open, and why it stays so."""
    with Sandbox(api_key=API_KEY, roles=("viewer", "incident_creator")) as box:
        connect(box.url, password=API_KEY)
        code, out, err = run("send-test", "--close")
        assert (code, out.split()[0]) == (1, "INC-1")
        assert "'incident editor'" in complaint(err, "send-test")
        code, out, err = run("send-test", "--close", "--json")
    told = json.loads(out)
    assert (code, told["reference"], told["closed"]) == (1, "INC-2", False)
    assert "'incident editor'" in told["error"]


MISTAKES = {
    "no connection": (None, "Add it: airflow connections add incident_io_default"),
    "wrong key": ({"password": "inc_wrong"}, "Put a valid API key into the connection's password."),
    "unknown name": ({"extra": '{"severity": "Odd"}'}, "there is no severity 'Odd'; known: Minor, Major, Critical"),
    "unreachable": ({"host": "http://127.0.0.1:9"}, "Check the base URL, DNS, proxy and CA bundle"),
    "another type": ({"conn_type": "http"}, "Connection type: is 'http'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.usefixtures("brisk")
def test_every_mistake_is_one_clear_line(run, box, connect, monkeypatch, mistake):
    """What is wrong and what to do, never a traceback, and nothing is opened."""
    fields, said = MISTAKES[mistake]
    if fields is None:
        monkeypatch.delenv("AIRFLOW_CONN_INCIDENT_IO_DEFAULT")
    else:
        connect(**{"host": box.url, "password": API_KEY} | fields)
    code, out, err = run("send-test")
    assert (code, out) == (1, "")
    assert said in complaint(err, "send-test")
    assert "inc_wrong" not in err
    assert box.incidents == []


def test_another_connection_can_be_named(run, box, connect):
    connect(box.url, conn_id="other", password=API_KEY)
    assert run("send-test", "--conn-id", "other")[0] == 0
    assert "severity" not in box.requests[-1].body


@pytest.mark.usefixtures("failed")
def test_a_key_is_explained_with_its_settings_and_their_origins(run, connect, monkeypatch):
    """Connection before airflow.cfg before the default, which is left out; what is secret is never shown."""
    extra = {"severity": "Major", "alert_source_token": "tok_9d1f77c3Xq", "custom_fields": {"Affected team": "Product"}}
    connect("http://127.0.0.1:9", password=API_KEY, extra=json.dumps(extra))
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__SEVERITY", "Minor")
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__VISIBILITY", "private")
    code, out, err = run("explain", "orders", "r1")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "The run's state is failed, and the journal has no record of it."
    assert lines[2].startswith("sends an incident with severity Major, visibility private, custom_fields")
    assert f"key {KEY}" in lines
    assert f"record {record_name('orders', KEY)}" in lines
    assert "cleared never" in lines
    assert lines[lines.index("SETTING VALUE FROM") + 1 :][:6] == [
        "deployment tests [incident_io] in airflow.cfg",
        "severity Major connection incident_io_default",
        "visibility private [incident_io] in airflow.cfg",
        'custom_fields {"Affected team": "Product"} connection incident_io_default',
        "alert_source_token *** connection incident_io_default",
        "Every other setting has its default; --all shows it.",
    ]
    assert "tok_9d1f77c3Xq" not in out
    every = [" ".join(line.split()) for line in run("explain", "orders", "r1", "--all")[1].splitlines()]
    assert {"scope run default", "enabled true default", "severity Major connection incident_io_default"} <= set(every)


def test_the_key_is_the_one_that_a_callback_uses(run, box):
    """Also for a run that was cleared; the record is found."""
    open_incident()(dag_context("r1"))
    open_incident()(task_context("r2", clear=2))
    sent = [request.body["idempotency_key"] for request in box.requests if request.path == "/v1/incidents"]
    told = json.loads(run("explain", "orders", "r1", "--json")[1])
    assert told["key"] == sent[0]
    (record,) = told["records"]
    assert (record["key"], record["name"], record["incident"]["reference"]) == (told["key"], told["record"], "INC-1")
    told = json.loads(run("explain", "orders", "r2", "--clear", "2", "--json")[1])
    assert told["run_state"] is None
    assert told["key"] == sent[1] == "airflow/tests/dag/orders/run/r2/clear/2"
    assert [record["key"] for record in told["records"]] == [told["key"]]


def test_earlier_attempts_and_other_failures_of_the_run_are_shown(run, box):
    """In the order of their clear counts; another run's are not."""
    keep("r1", state="open")
    keep(
        "r1",
        key=f"{KEY}/clear/1",
        clear_count=1,
        state="dead",
        body=None,
        error="422 odd",
        draft={"idempotency_key": f"{KEY}/clear/1"},
    )
    keep("r1", key=f"{KEY}/task/load", clear_count=0, state="grouped", storm="x", level="task", task="load")
    keep("r2", state="open")
    code, out, _ = run("explain", "orders", "r1", "--clear", "1")
    assert code == 0
    told = " ".join(out.split())
    assert f"key {KEY}/clear/1 " in told
    assert "cleared once" in told
    assert told.startswith("opened: INC-7 https://app.incident.io/x/incidents/7 was opened for DAG orders, run r1")
    assert "grouped: DAG orders, run r1" in told
    assert "was refused: 422 odd, cleared once" in told
    assert "run r2" not in told


def test_the_key_of_a_run_that_was_made_again_is_shown(run, box):
    """It is in the record of the first key, by which it is dropped or sent again as well."""
    again = f"{KEY}/started/2026-03-04T09%3A30%3A00.000000Z"
    kept = keep("r1", state="open", asked_key=again)
    (record,) = json.loads(run("explain", "orders", "r1", "--json")[1])["records"]
    assert (record["incident"]["reference"], record["key"]) == ("INC-7", again)
    assert run("journal", "drop", again, "--yes")[0] == 0
    assert Variables().get(kept.name) is None


def test_how_often_a_run_was_cleared_is_asked_of_airflow(run, box):
    """A backfill counts as its DAG, which is said."""
    from airflow.utils.types import DagRunType

    with dag_run("orders", "b1", run_type=DagRunType.BACKFILL_JOB, clear_number=3):
        told = json.loads(run("explain", "orders", "b1", "--json")[1])
        assert (told["clear_count"], told["scope"]) == (3, "dag")
        assert told["key"].endswith("/run/b1/clear/3")
        assert "Backfill runs count as scope dag." in told["notes"]
        assert any("clear/3/started/2026-03-04T00%3A00%3A00.000000Z" in note for note in told["notes"])
        told = json.loads(run("explain", "orders", "b1", "--clear", "1", "--json")[1])
        assert told["clear_count"] == 1
        assert "Airflow's database says that the run was cleared 3 times." in told["notes"]


@pytest.mark.parametrize(
    ("scope", "task", "end", "note"),
    [
        ("task", "load", "/task/load", "What the DAG's callbacks were given cannot be known here"),
        ("task", None, "/run/r1", "each task has a key of its own, with --task"),
        ("task_instance", "load", "/task/load", "also ends in /map/ and its index"),
        ("dag", None, "/run/r1", "an incident that the DAG has open takes the failure"),
    ],
)
def test_a_scope_is_explained(failed, run, box, monkeypatch, scope, task, end, note):
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__SCOPE", scope)
    told = json.loads(run("explain", "orders", "r1", "--json", *(["--task", task] if task else []))[1])
    assert told["key"].endswith(end)
    assert note in " ".join(told["notes"])
    assert told["settings"]["scope"] == {"value": scope, "from": "[incident_io] in airflow.cfg"}


def test_what_turns_things_off_is_explained(failed, run, box, monkeypatch):
    """And what is not ours under the failure's name."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ENABLED", "False")
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "False")
    Variables().set(record_name("orders", KEY), "{}")
    told = json.loads(run("explain", "orders", "r1", "--json")[1])
    notes = " ".join(told["notes"])
    assert told["sends"] == "nothing: [incident_io] enabled is false"
    assert "The journal is turned off" in notes
    assert "holds something that is not ours" in notes


def test_explaining_asks_incident_io_nothing(failed, run, box):
    assert run("explain", "orders", "r1")[0] == 0
    assert box.requests == []


@pytest.mark.parametrize(
    ("arguments", "said"), [(["", "r1"], "has no DAG ''"), (["orders", "r1"], "has no DAG 'orders'")]
)
def test_what_does_not_exist_is_not_explained(run, box, arguments, said):
    code, out, err = run("explain", *arguments)
    assert (code, out) == (1, "")
    assert said in complaint(err, "explain")


def test_without_a_connection_an_explanation_says_so_beside_the_records(run):
    """What is kept is shown all the same."""
    keep("r1")
    code, out, _ = run("explain", "orders", "r1")
    assert code == 0
    text = " ".join(out.split())
    assert "is not defined, or not readable. Add it: airflow connections add" in text
    assert "pending" in text


@pytest.mark.parametrize(
    "arguments",
    [["explain"], ["explain", "orders"], ["explain", "a", "b", "--clear", "-1"], ["send-test", "x"], ["doctor", "x"]],
)
def test_wrong_words_are_told_as_such(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: airflow-incident" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["send-test"], ["explain", "a", "b"]])
def test_without_airflow_it_is_one_clear_line(arguments):
    code = f"import sys; sys.modules['airflow'] = None; from airflow_incident.cli.main import main; sys.exit(main({arguments}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"airflow-incident {arguments[0]}: there is no module airflow")


def test_a_connection_in_airflow_s_database_is_found(run, box, monkeypatch):
    """Airflow 3 looks for connections there only in processes that say so; every command does, and takes it back."""
    from airflow.models import Connection
    from airflow.utils.session import create_session

    monkeypatch.delenv("AIRFLOW_CONN_INCIDENT_IO_DEFAULT")
    fields = {"conn_type": "incident_io", "host": box.url, "password": API_KEY}
    row = Connection(conn_id="incident_io_default", **fields)  # noqa: AIR311 -- the row in the database
    with create_session() as session:
        session.add(row)
        session.flush()
        session.expunge(row)
    environment = dict(os.environ)
    try:
        assert run("doctor")[0] == 0
        assert run("send-test")[0] == 0
        keep("r1")
        assert run("journal", "flush")[0] == 0
    finally:
        with create_session() as session:
            session.delete(session.merge(row))
    assert len(box.incidents) == 2
    assert dict(os.environ) == environment

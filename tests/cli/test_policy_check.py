"""`doctor` and `explain` say what zero touch does here, which DAGs it covers, and which tag or option is why."""

import contextlib
import json
import os
import re
import subprocess
import sys

import pytest

from airflow_incident import open_incident
from airflow_incident.cli import main as cli
from airflow_incident.constants import SWITCHES
from airflow_incident.sandbox.options import ALERT_SOURCE_ID, ALERT_SOURCE_TOKEN
from tests.cli.dag_runs import dag_run
from tests.doors import dag_context, listen

DAGS = {
    "orders": ["night"],
    "sales_eu": ["incident:severity=Major"],
    "sales_us": ["incident:conn=elsewhere"],
    "sales_off": ["incident:off"],
    "sandbox_one": [],
    "odd": ["incident:severity", "incident:on", "incident:severity=Minor", "incident:severity=Major"],
}
SOURCE = """
from airflow.providers.common.compat.sdk import DAG
for name, tags in {dags!r}.items():
    with DAG(name, schedule=None, tags=tags):
        pass
"""
COVERED = "unless its file has a callback of ours"


@pytest.fixture(scope="module", autouse=True)
def _loaded(airflow_db, tmp_path_factory):
    """Let Airflow itself load DAGs with tags, and forget them afterwards."""
    from airflow.api.common.delete_dag import delete_dag

    folder = tmp_path_factory.mktemp("dags")
    (folder / "tagged.py").write_text(SOURCE.format(dags=DAGS))
    command = [sys.executable, "-m", "airflow", "dags", "reserialize"]
    environment = os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(folder)}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=180)
    with contextlib.ExitStack() as runs:
        for dag_id in DAGS:
            runs.enter_context(dag_run(dag_id, "r1"))
        yield
    for dag_id in DAGS:
        delete_dag(dag_id)


@pytest.fixture
def configure(monkeypatch):
    def configure(**options):
        for name, value in options.items():
            monkeypatch.setenv(f"AIRFLOW__INCIDENT_IO__{name.upper()}", value)

    return configure


@pytest.fixture
def findings(connected, connect, capsys):
    """Run the doctor; return what it says of zero touch, as (level, text, advice)."""
    connect(connected.url, conn_id="elsewhere")

    def run():
        code = cli.main(["doctor", "--json"])
        told = json.loads(capsys.readouterr().out)
        assert code == (1 if told["counts"]["error"] else 0)
        return [(f["level"], f["text"], f["advice"]) for f in told["findings"] if f["check"] == "zero touch"]

    return run


@pytest.fixture
def explained(connected, connect, capsys):
    """Explain a run of a DAG; return the settings and, as one text, the notes."""
    connect(connected.url, conn_id="elsewhere", extra='{"severity": "Critical"}')

    def run(dag_id, *arguments):
        assert cli.main(["explain", dag_id, "r1", "--json", *arguments]) == 0
        told = json.loads(capsys.readouterr().out)
        return told["settings"], " ".join(told["notes"])

    return run


def test_off_is_told_as_off(findings):
    ((level, told, advice),) = findings()
    assert (level, advice) == ("ok", "")
    assert told.startswith("off; ")


def test_on_it_counts_what_it_leaves_out_and_names_slips(findings, configure):
    """It counts what it leaves out, for it knows no files; a glob without DAGs and tags that are ignored are warnings."""
    configure(
        auto_open="true", auto_resolve="on", auto_include="orders, sales_*, odd, Orders", auto_exclude="sandbox_*"
    )
    glob, tags, state = findings()
    limits = "auto_include = orders, sales_*, odd, Orders; auto_exclude = sandbox_*"
    counted = r"on \(auto_open, auto_resolve\); of (\d+) DAGs it leaves out (\d+), and those whose files have a callback of ours; (.*)"
    told = re.fullmatch(counted, state[1])
    assert (state[0], told[3], state[2]) == ("ok", limits, "")
    assert int(told[1]) - int(told[2]) == 4, "other tests may have left theirs"
    assert glob[:2] == ("warning", "[incident_io] auto_include: 'Orders' is the name of no DAG")
    assert tags[:2] == (
        "warning",
        "DAGs have tags that are ignored: odd (incident:on, incident:severity, incident:severity=Minor)",
    )
    assert "incident:off, incident:severity=…, incident:conn=…" in tags[2]


def test_a_connection_that_only_a_tag_names_is_looked_at(findings, configure, monkeypatch):
    """Its DAG's failures would open nothing."""
    configure(auto_open="true")
    monkeypatch.delenv("AIRFLOW_CONN_ELSEWHERE")
    (error,) = [finding for finding in findings() if finding[0] == "error"]
    assert error[1] == "tag incident:conn=elsewhere: Connection: is not defined, or not readable"
    assert "airflow connections add elsewhere" in error[2]


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_that_cannot_be_read_is_an_error(findings, configure, switch):
    """It says what stands there, what it counts as and what to write."""
    configure(**{switch: "ja"})
    ((level, told, advice),) = findings()
    assert (level, told) == (
        "error",
        f"[incident_io] {switch} is 'ja', which counts as false: it must be true or false",
    )
    assert "Set it to true or false" in advice


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_that_cannot_be_read_costs_no_incident(connected, configure, switch):
    """It says who is to call, not what becomes of a failure: a callback in a DAG's file opens as ever."""
    configure(**{switch: "ja"})
    with listen() as heard:
        open_incident()(dag_context())
    assert [row["name"] for row in connected.incidents] == ["DAG orders failed"]
    assert heard.texts() == []


def test_a_policy_that_airflow_does_not_find_is_an_error(findings, configure, monkeypatch):
    """Asked for, but this package was installed before it had a policy, or was only copied."""
    configure(auto_open="true")
    monkeypatch.setattr("airflow_incident.cli.auto_callbacks.entry_points", lambda group: [])
    level, told, advice = findings()[0]
    assert (level, told) == (
        "error",
        "auto_open is true, but Airflow finds no policy of this package: no DAG is covered",
    )
    assert advice.startswith("Install airflow-incident anew")


def test_a_severity_is_explained_by_the_tag_it_comes_from(explained, configure):
    """Before airflow.cfg; where zero touch is off, or the DAG is left out, the tag says nothing."""
    configure(severity="Minor", auto_exclude="sales_e?")
    assert explained("sales_eu")[0]["severity"] == {"value": "Minor", "from": "[incident_io] in airflow.cfg"}
    configure(auto_open="true")
    settings, notes = explained("sales_eu")
    assert settings["severity"] == {"value": "Minor", "from": "[incident_io] in airflow.cfg"}
    assert "Zero touch leaves this DAG alone: auto_exclude names it." in notes
    configure(auto_exclude="sales_o*")
    settings, notes = explained("sales_eu")
    assert settings["severity"] == {"value": "Major", "from": "tag incident:severity of the DAG"}
    assert settings["auto_exclude"] == {"value": "sales_o*", "from": "[incident_io] in airflow.cfg"}
    assert f"Zero touch (auto_open) covers this DAG, {COVERED}" in notes


@pytest.mark.parametrize("dag_id", ["orders", "sales_eu"])
def test_what_zero_touch_sends_is_told_to_be_so(connected, configure, capsys, dag_id):
    """Whether a tag says something of it or not."""
    configure(auto_open="true")
    assert cli.main(["explain", dag_id, "r1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sends"].endswith("by zero touch")


def test_a_connection_is_explained_by_the_tag_that_names_it(explained, configure, capsys, monkeypatch):
    """It is read instead of the default; an argument of the command goes before it."""
    configure(auto_open="true")
    settings, notes = explained("sales_us")
    assert settings["severity"] == {"value": "Critical", "from": "connection elsewhere"}
    assert "Its tag incident:conn=elsewhere names the connection." in notes
    assert explained("sales_us", "--conn-id", "incident_io_default")[0]["severity"]["from"] == "default"
    monkeypatch.delenv("AIRFLOW_CONN_ELSEWHERE")
    assert cli.main(["explain", "sales_us", "r1"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert (
        "sends nothing, failures are kept until it is fixed: connection 'elsewhere': Connection: is not defined" in told
    )


@pytest.mark.parametrize(
    ("dag_id", "said"),
    [
        ("orders", f"Zero touch (auto_open, auto_resolve) covers this DAG, {COVERED}"),
        ("sales_off", "Zero touch leaves this DAG alone: its tag incident:off."),
        ("sandbox_one", "Zero touch leaves this DAG alone: auto_include does not name it."),
        ("odd", "Tags that are ignored: incident:on, incident:severity, incident:severity=Minor."),
    ],
)
def test_what_zero_touch_makes_of_a_dag_is_explained(explained, configure, dag_id, said):
    configure(auto_open="true", auto_resolve="true", auto_include="o*, sales_*")
    assert said in explained(dag_id)[1]


def test_a_connection_for_alerts_alone_is_looked_at(connected, connect, capsys):
    """Without an API key nothing can be asked; that is a warning, and says what was not looked at."""
    source = {"alert_source_id": ALERT_SOURCE_ID, "alert_source_token": ALERT_SOURCE_TOKEN}
    connect(connected.url, password="", extra=source)
    assert cli.main(["doctor", "--json"]) == 0
    findings = {f["check"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["API key"]["level"] == "warning"
    assert 'only channel="alert" can be used; key, names and network are not looked at' in findings["API key"]["text"]
    assert findings["alert source"]["level"] == "ok"
    assert cli.main(["explain", "orders", "r1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"]["channel"] == {"value": "alert", "from": "no API key in connection incident_io_default"}
    assert "only channel alert can use it" in " ".join(told["notes"])
    assert connected.requests == []

"""`airflow-incident routes`, doctor and explain: which rule sets what, and where a file of rules is wrong."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings

from airflow_incident.cli import main as cli
from airflow_incident.cli.route_schema import schema_problems
from airflow_incident.core.routes import read_rules
from airflow_incident.sandbox.server import Sandbox
from tests.cli.dag_runs import dag_run
from tests.core.test_routes import ANYTHING, NEARLY

SOURCE = """
from airflow.providers.common.compat.sdk import DAG, BaseOperator
with DAG("orders_routed", schedule=None, tags=["tier-1", "eu"], default_args={"owner": "data"}):
    BaseOperator(task_id="load")
"""
RULES = """\
# Comments count as lines.
- match: {tags: tier-2}
  set: {severity: Minor}

- match: {tags: [tier-0, tier-1], owners: "d*"}
  set:
    severity: Critical
    visibility: public
- match: {run_type: scheduled}
  set: {severity: Major, conn_id: incident_io_other, name: "{{ dag.dag_id }}"}
"""


@pytest.fixture(scope="module", autouse=True)
def _loaded(airflow_db, tmp_path_factory):
    """Let Airflow itself load a DAG with tags and an owner, and forget it afterwards."""
    from airflow.api.common.delete_dag import delete_dag

    folder = tmp_path_factory.mktemp("dags")
    (folder / "routed.py").write_text(SOURCE)
    environment = os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(folder)}
    command = [sys.executable, "-m", "airflow", "dags", "reserialize"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=180)
    yield
    delete_dag("orders_routed")


@pytest.fixture
def file(tmp_path, monkeypatch, connected, connect):
    connect(connected.url, conn_id="incident_io_other")
    path = tmp_path / "routes.yaml"
    path.write_text(RULES)
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ROUTES_FILE", str(path))
    return path


@pytest.fixture
def run(capsys):
    """Run a command; return its exit code, what it printed, and its own complaint."""

    def run(*arguments):
        capsys.readouterr()
        try:
            code = cli.main([*arguments])
        except SystemExit as ended:
            code = ended.code
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, " ".join(line for line in err.splitlines() if line.startswith("airflow-incident"))

    return run


def tried(run, *arguments):
    code, out, _ = run("routes", "test", *arguments, "--json")
    assert code == 0
    return json.loads(out)


def test_it_says_which_rule_sets_what(run, file):
    """With tags and owners of Airflow's database, and where each value comes from."""
    told = tried(run, "orders_routed", "--run-type", "scheduled")
    assert told["failure"] == {
        "dag_id": "orders_routed",
        "tags": "eu, tier-1",
        "owners": "data",
        "task_id": "",
        "run_type": "scheduled",
    } | {"tags": told["failure"]["tags"]}
    assert sorted(told["failure"]["tags"].split(", ")) == ["eu", "tier-1"]
    assert told["hold"] == [
        {"rule": "rule 2, line 5", "sets": ["severity", "visibility"], "set_before": {}},
        {"rule": "rule 3, line 9", "sets": ["conn_id", "name"], "set_before": {"severity": "rule 2, line 5"}},
    ]
    by_second, by_third = f"rule 2, line 5 of {file}", f"rule 3, line 9 of {file}"
    wanted = {
        "conn_id": ("incident_io_other", by_third),
        "name": ("{{ dag.dag_id }}", by_third),
        "severity": ("Critical", by_second),
        "visibility": ("public", by_second),
        "deployment": ("tests", "[incident_io] in airflow.cfg"),
    }
    assert {name: (each["value"], each["from"]) for name, each in told["settings"].items() if name in wanted} == wanted
    code, out, _ = run("routes", "test", "orders_routed", "--run-type", "scheduled")
    assert code == 0
    assert "rule 3, line 9: sets conn_id, name; severity is set by rule 2, line 5" in out


def test_what_is_given_goes_before_the_database(run, file):
    """Tags and owners each for themselves; a DAG that is not there yet can be tried."""
    assert tried(run, "orders_routed", "--tag", "tier-2")["hold"][0]["rule"] == "rule 1, line 2"
    assert tried(run, "orders_routed", "--owner", "x")["hold"] == []
    new = tried(run, "not_there_yet", "--tag", "x", "--tag", "tier-1", "--owner", "data")
    assert [each["rule"] for each in new["hold"]] == ["rule 2, line 5"]
    assert "does not know this DAG" not in str(new["notes"])
    unknown = tried(run, "not_there_yet")
    assert unknown["hold"] == []
    assert "does not know this DAG" in str(unknown["notes"])
    assert "No rule holds." in run("routes", "test", "not_there_yet")[1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["x", "--run-type", "weekly"], "there is no run type 'weekly'; known: "),
        ([" "], "DAG_ID is empty"),
    ],
)
def test_what_makes_no_sense_is_one_line(run, file, arguments, complaint):
    code, out, err = run("routes", "test", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"airflow-incident routes: {complaint}")


@pytest.mark.parametrize(
    ("content", "complaint"), [(None, "No such file"), ("- [", "line 2: is no YAML"), ("a: b", "")]
)
def test_a_file_that_cannot_be_read_cannot_be_tried(run, file, content, complaint):
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    code, _, err = run("routes", "test", "x", "--tag", "y")
    if complaint:
        assert code == 2
        assert f"{file}, " in err
        assert complaint in err
    assert run("routes", "check")[0] == 1


def test_without_a_file_there_is_nothing_to_try(run, connected):
    for action in (["test", "x"], ["check"]):
        code, _, err = run("routes", *action)
        assert code == 2
        assert "[incident_io] routes_file is not set" in err


WRONG = """\
- match: {tag: tier-1}
  set:
    severty: Critical
    visibility: privat
- match: {tags: x}
  set: {conn_id: not_there}
- set: {severity: Catastrophic, custom_fields: {Afected team: Product}}
"""


def test_it_says_where_a_file_is_wrong(run, file):
    """For the file of airflow.cfg, and for one that is not in use yet."""
    code, out, _ = run("routes", "check")
    assert (code, " ".join(out.split())) == (0, f"ok routes 3 rules in {file} All is well.")
    other = file.with_name("other.yaml")
    other.write_text(WRONG)
    code, out, _ = run("routes", "check", str(other))
    text = " ".join(out.split())
    assert code == 1
    assert f"{other}, line 1, rule 1, match.tag: is unknown; did you mean tags?" in text
    assert "line 3, rule 1, set.severty: is unknown and has no effect; did you mean severity?" in text
    assert "line 4, rule 1, set.visibility: 'privat' is unknown; use one of: public, private" in text


def test_doctor_looks_at_the_file_its_connections_and_its_names(run, file):
    """What cannot be used, and what incident.io does not know, each with its rule."""
    file.write_text(WRONG)
    code, out, _ = run("doctor", "--json")
    errors = [finding["text"] for finding in json.loads(out)["findings"] if finding["level"] == "error"]
    assert code == 1
    told = "\n".join(errors)
    assert f"{file}, line 3, rule 1, set.severty: is unknown and has no effect; did you mean severity?" in told
    assert f"rule 2, line 5 of {file}: connection 'not_there': Connection: is not defined" in told
    assert "there is no severity 'Catastrophic'" in told
    assert f"(rule 3, line 7 of {file})" in told
    assert "'Afected team'" in told
    file.write_text(RULES)
    found = [each for each in json.loads(run("doctor", "--json")[1])["findings"] if each["check"] == "routes"]
    assert found == [{"level": "ok", "check": "routes", "text": f"3 rules in {file}", "advice": ""}]


def test_explain_says_which_rule_sets_what(run, file):
    with dag_run("orders_routed", "r1", run_type="scheduled"):
        _explained(run, file)


def _explained(run, file):
    code, out, _ = run("explain", "orders_routed", "r1", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["settings"]["severity"] == {"value": "Critical", "from": f"rule 2, line 5 of {file}"}
    file.write_text("- set: {conn_id: incident_io_other, enabled: false, scope: dag, severty: x}")
    told = json.loads(run("explain", "orders_routed", "r1", "--json")[1])
    notes = " ".join(told["notes"])
    assert told["scope"] == "dag"
    assert f"The connection, incident_io_other, comes from rule 1, line 1 of {file}." in notes
    assert told["sends"] == f"nothing: rule 1, line 1 of {file} sets enabled to false"
    assert "set.severty: is unknown" in notes


def test_a_missing_connection_of_a_rule_says_how_to_add_it(run, file, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_INCIDENT_IO_OTHER")
    told = tried(run, "orders_routed", "--run-type", "scheduled")
    assert "airflow connections add incident_io_other" in str(told["notes"])


@settings(max_examples=300)
@given(ANYTHING | NEARLY)
def test_the_schema_finds_what_a_callback_leaves_out(document):
    """In the same rules, if not in the same words: they are said once, but a schema says them in its own order."""
    _, problems = read_rules(document, {})
    by_schema = schema_problems(document, {})

    def rules_of(found):
        return {problem.where.split(", ")[1] if "rule" in problem.where else "" for problem in found}

    assert rules_of(by_schema) == rules_of(problems)


def test_no_callback_loads_the_schema(connected, file, monkeypatch):
    """Nor any model, whatever is wrong with the file."""
    file.write_text(WRONG)
    code = (
        "import sys; from airflow_incident import open_incident; from tests.doors import task_context\n"
        "before = set(sys.modules); open_incident()(task_context())\n"
        "print(*sorted(name for name in set(sys.modules) - before if 'incident' in name or name == 'pydantic'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    added = done.stdout.splitlines()[-1].split()
    assert "airflow_incident.airflow_bridge.routes" in added
    assert not {"airflow_incident.cli.route_schema", "airflow_incident.api.models"} & set(added)
    with Sandbox():
        assert len(connected.incidents) == 1

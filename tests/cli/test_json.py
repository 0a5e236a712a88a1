"""What `--json` prints is what docs/reference/json.md says, name by name."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.cli import main as cli
from airflow_incident.cli.terminal import ANSWER_VERSION
from tests.cli.dag_runs import dag_run
from tests.journal_records import forget_all, keep
from tools.pages import ROOT

PAGE = (ROOT / "docs" / "reference" / "json.md").read_text()
RULES = "- match: {dag_id: o*}\n  set: {severity: Major}\n- set: {severity: Minor, visibility: private}\n"
COMMANDS = {
    "doctor": ["doctor"],
    "routes check": ["routes", "check"],
    "send-test": ["send-test", "--close"],
    "explain": ["explain", "orders", "r1", "--task", "load"],
    "routes test": ["routes", "test", "orders"],
    "journal list": ["journal", "list", "--check"],
    "journal flush": ["journal", "flush"],
    "journal retry": ["journal", "retry"],
    "journal drop": ["journal", "drop", "--all", "--yes"],
}
SAME_AS = {"routes check": "doctor", "journal retry": "journal flush"}


def documented(heading):
    """Return the names of a section's table; those of a record where it says that there is one."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    names = []
    for cell, told in re.findall(r"^\| (`.*?`) \| (.*) \|$", section, re.MULTILINE):
        for name in re.findall(r"`(.*?)`", cell):
            names += [f"{name}.{field}" for field in documented("A record")] if "(#a-record)" in told else [name]
    return names


def leaves(value, path=""):
    """Yield the path of each value that holds no other; of a list or an object that is empty, too."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for each in value:
            yield from leaves(each, f"{path}[]")
    else:
        yield path, value


@pytest.fixture
def box(airflow_db, connected, monkeypatch, tmp_path, capsys, brisk):
    """Let there be rules, a run, and a record in each state."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    (tmp_path / "routes.yaml").write_text(RULES)
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ROUTES_FILE", str(tmp_path / "routes.yaml"))
    with capsys.disabled():
        forget_all()
    keep("r1", notes=("Left out: severity",))
    keep("r2", due_at=datetime.now(UTC) + timedelta(minutes=9))
    keep("r3", state="open", level="storm", key="airflow/tests/storm/x", members={"orders": 2})
    keep("r4", state="dead", error="422")
    Variables().set("incident_io.orders.foreign", "{}")
    with dag_run("orders", "r1"):
        yield connected
    forget_all()


@pytest.mark.parametrize("command", COMMANDS)
def test_each_name_is_documented_and_each_documented_name_is_there(box, capsys, command):
    names = documented(f"`airflow-incident {SAME_AS.get(command, command)}`")
    assert names[0] == "version"
    cli.main([*COMMANDS[command], "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["version"] == ANSWER_VERSION == 1
    known = {name: re.compile(re.escape(name).replace(r"\*", r"[^[]+?")) for name in names}
    met = set()
    for path, value in leaves(told):
        fitting = {name for name, pattern in known.items() if pattern.fullmatch(path)}
        if value in (None, [], {}):  # nothing is known of what would be below it
            fitting |= {name for name in names if re.match(rf"{re.escape(path)}(\[\]|\.|$)", name)}
        assert fitting, f"{path} is not documented"
        met |= fitting
    assert met == set(names)


def test_each_command_that_prints_json_is_documented():
    from tools.reference import PARTS

    sections = re.split(r"^## `airflow-incident ", PARTS["commands"](), flags=re.MULTILINE)
    assert {section.partition("`")[0] for section in sections if "`--json`" in section} == set(COMMANDS)

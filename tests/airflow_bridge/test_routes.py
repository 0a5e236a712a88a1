"""A file of rules, from the disk to incident.io: for callbacks, recoveries, steps and zero touch."""

import json
import logging
import os
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from airflow_incident import CreateIncidentOperator, ResolveIncidentOperator, open_incident
from airflow_incident.airflow_bridge import channel, routes
from airflow_incident.airflow_bridge.config import read_airflow_config, read_lenient_config, read_routed
from airflow_incident.airflow_bridge.routes import MOST_BYTES, read_document, read_routes
from airflow_incident.core.settings import Settings
from airflow_incident.core.timing import DETAIL_PATIENCE
from airflow_incident.policy.auto_callbacks import ZeroTouch
from airflow_incident.sandbox.options import ALERT_SOURCE_ID, ALERT_SOURCE_TOKEN
from airflow_incident.sandbox.server import Sandbox
from tests.doors import call_async, call_sync, dag_context, listen, succeeded, task_context, use_store
from tests.memory_store import Texts

EVERY_DOOR = pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
DAG = SimpleNamespace(dag_id="orders", tags={"tier-1", "eu"}, owner="data, ml", fileloc="/x.py")


@pytest.fixture
def rules(tmp_path, monkeypatch):
    """Write a file of rules, which airflow.cfg names."""
    file = tmp_path / "routes.yaml"
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ROUTES_FILE", str(file))

    def write(content):
        file.write_bytes(content) if isinstance(content, bytes) else file.write_text(content)
        return file

    return write


def failed(call=call_sync, context=None, **arguments):
    with listen() as heard:
        call(open_incident(**arguments), context or task_context(dag=DAG))
    return heard.texts()


@EVERY_DOOR
@pytest.mark.parametrize("context", [task_context(dag=DAG), dag_context(dag=DAG)], ids=["task", "dag"])
def test_an_incident_is_what_the_rules_say(connected, rules, call, context):
    """By DAG, tag and owner, from a task's callback and the DAG's, with names that incident.io knows."""
    rules(
        """
        - match: {tags: tier-2}
          set: {severity: Minor}
        - match: {tags: tier-1}
          set: {severity: Critical, visibility: private}
        - match: {owners: [finance, m?], dag_id: ord*}
          set:
            severity: Major
            custom_fields: {Affected team: Product}
            name: "{{ dag.dag_id | upper }} is broken"
        """
    )
    assert failed(call, context) == []
    (incident,) = connected.incidents
    assert (incident["severity"]["name"], incident["visibility"], incident["name"]) == (
        "Critical",
        "private",
        "ORDERS is broken",
    )
    assert "Product" in json.dumps(incident)


def test_what_a_rule_sets_may_be_a_template(connected, rules):
    """Custom fields and the runbook, as in arguments, for callbacks and steps."""
    rules("- set: {runbook: 'https://wiki.test/{{ dag.dag_id }}', custom_fields: {Affected team: '{{ params.team }}'}}")
    context = task_context(dag=DAG, task_id="tell", params={"team": "Product"})
    context["ti"].xcom_push = lambda **_: None
    assert failed(context=context) == []
    CreateIncidentOperator(task_id="tell", key="own").execute(context)
    assert len(connected.incidents) == 2
    for incident in connected.incidents:
        assert "Product" in json.dumps(incident["custom_field_entries"])


def test_an_argument_goes_before_a_rule(connected, rules):
    rules("- set: {severity: Critical, name: by rule, visibility: private}")
    assert failed(severity="Minor", name="by argument") == []
    (incident,) = connected.incidents
    assert (incident["severity"]["name"], incident["name"], incident["visibility"]) == (
        "Minor",
        "by argument",
        "private",
    )


@EVERY_DOOR
@pytest.mark.parametrize(
    ("given", "asked"),
    [({}, "elsewhere"), ({"conn_id": "incident_io_default"}, "here"), ({"conn_id": "elsewhere"}, "elsewhere")],
    ids=["none", "the default's own name", "another"],
)
def test_a_rule_names_the_connection(connect, rules, call, given, asked):
    """Which is read after that; one that an argument names goes before, whatever its name is."""
    rules("- {match: {tags: eu}, set: {conn_id: elsewhere}}")
    with Sandbox() as here, Sandbox() as elsewhere:
        connect(here.url)
        connect(elsewhere.url, conn_id="elsewhere", extra='{"severity": "Major"}')
        assert failed(call, **given) == []
        assert [len(box.incidents) for box in (here, elsewhere)] == ([1, 0] if asked == "here" else [0, 1])


def test_a_connection_that_is_missing_keeps_the_failure(connected, rules, monkeypatch):
    """With what rules say, for when there is one."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    store = use_store(monkeypatch, Texts())
    rules("- {set: {conn_id: not_there, severity: Critical}}")
    assert "waits until the connection is fixed" in failed()[0]
    (record,) = store.records()
    assert (record.state, record.conn_id, record.draft["severity"]) == ("pending", "not_there", "Critical")
    assert "severity" in record.own_fields
    assert connected.incidents == []


@EVERY_DOOR
def test_a_rule_makes_an_alert_of_a_failure(connected, connect, rules, call):
    source = {"alert_source_id": ALERT_SOURCE_ID, "alert_source_token": ALERT_SOURCE_TOKEN}
    connect(connected.url, extra=json.dumps(source))
    rules("- {match: {tags: tier-1}, set: {channel: alert}}")
    assert failed(call) == []
    assert len(connected.alerts) == 1
    assert not [request for request in connected.requests if request.path == "/v1/incidents"]


@EVERY_DOOR
def test_a_rule_silences_a_folder_of_experiments(connected, rules, call):
    """One info line says which rule did; the others' failures open."""
    file = rules("\n- {match: {dag_id: 'sandbox_*'}, set: {enabled: false}}")
    with listen() as heard:
        call(open_incident(), task_context(dag_id="sandbox_x"))
        call(open_incident(), task_context(dag_id="orders"))
    first = heard.texts(logging.INFO)[0]
    assert f"nothing is opened, rule 1, line 2 of {file} sets enabled to false" in first
    assert "outcome=suppressed" in first
    (incident,) = connected.incidents
    assert "orders" in incident["name"]


def test_a_rule_lets_some_open_where_airflow_cfg_turns_all_off(connected, rules, monkeypatch):
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ENABLED", "False")
    rules("- {match: {dag_id: orders}, set: {enabled: true}}")
    failed()
    failed(context=task_context(dag_id="others"))
    assert len(connected.incidents) == 1


BROKEN = {
    "missing": (None, "whole file: cannot be read (No such file or directory)"),
    "no YAML": ("- a: b: c", "line 1: is no YAML (mapping values are not allowed in this context)"),
    "a tab": ("- set:\n\t- x", "line 2: is no YAML"),
    "no UTF-8": (b"- set: {severity: \xff}", "whole file: is no YAML (invalid start byte)"),
    "a null": ("- set: {severity: a\0}", "whole file: is no YAML"),
    "two documents": ("- set: {}\n---\n- set: {}", "is no YAML (but found another document)"),
    "an object of Python's": ("- !!python/object/apply:os.abort []", "is no YAML (could not determine a constructor"),
    "no list": ("severity: Major", "line 1: must be a list of rules"),
    "a text": ("severity", "line 1: must be a list of rules"),
    "too big": ("#" * (MOST_BYTES + 1), "whole file: is too big: 256 KiB at most"),
    "too deep": ("[" * 100_000, "nest"),
    "too deep in blocks": ("- " * 100_000, "whole file: is nested too deeply (line 1)"),
    "inside itself": ("&a [*a]", "whole file: is nested too deeply (line 1)"),
    "a bomb": (
        "- &a [x,x,x,x,x,x,x,x,x,x]\n" + "\n".join(f"- &{b} [{','.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
        "whole file: holds too much",
    ),
    "an unknown alias": ("- *x", "is no YAML"),
    "an unhashable key": ("- {[a]: b}", "is no YAML"),
    "a rule that is none": ("- 5\n- set: {severity: Major}", "line 1, rule 1: must be a rule"),
    "an unknown option": ("- set:\n    severty: x\n    severity: Major", "line 2, rule 1, set.severty: is unknown and has no effect; did you mean severity?"),
    "an unknown key": ("- match: {tag: x}\n  set: {severity: Minor}\n- set: {severity: Major}", "line 1, rule 1, match.tag: is unknown; did you mean tags?"),
    "a key twice": ("- set: {severity: a}\n  set: {status: b}\n- set: {severity: Major}", "line 2, rule 1, set: is there twice"),
}  # fmt: skip


@EVERY_DOOR
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_costs_itself(connected, rules, call, name):
    """The incident opens, with the rules that can be read, and one warning line says where it is wrong."""
    content, problem = BROKEN[name]
    if content is not None:
        file = rules(content)
    began = time.monotonic()
    (line,) = failed(call)
    assert time.monotonic() - began < 10
    assert problem in line
    assert "airflow-incident routes check" in line
    assert content is None or f"{file}, " in line
    (incident,) = connected.incidents
    others_count = "severity: Major" in str(content) and "- set" in str(content)
    assert ((incident.get("severity") or {}).get("name") == "Major") == others_count


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "unreadable home", "null"])
def test_what_is_no_file_costs_itself(connected, monkeypatch, tmp_path, kind):
    """Nobody waits for a pipe, and no device is read."""
    path = {
        "folder": str(tmp_path),
        "device": "/dev/zero",
        "unreadable home": "~nobody-at-all/routes.yaml",
        "null": "x",
    }
    if kind == "pipe":
        os.mkfifo(tmp_path / "pipe")
        path["pipe"] = str(tmp_path / "pipe")
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ROUTES_FILE", path[kind])
    assert len(failed()) == 1
    assert len(connected.incidents) == 1


PRIVATE = "- match: {dag_id: orders}\n  set: {visibility: private}\n"
UNUSABLE = {
    "no YAML": "- match: {tags: payroll}\n  set: {visibility: private\n",
    "Latin-1": f"# Geh\xe4lter\n{PRIVATE}".encode("latin-1"),
    "UTF-16": PRIVATE.encode("utf-16"),
    "too big": f"#{'x' * MOST_BYTES}\n{PRIVATE}",
    "in a mapping": "rules:\n  - match: {dag_id: orders}\n    set: {visibility: private}\n",
    "a mapping of one": "match: {dag_id: orders}\nset: {visibility: PRIVATE}\n",
    "an unknown part": "- match: {dag_id: orders}\n  sets: {visibility: private}\n",
    "an unknown option": "- match: {dag_id: orders}\n  set: {visiblity: private}\n",
    "a list of options": "- match: {dag_id: orders}\n  set: [visibility, private]\n",
    "no rule": "- visibility: private\n",
}


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE)
def test_what_nobody_can_read_that_speaks_of_private_incidents_makes_them_private(connected, rules, content):
    """A slip in the file shows an incident to nobody who was not to see it."""
    rules(content)
    assert len(failed()) == 1
    assert [row["visibility"] for row in connected.incidents] == ["private"]


def test_a_reader_that_fails_costs_the_rules(connected, rules, monkeypatch):
    """Whatever it raises."""
    rules("- set: {severity: Major}")
    monkeypatch.setattr(routes, "read_subject", lambda *_, **__: (_ for _ in ()).throw(SystemExit(3)))
    assert "cannot be used (SystemExit)" in failed()[0]
    assert len(connected.incidents) == 1


def test_a_file_is_read_once_and_again_when_it_changes(connected, rules, monkeypatch):
    """By its time, its size or its place."""
    read = []
    parse = routes.read_document
    monkeypatch.setattr(routes, "read_document", lambda text: (read.append(text), parse(text))[1])
    file = rules("- set: {severity: Minor}")
    for _ in range(3):
        assert read_routes(str(file)).rules[0].options == {"severity": "Minor"}
    assert len(read) == 1
    rules("- set: {severity: Major}")
    assert read_routes(str(file)).rules[0].options == {"severity": "Major"}
    other = file.with_name("other.yaml")
    other.write_text("- set: {severity: Mayor}")
    found = file.stat()
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(file)
    assert read_routes(str(file)).rules[0].options == {"severity": "Mayor"}
    file.write_text("- [")
    assert read_routes(str(file)).problems
    file.unlink()
    assert read_routes(str(file)).problems
    rules("- set: {severity: Minor}")
    assert read_routes(str(file)).problems == []
    assert len(read) == 5


def test_a_path_begins_at_airflow_s_home(connected, airflow_home, monkeypatch):
    (airflow_home / "rules.yaml").write_text("- set: {severity: Major}")
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ROUTES_FILE", "rules.yaml")
    assert failed() == []
    assert connected.incidents[0]["severity"]["name"] == "Major"


def test_without_a_file_nothing_of_it_is_loaded():
    assert read_routed(task_context(), read_airflow_config()) is None


@pytest.fixture
def kept(monkeypatch):
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    return use_store(monkeypatch, Texts())


@EVERY_DOOR
@pytest.mark.parametrize(
    "options", ["conn_id: elsewhere", "deployment: other", "scope: dag", "scope: task", "resolve: always"]
)
def test_a_recovery_finds_what_the_same_rules_have_opened(connect, rules, kept, call, options):
    """The connection, the key's parts and the channel come from the rules on both ways."""
    from airflow_incident import resolve_incident

    rules(f"- {{match: {{owners: ml}}, set: {{{options}}}}}")
    with Sandbox() as box:
        connect(box.url)
        connect(box.url, conn_id="elsewhere")
        failed(call, context=task_context(dag=DAG))
        again = task_context(dag=DAG, clear=1)
        of_dag = dag_context(dag=DAG, dag_run=again["dag_run"])
        call(resolve_incident(), succeeded(again if "task" in options else of_dag))
        assert [row["status"] for row in box.incidents] == ["closed"]


def test_a_step_is_given_what_rules_say(connect, rules, kept):
    """Severity, texts and connection; but it opens an incident, whatever failures become."""
    rules(
        "- {match: {task_id: tell}, set: {severity: Critical, name: '{{ dag.dag_id }} by rule'}}\n- set: {channel: alert, conn_id: elsewhere}"
    )
    context = task_context(dag=DAG, task_id="tell")
    context["ti"].xcom_push = lambda **_: None
    with Sandbox() as box:
        connect(box.url, conn_id="elsewhere")
        CreateIncidentOperator(task_id="tell").execute(context)
        CreateIncidentOperator(task_id="tell", key="own", severity="Minor", name="own").execute(context)
        assert [(row["severity"]["name"], row["name"]) for row in box.incidents] == [
            ("Critical", "orders by rule"),
            ("Minor", "own"),
        ]
        again = task_context(dag=DAG, clear=1)
        assert len(ResolveIncidentOperator(task_id="close").execute(again)) == 1
        assert len(ResolveIncidentOperator(task_id="close", key="own").execute(again)) == 1


def test_a_step_is_silenced_and_a_broken_file_is_no_reason_to_fail(connected, rules):
    context = task_context(dag=DAG, task_id="tell")
    context["ti"].xcom_push = lambda **_: None
    rules("- set: {enabled: false, severty: x}")
    assert CreateIncidentOperator(task_id="tell").execute(context) is None
    rules("- [")
    assert CreateIncidentOperator(task_id="tell").execute(context)["reference"]
    assert len(connected.incidents) == 1


def test_zero_touch_meets_the_rules_and_a_tag_goes_before_them(connect, rules):
    """Tags of ours become arguments."""
    rules("- {match: {tags: 'tier-*'}, set: {severity: Critical, conn_id: elsewhere}}")
    touch = ZeroTouch(Settings(auto_open=True))
    tags = {"by_rule": {"tier-1"}, "by_tag": {"tier-1", "incident:severity=Minor", "incident:conn=incident_io_default"}}
    with Sandbox() as here, Sandbox() as elsewhere:
        connect(here.url)
        connect(elsewhere.url, conn_id="elsewhere")
        for dag_id, given in tags.items():
            dag = SimpleNamespace(dag_id=dag_id, tags=given, owner="x", tasks=[], on_failure_callback=None)
            touch.enter_dag(dag)
            dag.on_failure_callback[0](task_context(dag_id=dag_id, dag=dag))
        assert [("by_rule" in row["name"], row["severity"]["name"]) for row in elsewhere.incidents] == [
            (True, "Critical")
        ]
        assert [("by_rule" in row["name"], row["severity"]["name"]) for row in here.incidents] == [(False, "Minor")]


def test_200_rules_for_a_thousand_dags_are_read_once(rules, connect, monkeypatch):
    """What each failure costs after the first of a process: benchmarks/routes.py."""
    parsed = []
    monkeypatch.setattr(routes, "read_document", lambda text: parsed.append(text) or read_document(text))
    connect("http://127.0.0.1:9")
    rules(
        "\n".join(
            f"- {{match: {{dag_id: [team{n}_*, x{n}], tags: tier-{n % 4}}}, set: {{severity: S{n}}}}}"
            for n in range(200)
        )
    )
    contexts = [
        task_context(
            dag_id=f"team{n % 200}_{n}",
            dag=SimpleNamespace(dag_id=f"team{n % 200}_{n}", tags={f"tier-{n % 200 % 4}", "x"}, owner="a, b"),
        )
        for n in range(1000)
    ]
    config = read_airflow_config()
    found = [read_routed(context, config).options for context in contexts]
    assert found == [{"severity": f"S{n % 200}"} for n in range(1000)]
    assert len(parsed) == 1
    assert read_lenient_config("", config, read_routed(contexts[7], config)).settings.severity == "S7"


def test_an_answer_of_airflows_that_is_late_costs_no_rule(connected, rules, monkeypatch):
    """In a batch, an earlier callback has given up on it: to read a file nobody waits for it."""
    rules("- match: {dag_id: orders}\n  set: {visibility: private}\n")
    mine, theirs = socket.socketpair()
    comms = SimpleNamespace(socket=mine)
    comms.socket = late = channel._Late(comms)
    late.callback = -1.0
    monkeypatch.setattr(channel, "supervisor", lambda: comms)
    timer = threading.Timer(DETAIL_PATIENCE + 0.5, lambda: theirs.sendall((2).to_bytes(4, "big") + b"{}"))
    timer.start()
    with mine, theirs:
        failed(context=dag_context(dag=DAG))
        timer.join()
    assert [incident["visibility"] for incident in connected.incidents] == ["private"]

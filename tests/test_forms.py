"""`open_incident` and `resolve_incident` in every form that people write, through Airflow, on every version."""

import inspect
import json
import logging
import os
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_incident import IncidentNotifier, RecoveryNotifier, journal_flush_dag, open_incident, resolve_incident
from airflow_incident.notifications import notifier_class
from airflow_incident.sandbox.server import Sandbox
from tests.airflow_dags import as_stored, load_dag
from tests.doors import dag_context, listen, task_context
from tests.journal_records import forget_all

HEAD = """
from functools import partial
from pathlib import Path
from airflow.providers.common.compat.sdk import DAG, BaseOperator, TaskGroup, task
from airflow_incident import IncidentNotifier, RecoveryNotifier, open_incident, resolve_incident
from tests.test_forms import from_yaml, neighbour

class Fails(BaseOperator):
    def execute(self, context):
        raise ValueError("no such table: orders")

@task
def check(number):
    raise ValueError(number)
"""


def from_yaml(entry):
    """Do with a callback of a YAML file what dag-factory does with it.

    https://github.com/astronomer/dag-factory, DagBuilder._resolve_callback_entry
    """
    entry = {"callback": entry} if isinstance(entry, str) else dict(entry)
    module, _, name = entry.pop("callback").rpartition(".")
    callback = getattr(import_module(module), name)
    if not entry:
        return callback
    return callback(**entry) if hasattr(callback, "notify") else partial(callback, **entry)


def neighbour(context):
    """Be somebody else's callback."""


YAML = "from_yaml({'callback': 'airflow_incident.open_incident', 'severity': 'Major'})"
FORMS = {
    # name: the form, how severe its incident is
    "no_options": ("open_incident()", None),
    "options": ("open_incident(severity='Major')", "Major"),
    "no_parentheses": ("open_incident", None),
    "class": ("IncidentNotifier(severity='Major')", "Major"),
    "class_without_parentheses": ("IncidentNotifier", None),
    "dotted_name": ("from_yaml('airflow_incident.open_incident')", None),
    "dotted_name_with_arguments": (YAML, "Major"),
    "dotted_name_of_the_module": (YAML.replace("incident.open", "incident.notifications.open"), "Major"),
    "dotted_name_of_the_class": (YAML.replace("open_incident", "IncidentNotifier"), "Major"),
    "partial": ("partial(open_incident, severity='Major')", "Major"),
    "partial_of_a_partial": ("partial(partial(open_incident, severity='Minor'), severity='Major')", "Major"),
    "partial_of_the_class": ("partial(IncidentNotifier, severity='Major')", "Major"),
    "method": ("open_incident(severity='Major').notify", "Major"),
    "called_by_another": ("lambda context: open_incident(context, severity='Major')", "Major"),
    "called_by_name": ("lambda context: open_incident(context=context, severity='Major')", "Major"),
    "list": ("[neighbour, open_incident]", None),
    "list_with_options": ("[open_incident(severity='Major'), neighbour]", "Major"),
    "tuple": ("(neighbour, open_incident)", None),
    "tuple_with_options": ("(open_incident(severity='Major'), neighbour)", "Major"),
    "tuple_of_one_partial": ("(partial(open_incident, severity='Major'),)", "Major"),
}
LEVELS = {
    # name: the DAG's arguments, its body
    "dag": ("on_failure_callback={}", "Fails(task_id='load')"),
    "default_args": ("default_args={{'on_failure_callback': {}}}", "Fails(task_id='load')"),
    "operator": ("", "Fails(task_id='load', on_failure_callback={})"),
    "task": ("", "check.override(on_failure_callback={})(1)"),
    "group": ("", "with TaskGroup('g', default_args={{'on_failure_callback': {}}}):\n        Fails(task_id='load')"),
    "mapped": ("default_args={{'on_failure_callback': {}}}", "check.expand(number=[1, 2])"),
}


CASES = [
    *((form, level) for form in FORMS for level in ("dag", "default_args")),
    *(
        (form, level)
        for form in ("no_parentheses", "partial", "tuple")
        for level in ("operator", "task", "group", "mapped")
    ),
]


@pytest.fixture(scope="module")
def opened(airflow_db, installed, tmp_path_factory):
    """Fail a DAG for each form at each level in an Airflow that finds our entry points; return what was opened."""
    home = tmp_path_factory.mktemp("home")
    (home / "airflow.db").write_bytes((airflow_db / "empty.db").read_bytes())
    (home / "dags").mkdir()
    for name, level in CASES:
        form, arguments, body = FORMS[name][0], *LEVELS[level]
        dag = f"with DAG('{name}-{level}', schedule=None, {arguments.format(form)}):\n    {body.format(form)}\n"
        (home / "dags" / f"{name}_{level}.py").write_text(f"{HEAD}\n{dag}")  # `dag.test()` reads a whole file anew
    with Sandbox(rate_limit=10_000) as box:
        settings = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONN_INCIDENT_IO_DEFAULT": box.connection_json(),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "PYTHONPATH": os.pathsep.join([str(installed), str(Path(__file__).parents[1])]),
        }
        run = [sys.executable, "-c", RUN, str(home / "dags")]
        done = subprocess.run(run, env=os.environ | settings, check=False, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return [(row["name"], row.get("severity", {}).get("name")) for row in box.incidents]


RUN = """
import sys
from tests.airflow_versions import dag_bag

bag = dag_bag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
for dag_id, dag in bag.dags.items():
    assert str(dag.test().state) == "failed", dag_id
"""


@pytest.mark.parametrize(("form", "level"), CASES)
def test_every_form_at_every_level_opens_one_incident(opened, form, level):
    """As severe as its options say, whatever stands beside it in a list or a tuple."""
    beginning = f"DAG {form}-{level} failed"
    assert [severity for title, severity in opened if title.startswith(beginning)] == [FORMS[form][1]]


OURS = {
    "function": (open_incident, IncidentNotifier),
    "partial": (partial(open_incident, severity="Major"), IncidentNotifier),
    "partial of a partial": (partial(partial(open_incident), mode="test"), IncidentNotifier),
    "notifier": (open_incident(), IncidentNotifier),
    "its method": (open_incident().notify, IncidentNotifier),
    "class": (IncidentNotifier, IncidentNotifier),
    "partial of the class": (partial(IncidentNotifier, mode="test"), IncidentNotifier),
    "recovery": (resolve_incident, RecoveryNotifier),
    "partial of a recovery": (partial(resolve_incident, scope="task"), RecoveryNotifier),
    "recovery's notifier": (resolve_incident(), RecoveryNotifier),
}
THEIRS = {"function": neighbour, "partial": partial(neighbour), "builtin": print, "class": dict, "method": "".join}


@pytest.mark.parametrize("form", OURS)
def test_ours_are_known_in_every_form(form):
    callback, kind = OURS[form]
    assert notifier_class(callback) is kind


@pytest.mark.parametrize("form", THEIRS)
def test_a_neighbour_is_not_taken_for_ours(form):
    assert notifier_class(THEIRS[form]) is None


@pytest.mark.parametrize("form", [form for form, (_, kind) in OURS.items() if kind is IncidentNotifier])
def test_the_flush_dag_leaves_out_each_of_them(form):
    """Its own failure would wait in the journal that it delivers."""
    callback, _ = OURS[form]
    both = (callback, neighbour)
    dag = journal_flush_dag(on_failure_callback=callback, default_args={"on_failure_callback": both})
    assert not dag.on_failure_callback
    assert list(dag.get_task("flush").on_failure_callback) == [neighbour]


@pytest.mark.parametrize("form", OURS)
@pytest.mark.parametrize("level", ["dag", "default_args"])
def test_zero_touch_leaves_a_dag_alone_that_has_one(form, level):
    """Its author has decided, in whatever form."""
    from airflow.providers.common.compat.sdk import DAG, task

    from airflow_incident.core.settings import Settings
    from airflow_incident.policy.auto_callbacks import ZeroTouch

    callback, _ = OURS[form]
    arguments = {"on_failure_callback": (neighbour, callback)}
    with DAG("mine", schedule=None, **(arguments if level == "dag" else {"default_args": arguments})) as dag:
        task(neighbour)({})
    before = dag.on_failure_callback, list(dag.tasks[0].on_failure_callback or ())
    zero_touch = ZeroTouch(Settings(auto_open=True, auto_resolve=True))
    zero_touch.enter_dag(dag)
    zero_touch.enter_task(dag.tasks[0])
    assert (dag.on_failure_callback, list(dag.tasks[0].on_failure_callback or ())) == before
    assert not dag.on_success_callback


def test_a_tuple_of_others_is_left_to_airflow():
    """Only what holds a callback of ours becomes a list."""
    from airflow_incident import policy

    theirs, ours = (neighbour, neighbour), (neighbour, open_incident)
    dag = SimpleNamespace(on_failure_callback=theirs, on_success_callback=ours)
    policy._list_callbacks(dag)
    assert (dag.on_failure_callback, dag.on_success_callback) == (theirs, list(ours))


@pytest.mark.parametrize(
    "given", [(None,), ([],), (5,), (object(),), (object(), "b"), (1, 2, 3), (5, *"abc"), (object(), "", "", [], [])]
)
@pytest.mark.parametrize("door", [open_incident, resolve_incident, IncidentNotifier])
def test_what_is_no_context_is_one_line(connected, door, given):
    """Whatever calls it, it never raises."""
    with listen() as heard:
        door(*given)
    assert connected.requests == []
    assert len(heard.texts(logging.WARNING)) <= 1
    if door is not resolve_incident:
        assert "NO incident was opened" in heard.error


@pytest.mark.parametrize("context", [task_context(), dag_context()], ids=["task", "dag"])
def test_called_with_a_context_it_returns_the_notifier(connected, context):
    """Airflow has no use for it; a person at a prompt sees what it is."""
    assert isinstance(open_incident(context, severity="Major"), IncidentNotifier)
    (incident,) = connected.incidents
    assert incident["severity"]["name"] == "Major"


@pytest.mark.parametrize(
    "form", ["resolve_incident", "partial(resolve_incident, resolve='always')", "RecoveryNotifier"]
)
def test_a_recovery_closes_in_each_form(airflow_db, connected, monkeypatch, form):
    """A run that was cleared and succeeds closes what it had opened."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    forget_all()
    source = f"{HEAD}\nwith DAG('heals', schedule=None, on_success_callback={form}) as dag:\n    ...\n"
    dag = load_dag(airflow_db, source, "heals")
    run = {"run_type": "manual", "logical_date": None, "run_after": None, "dag_id": "orders", "run_id": "run-1"}
    open_incident(dag_context(dag_run=SimpleNamespace(clear_number=0, **run)))
    with listen() as heard:
        dag.on_success_callback(dag_context(reason="success", dag_run=SimpleNamespace(clear_number=1, **run)))
    assert [incident["incident_status"]["name"] for incident in connected.incidents_v2] == ["Closed"], heard.texts()
    forget_all()


@pytest.mark.parametrize(
    ("function", "notifier"), [(open_incident, IncidentNotifier), (resolve_incident, RecoveryNotifier)]
)
def test_a_function_takes_what_its_notifier_takes(function, notifier):
    """Written twice, for editors to complete; here neither can drift."""
    *shown, unknown = inspect.signature(function).parameters.values()
    *taken, more = inspect.signature(notifier).parameters.values()
    assert list(map(str, shown)) == list(map(str, taken))
    assert (str(unknown), str(more)) == ("**unknown: 'Never'", "**kwargs: 'Any'")
    assert shown[-1].name == "conn_id"


TYPED = """
from airflow_incident import IncidentNotifier, open_incident, resolve_incident

reveal_type(open_incident)
reveal_type(open_incident())
reveal_type(open_incident(severity="Major", custom_fields={"Affected team": "Product"}))
reveal_type(resolve_incident())
open_incident(severty="Major")
open_incident(severity=3)
open_incident("Major")
resolve_incident(severity="Major")
"""


def test_types_are_shown_and_checked(tmp_path):
    """The type checker knows what each argument takes, and what comes back; it refuses what would be refused at parse time."""
    pytest.importorskip("mypy")
    file = tmp_path / "typed.py"
    file.write_text(TYPED)
    options = ["--follow-imports=silent", "--ignore-missing-imports", "--no-error-summary", "--hide-error-context"]
    run = [sys.executable, "-m", "mypy", "--config-file=", f"--cache-dir={tmp_path / 'cache'}", *options, str(file)]
    root = Path(__file__).parents[1]
    done = subprocess.run(run, check=False, capture_output=True, text=True, timeout=600, cwd=root)
    said = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert "severity: str | None =" in said[0], done.stdout + done.stderr
    assert said[1:] == [
        'note: Revealed type is "airflow_incident.notifications.IncidentNotifier"',
        'note: Revealed type is "airflow_incident.notifications.IncidentNotifier"',
        'note: Revealed type is "airflow_incident.notifications.RecoveryNotifier"',
        'error: Argument "severty" to "open_incident" has incompatible type "str"; expected "Never"  [arg-type]',
        'error: Argument "severity" to "open_incident" has incompatible type "int"; expected "str | None"  [arg-type]',
        'error: Argument 1 to "open_incident" has incompatible type "str"; expected "Mapping[str, Any]"  [arg-type]',
        'error: Argument "severity" to "resolve_incident" has incompatible type "str"; expected "Never"  [arg-type]',
    ]


@pytest.mark.parametrize("form", ["open_incident", "partial(open_incident, severity='Major')", "IncidentNotifier"])
def test_a_dag_is_serialized_the_same_at_each_parse(airflow_db, form):
    """No address of an object is in it, in whatever form."""
    source = (
        f"{HEAD}\nwith DAG('stable', schedule=None, on_failure_callback={form}, "
        f"default_args={{'on_failure_callback': {form}}}) as dag:\n    Fails(task_id='load')\n"
    )
    texts = [json.dumps(as_stored(load_dag(airflow_db, source, "stable"))) for _ in range(2)]
    assert texts[0] == texts[1]
    assert " at 0x" not in texts[0]

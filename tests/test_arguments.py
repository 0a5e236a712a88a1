"""A wrong argument is an import error of the DAG file: what is wrong, where, and what to do."""

import logging
import subprocess
import sys
from enum import Enum
from functools import partial
from types import MappingProxyType

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, task

from airflow_incident import (
    ConfigurationError,
    CreateIncidentOperator,
    IncidentClosedSensor,
    IncidentNotifier,
    RecoveryNotifier,
    ResolveIncidentOperator,
    open_incident,
    resolve_incident,
)
from airflow_incident.constants import NEVER_WEAKER, PERSON_KINDS, VALUE_KINDS
from airflow_incident.core.arguments import kinds_of
from airflow_incident.core.settings import OPTIONS, read_value
from tests.airflow_versions import AIRFLOW, dag_bag, since
from tests.doors import call_async, dag_context, listen, task_context

FIELDS = 'must be a dict, like {"Affected team": "Product"}'
PEOPLE = 'must be a dict, like {"Incident Lead": "bob@example.com"}'
NEEDS_VALUE = (
    "needs a text, a number, {kind: value} with one of id, value_catalog_entry_id, value_link, value_numeric, "
    "value_option_id, value_text, value_timestamp, or a list of these"
)
SCOPES = "use one of: dag, run, task, task_instance"
MODES = "use one of: real, test"
CONNECTION = "must be the ID of a connection, like 'incident_io_default'"
ALL = (
    "name, summary, channel, severity, incident_type, mode, visibility, status, custom_fields, roles, slack_team_id, "
    "scope, deployment, exception_detail, log_lines, runbook, refail, conn_id"
)
WRONG = {
    # what stands in the DAG file: what its import error says
    "open_incident(scope='dags')": [f"open_incident(scope='dags'): 'dags' is unknown; {SCOPES}"],
    "open_incident(mode='prod')": [f"open_incident(mode='prod'): 'prod' is unknown; {MODES}"],
    "open_incident(channel='alerts')": ["open_incident(channel='alerts'): 'alerts' is unknown; use one of: incident, alert"],
    "open_incident(visibility='secret')": [
        "open_incident(visibility='secret'): 'secret' is unknown; use one of: public, private"
    ],
    "open_incident(exception_detail='all')": [
        "open_incident(exception_detail='all'): 'all' is unknown; use one of: type, message, traceback"
    ],
    "open_incident(custom_fields='Affected team=Product')": [
        f"open_incident(custom_fields='Affected team=Product'): {FIELDS}, not str"
    ],
    "open_incident(custom_fields=[('Affected team', 'Product')])": [f"open_incident(custom_fields=…): {FIELDS}, not list"],
    "open_incident(custom_fields={1: 'Product'})": [
        'open_incident(custom_fields=…): 1 is no name or ID, which must be strings, like {"Affected team": "Product"}'
    ],
    "open_incident(custom_fields={'Team': open})": [
        f"open_incident(custom_fields=…): 'Team' {NEEDS_VALUE}"
    ],
    "open_incident(custom_fields={'Team': {'value': 'Product'}})": [
        f"open_incident(custom_fields=…): 'Team' {NEEDS_VALUE}"
    ],
    "open_incident(custom_fields={'Team': None})": [f"open_incident(custom_fields=…): 'Team' {NEEDS_VALUE}"],
    "open_incident(custom_fields={'Team': ['Product', b'x']})": [f"open_incident(custom_fields=…): 'Team' {NEEDS_VALUE}"],
    "open_incident(roles={'Incident Lead': ' '})": [
        "open_incident(roles=…): 'Incident Lead' needs a person: an email address, a Slack ID or an ID"
    ],
    "open_incident(roles={'Incident Lead': {'mail': 'x@example.com'}})": [
        "open_incident(roles=…): 'Incident Lead' needs a person: an email address, a Slack ID or an ID"
    ],
    "open_incident(roles=['bob'])": [f"open_incident(roles=…): {PEOPLE}, not list"],
    "open_incident(roles='bob')": [f"open_incident(roles='bob'): {PEOPLE}, not str"],
    "open_incident(roles={'Incident Lead': ['bob', 'ann']})": [
        "open_incident(roles=…): 'Incident Lead' needs a person: an email address, a Slack ID or an ID"
    ],
    "open_incident(severty='Major')": [
        "open_incident(severty=…): there is no argument 'severty'; did you mean 'severity'?"
    ],
    "open_incident(Severity='Major')": [
        "open_incident(Severity=…): there is no argument 'Severity'; did you mean 'severity'?"
    ],
    "open_incident(connection_id='x')": [
        "open_incident(connection_id=…): there is no argument 'connection_id'; did you mean 'conn_id'?"
    ],
    "open_incident(title='x')": [f"open_incident(title=…): there is no argument 'title'; known: {ALL}"],
    "open_incident(severity=3)": ["open_incident(severity=3): must be a string, not int"],
    "open_incident(severity=['a'])": ["open_incident(severity=…): must be a string, not list"],
    "open_incident(severity=b'Major')": ["open_incident(severity=…): must be a string, not bytes"],
    "open_incident(mode=True)": ["open_incident(mode=True): must be a string, not bool"],
    "open_incident(name=5)": ["open_incident(name=5): must be a string, not int"],
    "open_incident(summary={})": ["open_incident(summary=…): must be a string, not dict"],
    "open_incident(conn_id=None)": [f"open_incident(conn_id=None): {CONNECTION}"],
    "open_incident(conn_id=' ')": [f"open_incident(conn_id=' '): {CONNECTION}"],
    "open_incident(conn_id=5)": [f"open_incident(conn_id=5): {CONNECTION}"],
    "open_incident(storm_limit=3)": [
        "open_incident(storm_limit=…): is no argument; set 'storm_limit' in the connection or in [incident_io] of airflow.cfg"
    ],
    "open_incident(api_version='v2')": [
        "open_incident(api_version=…): is no argument; set 'api_version' in the connection or in [incident_io] of airflow.cfg"
    ],
    "open_incident(enabled=False)": [
        "open_incident(enabled=…): is no argument; set 'enabled' in a rule of routes_file or in [incident_io] of airflow.cfg"
    ],
    "open_incident(alert_source_token='s3cr3t')": [
        "open_incident(alert_source_token=…): is no argument; set 'alert_source_token' in the connection"
    ],
    "open_incident(resolve='always')": [
        "open_incident(resolve=…): is no argument of this one; resolve_incident takes 'resolve'"
    ],
    "open_incident('Major')": ["open_incident('Major'): takes its arguments by name, like severity=…"],
    "open_incident(severty='Major', scope='dags', roles=5)": [
        f"open_incident(roles=5): {PEOPLE}, not int",
        f"open_incident(scope='dags'): 'dags' is unknown; {SCOPES}",
        "open_incident(severty=…): there is no argument 'severty'; did you mean 'severity'?",
    ],
    "IncidentNotifier(mode='reel')": [f"IncidentNotifier(mode='reel'): 'reel' is unknown; {MODES}"],
    "Mine(sevrity='Major')": ["Mine(sevrity=…): there is no argument 'sevrity'; did you mean 'severity'?"],
    "resolve_incident(resolve='alwys')": [
        "resolve_incident(resolve='alwys'): 'alwys' is unknown; use one of: if_unclaimed, always"
    ],
    "resolve_incident(severity='Major')": [
        "resolve_incident(severity=…): is no argument of this one; open_incident takes 'severity'"
    ],
    "RecoveryNotifier(conn='x')": ["RecoveryNotifier(conn=…): there is no argument 'conn'; did you mean 'conn_id'?"],
    "from_yaml({'callback': 'airflow_incident.open_incident', 'severty': 'Major'})": [
        "open_incident(severty=…): there is no argument 'severty'; did you mean 'severity'?"
    ],
    "CreateIncidentOperator(task_id='x', scope='dags')": [
        f"CreateIncidentOperator(scope='dags'): 'dags' is unknown; {SCOPES}"
    ],
    "CreateIncidentOperator(task_id='x', then_fail='yes', key=5, retires=3)": [
        "CreateIncidentOperator(key=5): must be a string, not int",
        "CreateIncidentOperator(then_fail='yes'): must be True or False, not str",
        "CreateIncidentOperator(retires=…): there is no argument 'retires'; did you mean 'retries'?",
    ],
    "CreateIncidentOperator(task_id='x', channel='alert')": [
        "CreateIncidentOperator(channel=…): is no argument of this one; open_incident takes 'channel'"
    ],
    "ResolveIncidentOperator(task_id='x', incident=5, note=3)": [
        "ResolveIncidentOperator(note=3): must be a string, not int",
        "ResolveIncidentOperator(incident=…): there is no argument 'incident'; did you mean 'incident_id'?",
    ],
    "IncidentClosedSensor(task_id='x', incident_mode='prod', poke_intervall=3)": [
        f"IncidentClosedSensor(incident_mode='prod'): 'prod' is unknown; {MODES}",
        "IncidentClosedSensor(poke_intervall=…): there is no argument 'poke_intervall'; did you mean 'poke_interval'?",
    ],
    "IncidentClosedSensor(task_id='x', incident_id='x', severity='y')": [
        "IncidentClosedSensor(incident_id=…, severity=…): takes one of them, not both"
    ],
    "IncidentClosedSensor(task_id='x', incident_mode='')": [
        f"IncidentClosedSensor(incident_mode=''): '' is unknown; {MODES}"
    ],
    "journal_flush_dag(tag=['x'])": ["journal_flush_dag(tag=…): there is no argument 'tag'; did you mean 'tags'?"],
}  # fmt: skip
HEAD = """from airflow.providers.common.compat.sdk import DAG
from airflow_incident import *
from tests.test_forms import from_yaml

class Mine(IncidentNotifier):
    pass

with DAG("dag", schedule=None):
    """
LINE = HEAD.count("\n") + 1


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Let Airflow load one DAG file for each mistake; return what it tells of each, as its UI shows it."""
    folder = tmp_path_factory.mktemp("dags")
    files = {str(folder / f"dag_{number}.py"): code for number, code in enumerate(WRONG)}
    for file, code in files.items():
        with open(file, "w") as dag_file:  # noqa: PTH123
            dag_file.write(f"{HEAD}{code}\n")
    errors = dag_bag(str(folder)).import_errors
    return {code: (file, errors.get(file, "no error")) for file, code in files.items()}


@pytest.mark.parametrize("code", WRONG)
def test_a_wrong_argument_is_an_import_error(told, code):
    """It says everything that is wrong, and which line of the DAG file it stands in."""
    file, error = told[code]
    expected = "\n".join(WRONG[code])
    assert f"ConfigurationError: {expected}\n" in error, error
    assert f'File "{file}", line {LINE}' in error
    assert "s3cr3t" not in error.replace(code, "")


class Word(str, Enum):  # noqa: UP042 -- what it prints is not its value, unlike StrEnum
    PRIVATE = "private"


RIGHT = [
    ({"mode": "TEST", "visibility": " Private ", "scope": "Task Instance"}, {"mode": "test", "visibility": "private", "scope": "task_instance"}),
    ({"scope": "task-instance", "exception_detail": "TraceBack"}, {"scope": "task_instance", "exception_detail": "traceback"}),
    ({"visibility": Word.PRIVATE}, {"visibility": "private"}),
    ({"channel": "Alert"}, {"channel": "alert"}),
    ({"severity": None, "mode": None, "roles": None}, {}),
    ({"severity": "", "mode": "", "custom_fields": ""}, {"severity": "", "mode": ""}),
    ({"custom_fields": '{"Affected team": "Product"}'}, {"custom_fields": {"Affected team": "Product"}}),
    ({"custom_fields": MappingProxyType({"a": 1})}, {"custom_fields": {"a": 1}}),
    ({"custom_fields": {"a": ["x", 2.5], "b": {"value_text": "x"}, "c": "{{ run_id }}", "e": []}}, {}),
    ({"roles": {"Incident Lead": "{{ params.lead }}", "Scribe": {"email": "x@example.com"}}}, {}),
    ({"severity": "{{ no template here, and no mistake }}"}, {}),
    ({"conn_id": "a-b.c", "deployment": "staging", "status": "Fixing", "incident_type": "x", "slack_team_id": "T1"}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "read"), RIGHT, ids=lambda value: ", ".join(value))
def test_what_is_right_is_taken(given, read):
    """In any case, with spaces around; a string of an enumeration; nothing at all."""
    notifier = open_incident(**given)
    kept = notifier.options | {"conn_id": notifier.conn_id} | notifier.templates
    wanted = given | read
    assert {name: kept[name] or None for name in given} == {name: wanted[name] or None for name in given}


@pytest.mark.parametrize("option", [o for o in OPTIONS.values() if o.choices], ids=lambda option: option.name)
@pytest.mark.parametrize(
    "spell", [str.upper, str.title, lambda word: f" {word}\t", lambda word: word.replace("_", " ")]
)
def test_a_choice_may_be_spelled_differently_in_every_place(option, spell):
    """The connection's and airflow.cfg's values are read by the same table."""
    assert [read_value(option, spell(choice)) for choice in option.choices] == list(option.choices)


LATER = {
    "template": dict.fromkeys(CreateIncidentOperator.template_fields, "{{ params.x }}"),
    "statement": dict.fromkeys(CreateIncidentOperator.template_fields, "{% if params.x %}x{% endif %}"),
    "inside": {"custom_fields": {"Team": "{{ params.x }}"}, "roles": {"Lead": "{{ params.x }}"}},
}


@pytest.mark.parametrize("kind", [*LATER, "result of a task"])
def test_what_is_rendered_later_is_not_checked_in_the_dag_file(kind):
    """A template, or what another task returns."""

    @task
    def chosen():
        return "x"

    with DAG("later", schedule=None):
        result = chosen()
        arguments = LATER.get(kind) or dict.fromkeys(CreateIncidentOperator.template_fields, result)
        CreateIncidentOperator(task_id="inside", custom_fields={"Team": [result]}, roles={"Incident Lead": result})
        step = CreateIncidentOperator(task_id="step", **arguments)
        ResolveIncidentOperator(task_id="close", resolve=arguments.get("mode"), scope=arguments.get("scope"))
        IncidentClosedSensor(task_id="wait", severity="x", incident_mode=arguments.get("mode", "test"))
    assert all(getattr(step, name) is value for name, value in arguments.items())


def test_what_has_been_rendered_is_checked(connected):
    """In any spelling; a wrong one fails the step for good."""
    step = CreateIncidentOperator(task_id="step", mode="{{ params.x }}")
    step.mode = "Prod"
    with pytest.raises(AirflowFailException, match="'Prod' is unknown; use one of: real, test"):
        step.execute(task_context())
    step.mode = " TEST"
    context = task_context()
    context["ti"].xcom_push = lambda **_: None
    step.execute(context)
    assert [incident["mode"] for incident in connected.incidents] == ["test"]


@pytest.mark.parametrize("door", [open_incident, resolve_incident, IncidentNotifier, RecoveryNotifier])
@pytest.mark.parametrize("options", [{"conn_id": "team_a"}, {"conn_id": "team_a", "scope": "task"}])
def test_options_without_their_asterisks_are_an_import_error(door, options):
    """They are no context of Airflow's: what they say would be lost."""
    with pytest.raises(ConfigurationError, match=r"takes its arguments by name: \w+\(\*\*…\)"):
        door(options)


def test_what_airflow_takes_is_never_refused():
    """Its own arguments, those of default_args, and a sensor's mode among them."""
    given = {"mode": "reschedule", "severity": "Major", "no_such": 1, "retries": 2, "owner": "me"}
    with DAG("defaults", schedule=None, default_args=given) as dag:
        step = CreateIncidentOperator(task_id="step", pool="p", doc_md="x", trigger_rule="one_failed", params={"x": 1})
        ResolveIncidentOperator(task_id="close", execution_timeout=None, default_args={"note": "x"})
        wait = IncidentClosedSensor(task_id="wait", poke_interval=3, soft_fail=True)
        CreateIncidentOperator.partial(task_id="many", mode="test").expand(name=["a", "b"])
        open_incident(context=None)
    assert (step.mode, step.severity, step.retries) == (None, "Major", 2)
    assert (wait.mode, len(dag.tasks)) == ("reschedule", 4)


def test_a_mistake_of_airflows_own_is_told_in_its_words():
    with DAG("theirs", schedule=None), pytest.raises(Exception, match="alphanumeric") as raised:
        CreateIncidentOperator(task_id="not an id")
    assert not isinstance(raised.value, ConfigurationError)


FOUND = [
    ({"severty": "x"}, "there is no argument 'severty'; did you mean 'severity'?; left out", {}),
    ({"mode": "prod"}, f"'prod' is unknown; {MODES}; taken as 'real'", {"mode": "real"}),
    ({"visibility": "priv"}, "'priv' is unknown; use one of: public, private; taken as 'private'", {"visibility": "private"}),
    ({"severity": 3}, "must be a string, not int; left out", {}),
    ({"roles": ["bob"]}, f"{PEOPLE}, not list; left out", {}),
    ({"scope": "dags"}, f"{SCOPES}; left out", {}),
    ({"conn_id": None}, f"{CONNECTION}; left out", {}),
    ({"name": 5, "storm_limit": 3}, "in [incident_io] of airflow.cfg; left out", {}),
    ({"api_key": "sw0rdfish"}, "there is no argument 'api_key'", {}),
]  # fmt: skip


@pytest.mark.parametrize("form", ["partial", "deadline"])
@pytest.mark.parametrize(("given", "line", "sent"), FOUND, ids=lambda value: str(value)[:40])
def test_at_a_failure_a_wrong_argument_costs_itself(connected, connect, form, given, line, sent):
    """One warning line names it; the incident opens without it, never for more people or fewer alarms than was meant."""
    connect(connected.url, extra='{"mode": "test"}')
    with listen() as heard:
        if form == "partial":
            partial(open_incident, deployment="kept", **given)(task_context())
        else:
            context = dag_context()
            call_async(IncidentNotifier(context=context, deployment="kept", **given), context)
    assert line in heard.sole(logging.WARNING)
    assert "sw0rdfish" not in heard.everything
    (incident,) = connected.incidents
    assert {"mode": "test", "visibility": "public"} | sent == {name: incident[name] for name in ("mode", "visibility")}
    assert connected.requests[-1].body["idempotency_key"].startswith("airflow/kept/")


def test_what_could_say_more_to_more_people_has_a_stand_in():
    """A mode or a visibility that cannot be used counts as the one that is safe."""
    for name, stand_in in NEVER_WEAKER.items():
        assert stand_in in OPTIONS[name].choices


@since("3.1", "deadline alerts")
def test_airflows_trigger_of_a_deadline_meets_a_wrong_argument(connected):
    """It is the first to call the class; the deadline is not lost for it."""
    import asyncio

    if AIRFLOW >= (3, 2):
        from airflow.triggers.callback import CallbackTrigger as Trigger
    else:
        from airflow.triggers.deadline import DeadlineCallbackTrigger as Trigger

    context = {"dag_run": {"dag_id": "late", "dag_run_id": "monday"}, "deadline": {"id": "1"}}
    path = "airflow_incident.notifications.IncidentNotifier"
    trigger = Trigger(path, {"severty": "Major", "visibility": "prvt", "context": context})

    async def events():
        return [event.payload["state"] async for event in trigger.run()]

    assert asyncio.run(events()) == ["running", "success"]
    (incident,) = connected.incidents
    assert incident["visibility"] == "private"


@pytest.mark.parametrize(
    "door",
    [
        open_incident,
        resolve_incident,
        IncidentNotifier.__init__,
        RecoveryNotifier.__init__,
        CreateIncidentOperator.__init__,
        ResolveIncidentOperator.__init__,
        IncidentClosedSensor.__init__,
    ],
    ids=lambda door: door.__qualname__,
)
def test_the_type_of_every_argument_can_be_checked(door):
    """By its annotation; a new one must be known to the check."""
    known = {"str", "str | None", "int | None", "bool", "bool | None", "Mapping[str, Any] | None"}
    assert set(kinds_of(door).values()) <= known
    assert "conn_id" in kinds_of(door)


def test_a_dag_file_that_is_right_loads_nothing_that_finds_the_nearest_name():
    """Nor the errors and the table of options: tests/test_parse_cost.py."""
    code = (
        "import sys; before = set(sys.modules); from airflow_incident import open_incident; open_incident(mode='test')"
    )
    says = "print({'difflib'} & (set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", f"{code}; {says}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_one_wrong_entry_of_a_mapping_costs_itself(connected):
    """The other fields and roles are sent."""
    fields = {"Affected team": "Product", "Service": {"value": "x"}, 5: "x"}
    roles = {"Incident Lead": "bob@example.com", "Reporter": ""}
    with listen() as heard:
        partial(open_incident, custom_fields=fields, roles=roles)(task_context())
    assert "'Service' needs" in heard.sole(logging.WARNING)
    body = connected.requests[-1].body
    assert len(body["custom_field_entries"]) == len(body["incident_role_assignments"]) == 1


def test_the_kinds_of_a_value_are_those_of_the_api():
    from airflow_incident.api.body import CustomFieldValuePayload, UserReference

    assert set(VALUE_KINDS) == set(CustomFieldValuePayload.model_fields)
    assert set(PERSON_KINDS) == set(UserReference.model_fields)

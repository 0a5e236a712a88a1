"""Names through every door: what people write finds its ID, and what does not never costs an incident."""

import asyncio
import json
import logging
import signal
from collections import Counter

import pytest

from airflow_incident import CreateIncidentOperator, IncidentHook
from airflow_incident.airflow_bridge.compat import AirflowFailException
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.core.failure import Failure
from airflow_incident.core.settings import Settings
from airflow_incident.delivery import run as delivery
from airflow_incident.delivery.outcome import record_line
from airflow_incident.delivery.report import IncidentContent, prepare
from airflow_incident.delivery.run import flush
from airflow_incident.errors import ConfigurationError, PermissionDeniedError, UnknownNameError, ValidationError
from airflow_incident.sandbox import catalogue
from airflow_incident.sandbox.catalogue import fixed_id
from airflow_incident.sandbox.fault import FAULTS, FaultProxy
from airflow_incident.sandbox.fault_answers import answer
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_all, check_request
from tests.doors import Scripted, call_async, call_sync, report, task_context
from tests.file_store import Dying, FileStore, ended, flush_to, fork, report_to, wait_for
from tests.memory_store import Texts

pytestmark = pytest.mark.release

AWAY = "http://127.0.0.1:9"
LEAVER = "dora@example.com"
KINDS = {
    "Affected team": ("single_select", "finance", ["Finance"]),
    "Data products": ("multi_select", ["orders", "Clicks"], ["Orders", "Clicks"]),
    "Notes": ("text", "late again", ["late again"]),
    "Runbook": ("link", "https://example.com/run", ["https://example.com/run"]),
    "Rows affected": ("numeric", 1200.5, ["1200.5"]),
    "Service": ("single_select", "dwh", ["Warehouse"]),
    "Services": ("multi_select", ["warehouse", "billing", fixed_id("ENT", 3)], ["Warehouse", "Billing", "Search"]),
}
"""A custom field of each type, what somebody writes, and what the incident then says."""
OPTIONS = {
    "severity": "major",
    "incident_type": "DATA PIPELINE",
    "custom_fields": {name.upper(): value for name, (_, value, _) in KINDS.items()},
    "roles": {
        "incident lead": "bob@example.com",
        "Reporter": fixed_id("PRS", 1),
        "communications LEAD": "U0SANDBOX3",
    },
}
FOUND = {
    "severity": "Major",
    "incident_type": "Data pipeline",
    "custom_fields": {name: values for name, (_, _, values) in KINDS.items()},
    "roles": {"Incident Lead": "Bob Baker", "Reporter": "Alice Archer", "Communications Lead": "Chloe Carter"},
}
LISTS = {
    "severity": "/v1/severities",
    "incident_type": "/v1/incident_types",
    "status": "/v1/incident_statuses",
    "roles": "/v2/incident_roles",
    "custom_fields": "/v2/custom_fields",
}

BOTH_VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])
EVERY_CALLBACK = pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])


def hook(**options):
    IncidentHook().create_incident(idempotency_key="k", **options)


def hook_async(**options):
    asyncio.run(IncidentHook().acreate_incident(idempotency_key="k", **options))


def operator(**options):
    context = task_context()
    context["ti"].xcom_push = lambda **_: None
    CreateIncidentOperator(task_id="tell", **options).execute(context)


def callback(**options):
    report(task_context(), call_sync, **options)


def callback_async(**options):
    report(task_context(), call_async, **options)


EVERY_DOOR = pytest.mark.parametrize("door", [hook, hook_async, operator, callback, callback_async])
STRICT_DOORS = pytest.mark.parametrize("door", [hook, hook_async, operator])


@pytest.fixture(scope="module")
def served():
    with Sandbox(rate_limit=1_000_000) as box:
        yield box


@pytest.fixture
def box(served, connect):
    """Make it an account that also has a list of services to choose several from; all that is said conforms."""
    served.clear()
    served.demand_severity = False
    known = served.store.catalogue = catalogue.Catalogue()
    known.custom_fields.append(catalogue.custom_field(7, "multi_select", "Services", "Several of them."))
    known.entries.append({"id": fixed_id("ENT", 3), "name": "Search", "external_id": "search", "aliases": []})
    connect(served.url)
    yield served
    check_all(served)


@pytest.fixture(autouse=True)
def _unspent():
    """Give each test a process that has spent no time and met no outage."""
    PROCESS.reset()


@pytest.fixture
def speak(monkeypatch):
    """Choose the version of the API."""
    return lambda version: monkeypatch.setenv("AIRFLOW__INCIDENT_IO__API_VERSION", version)


@pytest.fixture
def brisk(brisk, monkeypatch):
    """Make callbacks short, too."""
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "9")


@pytest.fixture
def journal(monkeypatch):
    """Turn the journal on, over a store in memory."""
    texts = Texts()
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    monkeypatch.setattr(delivery, "Variables", lambda: texts)
    return texts


def named(incident):
    """Say an incident in names, as a reader sees it."""
    entries = {row["custom_field"]["name"]: list(map(_said, row["values"])) for row in incident["custom_field_entries"]}
    taken = [row for row in incident["incident_role_assignments"] if "assignee" in row]
    return {
        "severity": incident.get("severity", {}).get("name"),
        "incident_type": incident["incident_type"]["name"],
        "custom_fields": entries,
        "roles": {row["role"]["name"]: row["assignee"]["name"] for row in taken},
    }


def _said(value):
    ((_, said),) = value.items()
    return said.get("value") or said.get("name") if isinstance(said, dict) else said


def sole(box):
    (incident,) = box.incidents_v2
    return incident


def asked(box):
    return Counter(seen.path for seen in box.requests)


def test_there_is_a_custom_field_of_each_type(box):
    """The five types, and selects whose values come from the catalog."""
    known = {row["name"]: row for row in box.catalogue.custom_fields}
    assert {name: known[name]["field_type"] for name in KINDS} == {name: kind for name, (kind, _, _) in KINDS.items()}
    assert {kind for kind, _, _ in KINDS.values()} == {"single_select", "multi_select", "text", "link", "numeric"}


# Found


@BOTH_VERSIONS
@EVERY_DOOR
def test_every_door_takes_names(box, speak, door, version):
    """All of them at once, in any case; status, too."""
    speak(version)
    door(**OPTIONS, status="FIXING")
    incident = sole(box)
    assert named(incident) == FOUND
    assert incident["incident_status"]["name"] == "Fixing"
    assert box.requests[-1].path == f"/{version}/incidents"


@BOTH_VERSIONS
@EVERY_DOOR
@pytest.mark.parametrize("place", ["connection", "config"])
def test_names_may_be_set_in_every_place(box, connect, monkeypatch, speak, place, door, version):
    """In the connection's extra, where a form keeps JSON as text, and in airflow.cfg."""
    speak(version)
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in OPTIONS.items()}
    if place == "connection":
        connect(box.url, extra=json.dumps(texts))
    else:
        for name, text in texts.items():
            monkeypatch.setenv(f"AIRFLOW__INCIDENT_IO__{name.upper()}", text)
    door()
    assert named(sole(box)) == FOUND


@BOTH_VERSIONS
@EVERY_DOOR
def test_ids_need_no_look_up(box, speak, door, version):
    """Nor do fields and roles whose key and value say all."""
    speak(version)
    door(
        severity=fixed_id("SEV", 2),
        incident_type=fixed_id("TYP", 2),
        custom_fields={fixed_id("CFD", 3): {"value_text": "late"}},
        roles={fixed_id("ASG", 1): "bob@example.com"},
    )
    assert asked(box) == {f"/{version}/incidents": 1}
    assert named(sole(box))["custom_fields"] == {"Notes": ["late"]}


@pytest.mark.parametrize("number", [1, 250, 251, 300])
@EVERY_DOOR
def test_an_option_is_found_on_any_page(box, door, number):
    """300 options, 250 to a page."""
    options = [f"Team {place}" for place in range(1, 301)]
    box.catalogue.custom_fields.append(catalogue.custom_field(8, "single_select", "Crew", "One of many.", *options))
    door(custom_fields={"crew": f"team {number}"})
    assert named(sole(box))["custom_fields"] == {"Crew": [f"Team {number}"]}
    assert asked(box)["/v1/custom_field_options"] == 2


@EVERY_DOOR
@pytest.mark.parametrize("wanted", ["Major", "MAJOR"])
def test_of_two_names_that_differ_in_case_the_exact_one_is_meant(box, door, wanted):
    box.catalogue.severities.append(catalogue.severity(4, "MAJOR", "Shouted."))
    door(severity=wanted)
    assert named(sole(box))["severity"] == wanted


def test_a_list_is_looked_up_once_for_a_process(box):
    """Threads and coroutines share it, callbacks, hook and operator, too."""
    for run in range(3):
        for call in (call_sync, call_async):
            report(task_context(f"r{run}-{call.__name__}"), call, **OPTIONS, status="Paused")
    operator(**OPTIONS)
    hook(**OPTIONS)
    hook_async(**OPTIONS)
    found = asked(box)
    assert {path: found[path] for path in LISTS.values()} == dict.fromkeys(LISTS.values(), 1)
    assert found["/v1/custom_field_options"] == 2  # two fields have options
    assert len(box.incidents) == 8


# Not found


UNKNOWN = [
    ({"severity": "Majr"}, "no severity 'Majr'; known: Minor, Major, Critical"),
    ({"incident_type": "Pipeline"}, "no incident type 'Pipeline'; known: Default, Data pipeline, Security"),
    ({"status": "Finished"}, "no status 'Finished'; known: Triage, Investigating"),
    ({"roles": {"Driver": "bob@example.com"}}, "no role 'Driver'; known: Incident Lead, Reporter, Communications"),
    ({"custom_fields": {"Team": "x"}}, "no custom field 'Team'; known: Affected team, Data products"),
    ({"custom_fields": {"Affected team": "x"}}, "'Affected team' has no option 'x'; known: Product, Finance"),
    ({"custom_fields": {"Rows affected": "many"}}, "'Rows affected' needs a number"),
]


@BOTH_VERSIONS
@EVERY_CALLBACK
@pytest.mark.parametrize(("wrong", "told"), UNKNOWN, ids=str)
def test_a_callback_opens_without_what_is_unknown_and_says_so(box, speak, call, version, wrong, told):
    """The rest of what was asked for is there."""
    speak(version)
    others = {name: value for name, value in OPTIONS.items() if name not in wrong}
    heard, _ = report(task_context(), call, **others, **wrong)
    incident = sole(box)
    label = next(LABELS[name] for name in wrong)
    assert incident["summary"].endswith(f"_Left out: {label}. Airflow's log says why._")
    assert f"incident.io: Left out: {label}: " in heard.sole(logging.WARNING)
    assert told in heard.sole(logging.WARNING)
    assert {name: named(incident)[name] for name in others} == {name: FOUND[name] for name in others}


LABELS = {
    "severity": "Severity",
    "incident_type": "Incident type",
    "status": "Status",
    "roles": "Roles",
    "custom_fields": "Custom fields",
}


@BOTH_VERSIONS
@STRICT_DOORS
@pytest.mark.parametrize(("wrong", "told"), UNKNOWN, ids=str)
def test_a_step_fails_on_what_is_unknown(box, speak, door, version, wrong, told):
    """At once and listing what is known; nothing is opened."""
    speak(version)
    with pytest.raises(AirflowFailException if door is operator else ConfigurationError, match=told):
        door(**wrong)
    assert box.incidents == []


@STRICT_DOORS
def test_a_step_is_told_everything_that_is_unknown_at_once(box, door):
    with pytest.raises(AirflowFailException if door is operator else UnknownNameError) as failed:
        door(severity="Majr", incident_type="Pipeline", roles={"Driver": "bob@example.com"})
    for word in ("'Majr'", "'Pipeline'", "'Driver'"):
        assert word in str(failed.value)


@EVERY_CALLBACK
def test_an_ambiguous_name_is_left_out_by_a_callback(box, call):
    box.catalogue.severities.append(catalogue.severity(4, "MAJOR", "Shouted."))
    heard, _ = report(task_context(), call, severity="major")
    assert "severity" not in sole(box)
    both = f"Major ({fixed_id('SEV', 2)}), MAJOR ({fixed_id('SEV', 4)})"
    assert f"several are called 'major'; use the ID of one: {both}" in heard.sole(logging.WARNING)


@STRICT_DOORS
def test_an_ambiguous_name_fails_a_step(box, door):
    """Both are listed, with their IDs."""
    box.catalogue.severities.append(catalogue.severity(4, "MAJOR", "Shouted."))
    with pytest.raises(AirflowFailException if door is operator else ConfigurationError) as failed:
        door(severity="major")
    assert f"Major ({fixed_id('SEV', 2)}), MAJOR ({fixed_id('SEV', 4)})" in str(failed.value)
    assert box.incidents == []


@BOTH_VERSIONS
@EVERY_CALLBACK
def test_a_callback_opens_without_somebody_who_has_left(box, speak, call, version):
    """Only that one assignment goes, and the summary says so; nobody is looked up by email."""
    speak(version)
    heard, _ = report(task_context(), call, roles=OPTIONS["roles"] | {"Reporter": LEAVER})
    incident = sole(box)
    assert named(incident)["roles"] == {"Incident Lead": "Bob Baker", "Communications Lead": "Chloe Carter"}
    assert "_Left out: Roles. Airflow's log says why._" in incident["summary"]
    told = heard.sole(logging.WARNING)
    assert "Left out: Roles, which incident.io refused (Dora Drake is no longer active)." in told
    assert asked(box) == {"/v2/incident_roles": 1, f"/{version}/incidents": 2}


@STRICT_DOORS
@pytest.mark.parametrize("journalled", [False, True])
def test_somebody_who_has_left_fails_a_step(box, request, door, journalled):
    """Naming the assignment; a step never degrades."""
    if journalled:
        request.getfixturevalue("journal")
    with pytest.raises(AirflowFailException if door is operator else ValidationError, match="no longer active"):
        door(roles={"Incident Lead": "bob@example.com", "Reporter": LEAVER})
    assert box.incidents == []


@EVERY_CALLBACK
def test_a_step_that_was_refused_does_not_cost_the_run_its_incident(box, journal, call):
    """The step's key is the run's: its callback opens what the step, which never degrades, did not."""
    with pytest.raises(AirflowFailException):
        operator(roles={"Reporter": LEAVER})
    report(task_context(), call)
    sole(box)


# Lists that do not answer


@BOTH_VERSIONS
@EVERY_CALLBACK
def test_a_key_that_may_not_look_up_opens_without_and_says_so(connect, speak, call, version):
    """It lacks the role *viewer*."""
    speak(version)
    with Sandbox(roles=("incident_creator",)) as box:
        connect(box.url)
        heard, _ = report(task_context(), call, **OPTIONS)
        check_all(box)
        assert sole(box)["summary"].count("Left out: Severity, Incident type, Custom fields, Roles.") == 1
        assert named(sole(box)) == {"severity": None, "incident_type": "Default", "custom_fields": {}, "roles": {}}
    for label in ("Severity", "Incident type", "Custom fields", "Roles"):
        assert f"Left out: {label} could not be looked up (incident.io answered 403" in heard.everything


@STRICT_DOORS
def test_a_key_that_may_not_look_up_fails_a_step(connect, door):
    with Sandbox(roles=("incident_creator",)) as box:
        connect(box.url)
        with pytest.raises(AirflowFailException if door is operator else PermissionDeniedError, match="403"):
            door(severity="Major")
        assert box.incidents == []


@pytest.mark.parametrize(
    ("fault", "call", "journalled"),
    [
        *(
            (fault, call_sync, False)
            for fault in ("hang", "drip-head", "drip-body", "error-500-html", "drop-before", "huge")
        ),
        *(
            (fault, call_async, True)
            for fault in ("hang", "drip-head", "drip-body", "error-500-html", "drop-before", "huge")
        ),
        ("hang", call_sync, True),
        ("hang", call_async, False),
    ],
)
def test_lists_that_do_not_answer_cost_no_incident(box, connect, monkeypatch, brisk, request, fault, call, journalled):
    """The look-up has a share of the time; then the incident opens without, within the callback's time."""
    if journalled:
        request.getfixturevalue("journal")
    monkeypatch.setitem(FAULTS, "lists", lambda seen: FAULTS[fault if seen.request.method == "GET" else "none"](seen))
    with FaultProxy(box.direct_port, "lists", pace=0.1) as wire:
        connect(wire.url)
        heard, took = report(task_context(), call, severity="Major", roles={"Incident Lead": "bob@example.com"})
    assert took < 3.5
    assert "Left out: Severity, Roles." in sole(box)["summary"]
    assert "Left out: Severity could not be looked up" in heard.everything
    assert "Left out: Roles could not be looked up" in heard.everything


@pytest.mark.parametrize("journalled", [False, True], ids=["straight", "journalled"])
@EVERY_CALLBACK
def test_what_was_looked_up_before_a_list_drips_is_used(box, connect, monkeypatch, brisk, request, call, journalled):
    """Only what is missing is left out."""
    if journalled:
        request.getfixturevalue("journal")

    def roles_drip(seen):
        FAULTS["drip-head" if seen.request.path == LISTS["roles"] else "none"](seen)

    monkeypatch.setitem(FAULTS, "roles", roles_drip)
    with FaultProxy(box.direct_port, "roles", pace=0.05) as wire:
        connect(wire.url)
        report(task_context(), call, **OPTIONS)
    assert named(sole(box)) == FOUND | {"roles": {}}
    assert sole(box)["summary"].count("Left out") == 1


@pytest.mark.parametrize("journalled", [False, True], ids=["straight", "journalled"])
@EVERY_CALLBACK
def test_a_list_may_take_a_third_of_the_time(box, connect, monkeypatch, brisk, request, call, journalled):
    """Of three seconds, so a slow one is waited for."""
    if journalled:
        request.getfixturevalue("journal")
    monkeypatch.setitem(FAULTS, "lists", lambda seen: FAULTS["slow" if seen.request.method == "GET" else "none"](seen))
    with FaultProxy(box.direct_port, "lists", delay=0.6) as wire:
        connect(wire.url)
        report(task_context(), call, severity="Major")
    assert named(sole(box))["severity"] == "Major"


def test_with_all_of_a_callback_s_time_it_ends_within_twelve_seconds(box, connect, monkeypatch):
    """Also where every list hangs."""
    monkeypatch.setitem(FAULTS, "lists", lambda seen: FAULTS["hang" if seen.request.method == "GET" else "none"](seen))
    with FaultProxy(box.direct_port, "lists") as wire:
        connect(wire.url)
        _, took = report(task_context(), **OPTIONS)
    assert took < 12
    sole(box)


# Later


@BOTH_VERSIONS
@EVERY_CALLBACK
def test_after_an_outage_the_incident_has_its_names(box, connect, journal, brisk, speak, call, version):
    """Nothing had arrived, so the record kept what was wanted in its own words; one incident."""
    speak(version)
    connect(AWAY)
    report(task_context(), call, **OPTIONS)
    (record,) = journal.records()
    assert (record.state, record.body, record.draft["severity"]) == ("pending", None, "major")
    connect(box.url)
    assert len(flush().opened) == 1
    assert named(sole(box)) == FOUND
    assert "Left out" not in sole(box)["summary"]


@EVERY_CALLBACK
def test_what_may_have_arrived_is_sent_again_as_it_was(box, connect, journal, brisk, monkeypatch, call):
    """Also without its names: the same key never has two bodies."""
    monkeypatch.setitem(FAULTS, "dark", lambda seen: FAULTS["drop-after-accept"](seen))
    with FaultProxy(box.direct_port, "dark") as wire:
        connect(wire.url)
        report(task_context(), call, severity="Major")
    connect(box.url)
    (record,) = flush().opened
    assert "Left out: Severity could not be looked up" in record_line(record)
    bodies = {seen.raw for seen in box.requests if seen.path == "/v1/incidents"}
    assert len(bodies) == 1
    assert "_Left out: Severity. Airflow's log says why._" in sole(box)["summary"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", [1, 2, 3, 4])  # the ledger, the record, its body, its incident
def test_a_process_that_dies_leaves_names_to_the_flush(box, tmp_path, write, after):
    """Whichever write it dies at: the incident has its names, and there is one if anything was written down."""
    failure = Failure(dag_id="orders", run_id="r1")
    settings = Settings(**OPTIONS)
    told = prepare(failure, settings, IncidentContent(), deployment="tests", redact=str)
    store = FileStore(tmp_path)
    pid = fork(lambda: report_to(box.url, Dying(tmp_path, write=write, after=after), told))
    with ended([pid]):
        assert wait_for(pid) == [-signal.SIGKILL]
    written = store.records()
    states = [] if (write, after) < (2, True) else ["open"] if (write, after) == (4, True) else ["pending"]
    assert [record.state for record in written] == states
    if write <= 2:
        assert all(record.draft["severity"] == "major" for record in written)
        assert box.incidents == []
    flush_to(box.url, store)
    report_to(box.url, store, told)
    assert named(sole(box)) == FOUND


# Refusals


@BOTH_VERSIONS
@EVERY_CALLBACK
@pytest.mark.parametrize("wanted", [None, "Majr"])
def test_where_a_severity_is_demanded_the_lowest_is_taken_and_said(box, speak, call, version, wanted):
    """Also where the one that was asked for is unknown."""
    speak(version)
    box.demand_severity = True
    report(task_context(), call, severity=wanted)
    assert named(sole(box))["severity"] == "Minor"
    assert "incident.io demands a severity, so this is the lowest." in sole(box)["summary"]


@STRICT_DOORS
def test_where_a_severity_is_demanded_a_step_fails(box, door):
    box.demand_severity = True
    with pytest.raises(AirflowFailException if door is operator else ValidationError, match="severity_id is required"):
        door()
    assert box.incidents == []


@BOTH_VERSIONS
@EVERY_CALLBACK
def test_several_refusals_of_one_failure_are_all_answered(box, speak, call, version):
    """The account tells first of the severity that it demands, only then of who has left."""
    speak(version)
    box.demand_severity = True
    report(task_context(), call, roles={"Incident Lead": "bob@example.com", "Reporter": LEAVER})
    assert named(sole(box))["severity"] == "Minor"
    assert named(sole(box))["roles"] == {"Incident Lead": "Bob Baker"}


@BOTH_VERSIONS
@EVERY_DOOR
@pytest.mark.parametrize("wanted", ["security", fixed_id("TYP", 3)], ids=["name", "ID"])
def test_a_type_for_private_incidents_makes_it_private(box, speak, door, version, wanted):
    """By name it is known beforehand, by ID from the refusal; more private is no degrading."""
    speak(version)
    door(incident_type=wanted)
    incident = sole(box)
    assert (incident["incident_type"]["name"], incident["visibility"]) == ("Security", "private")


def refusing(*fields):
    """Serve an account that refuses these fields, whatever they say."""
    errors = [{"code": "invalid_value", "message": "no", "source": {"field": f, "pointer": f"/{f}"}} for f in fields]
    said = {"type": "validation_error", "status": 422, "request_id": "r", "errors": errors}
    return Scripted([answer(422, json.dumps(said).encode())])


@EVERY_CALLBACK
@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"visibility": "private"}, ["visibility"]),
        ({"visibility": "private", "incident_type": fixed_id("TYP", 2)}, ["visibility"]),
        ({"mode": "test"}, ["mode"]),
        ({"visibility": "private", "severity": fixed_id("SEV", 2)}, ["severity_id", "visibility"]),
        ({"mode": "test", "severity": fixed_id("SEV", 2)}, ["mode", "severity_id"]),
        ({}, ["visibility"]),
    ],
    ids=str,
)
def test_visibility_and_mode_are_never_weakened(connect, call, options, fields):
    """What was to be private is not shown to others and a test alarms nobody, even if then nothing is opened."""
    with refusing(*fields) as server:
        connect(server.url)
        heard, _ = report(task_context(), call, **options)
    (arrival,) = server.arrivals
    check_request("POST", "/v1/incidents", json.loads(arrival.body))
    assert "NO incident was opened" in heard.error

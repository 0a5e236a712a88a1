"""Templates in custom fields, roles and the runbook: rendered where people write them, and none costs an incident."""

import json
import logging
from types import SimpleNamespace

import pytest

from airflow_incident import CreateIncidentOperator, open_incident
from airflow_incident.airflow_bridge.config import read_lenient_config
from airflow_incident.airflow_bridge.templates import Templates
from tests.airflow_dags import load_dag
from tests.airflow_versions import BASE_URL
from tests.doors import listen, task_context

log = logging.getLogger("tests")


def rendered(context=None, **options):
    """Render what these arguments hold; return the settings, and what was noted."""
    config = read_lenient_config("incident_io_default", **options)
    templates = Templates(context or task_context(), config.redact, log)
    return templates.fields(config).settings, templates.notes


@pytest.fixture(autouse=True)
def _connected(connected):
    return connected


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("{{ ti.task_id }}", "load"),
        ("plain", "plain"),
        ("{one brace}", "{one brace}"),
        (" {{ run_id }} ", "run-1"),
        (7, 7),
        (["{{ ti.task_id }}", "{{ nothing }}", "b"], ["load", "b"]),
        ({"value_text": "{{ run_id }}"}, {"value_text": "run-1"}),
        ([{"value_text": "{{ run_id }}"}, {"value_text": "{{ x }}"}], [{"value_text": "run-1"}]),
        ("{{ nothing }}", None),
        (["{{ nothing }}"], None),
        ({"value_text": "{% if x %}a{% endif %}"}, None),
        ("", None),
    ],
    ids=str,
)
def test_values_are_rendered_wherever_they_are_nested(value, made):
    """What is empty then is left out, and the field with it."""
    settings, notes = rendered(custom_fields={"A": value, "B": "kept"})
    assert settings.custom_fields == ({"A": made} if made is not None else {}) | {"B": "kept"}
    assert notes == []


def test_people_are_rendered_too():
    """A role's person may be what the run was given; nobody is nobody."""
    roles = {"Lead": "{{ params.lead }}", "Scribe": "{{ params.scribe }}", "Other": {"email": "{{ params.lead }}"}}
    settings, _ = rendered(task_context(params={"lead": "bob@example.com"}), roles=roles)
    assert settings.roles == {"Lead": "bob@example.com", "Other": {"email": "bob@example.com"}}


def test_a_broken_value_costs_only_itself():
    """The others are there, and a sentence tells which one is broken."""
    fields = {"A": ["{{", "ok"], "B": "{{ 1 / 0 }}", "C": "c"}
    settings, notes = rendered(custom_fields=fields)
    assert settings.custom_fields == {"A": ["ok"], "C": "c"}
    assert [note.partition(";")[0] for note in notes] == [
        "The template of custom_fields['A'] could not be rendered",
        "The template of custom_fields['B'] could not be rendered",
    ]


def test_a_secret_in_a_broken_template_is_not_noted(connected):
    """Whatever the error says."""

    def shout():
        raise ValueError(f"{connected.api_key} postgresql://me:hunter2-Xy9@db")

    _, notes = rendered(task_context(shout=shout), custom_fields={"A": "{{ shout() }}"})
    assert connected.api_key not in notes[0]
    assert "hunter2" not in notes[0]


def test_values_of_the_connection_are_plain(connect, connected):
    """Whoever keeps the connection writes values, not templates: a flush has no context to render with."""
    connect(connected.url, extra=json.dumps({"custom_fields": {"A": "{{ run_id }}"}}))
    settings, _ = rendered()
    assert settings.custom_fields == {"A": "{{ run_id }}"}


def test_a_callback_s_fields_reach_the_incident(connected):
    """By name and by template, through the wire; a broken one opens the incident without it."""
    callback = open_incident(custom_fields={"Affected team": "{{ params.team }}"}, roles={"Incident Lead": "{{"})
    with listen() as heard:
        callback(task_context(params={"team": "Product"}))
    (incident,) = connected.incidents
    assert "Product" in json.dumps(incident["custom_field_entries"])
    assert "The template of roles['Incident Lead'] could not be rendered" in heard.texts()[0]


RUNBOOK = "https://wiki.example.com/{{ dag.dag_id }}"


def runbook(context=None, **options):
    config = read_lenient_config("incident_io_default", **options)
    from airflow_incident.airflow_bridge.context import read_failure

    context = context or task_context()
    templates = Templates(context, config.redact, log)
    return templates.runbook(read_failure(context), config).runbook, templates.notes


@pytest.mark.parametrize("place", ["argument", "connection", "config"])
def test_the_runbook_is_a_template_wherever_it_is_set(place, connect, connected, monkeypatch):
    """It counts more than the link in the DAG's documentation."""
    if place == "connection":
        connect(connected.url, extra=json.dumps({"runbook": RUNBOOK}))
    elif place == "config":
        monkeypatch.setenv("AIRFLOW__INCIDENT_IO__RUNBOOK", RUNBOOK)
    context = task_context(dag=SimpleNamespace(dag_id="orders", doc_md="[Runbook](https://old.example)"))
    options = {"runbook": RUNBOOK} if place == "argument" else {}
    assert runbook(context, **options) == ("https://wiki.example.com/orders", [])


@pytest.mark.parametrize(
    ("given", "noted"),
    [
        ("{{ nothing }}", ""),
        ("{{", "could not be rendered"),
        ("wiki/orders", "is no address of a page;"),
        ("javascript:alert(1)", "is no address"),
        ("{{ 'https://a.example/' * 500 }}", "is no address"),
    ],
)
def test_a_runbook_that_leads_nowhere_gives_way_to_the_documentation(given, noted):
    """And a sentence says why, unless it is empty."""
    context = task_context(dag=SimpleNamespace(dag_id="orders", doc_md="[Runbook](https://old.example)"))
    found, notes = runbook(context, runbook=given)
    assert found == "https://old.example"
    assert noted in "".join(notes)
    assert bool(noted) == bool(notes)


def test_what_a_template_of_an_operator_made_is_no_template(airflow_db, connected, monkeypatch):
    """Airflow has rendered it: a value that a run was given is not rendered again, and an empty one is left out."""
    monkeypatch.setenv(BASE_URL, "https://airflow.example.com")
    source = """
from airflow.providers.common.compat.sdk import DAG
from airflow_incident import CreateIncidentOperator

with DAG("stepwise", schedule=None, params={"odd": "{" + "{ 7 * 7 }" + "}", "none": ""}) as dag:
    CreateIncidentOperator(
        task_id="tell",
        custom_fields={"Note": "{{ params.odd }}", "Affected team": "{{ params.none }}"},
        runbook="https://wiki.example.com/{{ dag.dag_id }}",
    )
"""
    assert CreateIncidentOperator.template_fields.count("runbook") == 1
    dag = load_dag(airflow_db, source, "stepwise")
    seen = {}
    from airflow_incident.delivery import report

    prepare = report.prepare

    def keep(failure, settings, *args, **kwargs):
        seen.update(runbook=failure.runbook, fields=settings.custom_fields)
        from dataclasses import replace

        return prepare(failure, replace(settings, custom_fields=None), *args, **kwargs)

    monkeypatch.setattr(report, "prepare", keep)
    assert dag.test().state == "success"
    assert seen == {"runbook": "https://wiki.example.com/stepwise", "fields": {"Note": "{{ 7 * 7 }}"}}

"""The light reader of an incident's state: the same for both versions, and forgiving of everything but the ID."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import airflow_incident
from airflow_incident.api.incident import (
    IncidentState,
    incident_label,
    incident_name,
    read_incident_state,
    read_incident_states,
    read_time,
)
from airflow_incident.api.models import Incident
from airflow_incident.delivery.record import OpenIncident
from tests.contract import document

CLOSED_AT = "2026-11-23T10:00:00Z"
LEAD = {"role": {"role_type": "lead"}, "assignee": {"id": "U"}}


def read(**incident):
    return read_incident_state(json.dumps({"incident": {"id": "1"} | incident}).encode())


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_what_the_document_shows_is_read(version):
    """Which incident it is, how it stands, and when that was."""
    example = document()["components"]["schemas"][f"Incident{version}"]["example"]
    state = read(**example)
    assert (state.id, state.reference, state.name) == (example["id"], example["reference"], example["name"])
    assert (state.permalink, state.summary) == (example["permalink"], example["summary"])
    assert (state.created_at, state.updated_at) == (read_time(example["created_at"]), read_time(example["updated_at"]))
    assert state.status_category == "triage"
    assert state.is_open


@pytest.mark.parametrize(
    ("said", "category"),
    [
        ({"status": "triage"}, "triage"),
        *(({"status": word}, "live") for word in ("investigating", "fixing", "monitoring")),
        *(({"status": word}, word) for word in ("closed", "declined")),
        *(
            ({"incident_status": {"id": "S", "name": "Ours", "category": word}}, word)
            for word in ("triage", "live", "paused", "learning", "closed", "declined", "canceled", "merged", "novel")
        ),
        ({}, None),
        ({"status": "sunny"}, None),
        ({"incident_status": "closed"}, None),
    ],
)
def test_either_version_tells_the_category(said, category):
    """v1 by its word, v2 itself; nothing is made up where neither does."""
    state = read(**said)
    assert state.status_category == category
    assert state.is_open == (category in {"triage", "live", "paused"})
    assert state.is_closed == (category in {"closed", "declined", "canceled", "merged"})
    assert state.is_past == (state.is_closed or category == "learning")


@pytest.mark.parametrize(
    "said",
    [
        {"timestamps": [{"name": "Closed at", "last_occurred_at": CLOSED_AT}]},
        {"incident_timestamp_values": [{"incident_timestamp": {"name": "Merged at"}, "value": {"value": CLOSED_AT}}]},
        {
            "timestamps": [
                {"name": "Closed at", "last_occurred_at": "2026-11-23T10:30:00+01:00"},
                {"name": "Declined at", "last_occurred_at": CLOSED_AT},
                {"name": "Resolved at", "last_occurred_at": "2026-11-24T10:00:00Z"},
                {"name": "Canceled at"},
            ]
        },
    ],
)
def test_the_last_moment_at_which_it_was_closed_counts(said):
    assert read(**said).closed_at == datetime(2026, 11, 23, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("assignments", "has_lead"),
    [
        ([LEAD], True),
        ([LEAD | {"assignee": None}], False),
        ([LEAD | {"role": {"role_type": "reporter"}}], False),
        ([LEAD | {"role": "lead"}, 7], False),
        (None, False),
    ],
)
def test_a_lead_is_somebody_in_that_role(assignments, has_lead):
    assert read(incident_role_assignments=assignments).has_lead is has_lead


def test_what_is_of_an_unknown_shape_counts_as_unset():
    """An incident that was opened must not be lost for it."""
    odd = {name: [7] for name in ("reference", "name", "summary", "status", "permalink", "created_at", "updated_at")}
    assert read(**odd, timestamps={"a": 1}, incident_timestamp_values=[None, {"value": 7}]) == IncidentState("1")


@pytest.mark.parametrize("value", [None, 7, "", "soon", "2026-11-23T09:00:00", "2026-11-23"])
def test_a_date_without_a_zone_names_no_moment(value):
    assert read_time(value) is None


@pytest.mark.parametrize("said", [b"[]", b"null", b"{}", b'{"incident": []}', b'{"incident": {"id": 7}}', b"<html>"])
def test_an_answer_without_an_incident_is_none(said):
    with pytest.raises(ValueError, match=r"."):
        read_incident_state(said)


def test_a_page_says_where_the_next_begins():
    page = {"incidents": [{"id": "1"}, {"id": "2"}], "pagination_meta": {"after": "2"}}
    assert read_incident_states(json.dumps(page).encode()) == ([IncidentState("1"), IncidentState("2")], "2")
    assert read_incident_states(b'{"incidents": [], "pagination_meta": []}') == ([], None)
    with pytest.raises(ValueError, match="no list of incidents"):
        read_incident_states(b'{"incidents": {}}')


@pytest.mark.parametrize("kind", [IncidentState, OpenIncident, Incident])
@pytest.mark.parametrize(
    ("known", "label", "name"),
    [
        ({"reference": "INC-1", "permalink": "https://x/1"}, "INC-1", "INC-1 https://x/1"),
        ({"reference": "INC-1", "permalink": None}, "INC-1", "INC-1"),
        ({"reference": "", "permalink": ""}, "01H", "01H"),
        ({"reference": None, "permalink": "https://x/1"}, "01H", "01H https://x/1"),
    ],
)
def test_an_incident_has_one_name_whoever_knows_it(kind, known, label, name):
    make = kind.model_construct if kind is Incident else kind
    incident = make(id="01H", **known)
    assert (incident_label(incident), incident_name(incident)) == (label, name)
    assert incident_name(None) == ""


def test_no_other_file_makes_a_name_of_its_own():
    """Else a log line, a table and an error would call one incident differently."""
    package = Path(airflow_incident.__file__).parent
    files = [path for path in package.rglob("*.py") if "reference or" in path.read_text()]
    assert [str(path.relative_to(package)) for path in files] == ["api/incident.py"]


def test_it_needs_no_call_and_no_model():
    """Every room may use it, and a failure's process has no time for models."""
    code = "import sys, airflow_incident.api.incident; print({'pydantic', 'airflow_incident.api.calls'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""Incidents by v2: created, shown, edited, and the same ones that v1 shows."""

import pytest

from airflow_incident.sandbox import catalogue
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_all

from .conftest import BODY, field_id, refused, speak
from .test_api import FULL as FULL_V1

PATH = "/v2/incidents"
STATUS = {row["name"]: row["id"] for row in catalogue.STATUSES}
LEAD, REPORTER, COMMS = (row["id"] for row in catalogue.ROLES)
FIRST_ONLY = ("status", "source_message_channel_id", "source_message_timestamp")
FULL = {name: value for name, value in FULL_V1.items() if name not in FIRST_ONLY} | {
    "incident_status_id": STATUS["Fixing"],
    "incident_timestamp_values": [
        {"incident_timestamp_id": catalogue.TIMESTAMPS[1]["id"], "value": "2026-03-01T10:00:00Z"}
    ],
    "mode": "retrospective",
    "retrospective_incident_options": {
        "external_id": 77,
        "postmortem_document_url": "https://docs.example.com/77",
        "slack_channel_id": "C77",
    },
    "slack_channel_name_override": "inc-orders",
}


def create(client, **fields):
    body = {**BODY, "idempotency_key": str(fields), **fields}
    answer = client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["incident"]


def edit(client, incident, **fields):
    return client.post(
        f"{PATH}/{incident['id']}/actions/edit", json={"incident": fields, "notify_incident_channel": False}
    )


def assignees(incident):
    rows = incident["incident_role_assignments"]
    return {row["role"]["name"]: row["assignee"]["name"] for row in rows if "assignee" in row}


def test_a_minimal_create_opens_a_standard_incident_in_triage(box, client):
    incident = create(client)
    assert (incident["incident_status"]["category"], incident["mode"]) == ("triage", "standard")
    assert box.incidents_v2 == [incident]
    check_all(box)


def test_every_field_of_a_create_is_seen_in_the_answer(box, client):
    incident = client.post(PATH, json=FULL).json()["incident"]
    assert (incident["reference"], incident["mode"]) == ("INC-77", "retrospective")
    assert incident["incident_status"]["name"] == "Fixing"
    assert incident["severity"]["name"] == "Major"
    assert (incident["slack_channel_name"], incident["slack_channel_id"]) == ("inc-orders", "C77")
    assert incident["postmortem_document_url"] == "https://docs.example.com/77"
    accepted = incident["incident_timestamp_values"][1]
    assert (accepted["incident_timestamp"]["name"], accepted["value"]["value"]) == (
        "Accepted at",
        "2026-03-01T10:00:00Z",
    )
    assert len(incident["custom_field_entries"]) == 6
    assert assignees(incident) == {"Incident Lead": "Bob Baker"}
    check_all(box)
    taken = client.post(PATH, json={**FULL, "idempotency_key": "other"})
    assert refused(taken, 422, "validation_error")[0]["source"]["field"] == "retrospective_incident_options"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"idempotency_key": ""}, "/idempotency_key"),
        ({"visibility": "secret"}, "/visibility"),
        ({"mode": "real"}, "/mode"),
        ({"name": None}, "/name"),
        ({"severity_id": "Major"}, "/severity_id"),
        ({"incident_status_id": "triage"}, "/incident_status_id"),
        ({"incident_type_id": catalogue.INCIDENT_TYPES[2]["id"]}, "/visibility"),
        ({"incident_timestamp_values": [{}]}, "/incident_timestamp_values/0/incident_timestamp_id"),
        (
            {"incident_timestamp_values": [{"incident_timestamp_id": "x"}]},
            "/incident_timestamp_values/0/incident_timestamp_id",
        ),
        (
            {"incident_timestamp_values": [{"incident_timestamp_id": "x", "value": "yesterday"}]},
            "/incident_timestamp_values/0/value",
        ),
        ({"retrospective_incident_options": {}}, "/retrospective_incident_options"),
        (
            {"mode": "retrospective", "retrospective_incident_options": {"external_id": True}},
            "/retrospective_incident_options/external_id",
        ),
        (
            {"mode": "retrospective", "retrospective_incident_options": {"external_id": -1}},
            "/retrospective_incident_options/external_id",
        ),
    ],
)
def test_a_wrong_field_is_named(box, client, change, pointer):
    errors = refused(client.post(PATH, json={**BODY, **change}), 422, "validation_error")
    assert [row["source"]["pointer"] for row in errors] == [pointer]
    assert box.incidents == []


def test_v1_s_own_fields_are_unknown_to_v2(box, client):
    create(client, status="fixing")
    assert box.requests[0].warnings == ["/status"]


@pytest.mark.parametrize("path", ["/v1/incidents", PATH])
def test_a_leaver_is_given_no_role(client, path):
    assignment = {"incident_role_id": LEAD, "assignee": {"email": "dora@example.com"}}
    errors = refused(
        client.post(path, json={**BODY, "incident_role_assignments": [assignment]}), 422, "validation_error"
    )
    assert errors[0]["source"]["pointer"] == "/incident_role_assignments/0/assignee"
    assert "Dora Drake" in errors[0]["message"]


def test_an_incident_is_shown_by_its_id_and_by_its_number(box, client):
    incident = create(client)
    for name in (incident["id"], "1"):
        assert client.get(f"{PATH}/{name}").json() == {"incident": incident}
    check_all(box)
    for name in ("INC-1", "2", "nope"):
        refused(client.get(f"{PATH}/{name}"), 404, "not_found")


@pytest.mark.parametrize(
    ("word", "category", "name"),
    [
        ("triage", "triage", "Triage"),
        ("investigating", "live", "Investigating"),
        ("fixing", "live", "Fixing"),
        ("monitoring", "live", "Monitoring"),
        ("closed", "closed", "Closed"),
        ("declined", "declined", "Declined"),
    ],
)
def test_what_v1_opens_v2_shows_in_its_own_words_and_edits(box, client, word, category, name):
    first = client.post("/v1/incidents", json={**BODY, "status": word}).json()["incident"]
    second = client.get(f"{PATH}/{first['id']}").json()["incident"]
    assert (second["incident_status"]["category"], second["incident_status"]["name"]) == (category, name)
    assert (first["mode"], second["mode"]) == ("real", "standard")
    edited = edit(client, second, name="Renamed").json()["incident"]
    assert edited == {**second, "name": "Renamed", "updated_at": edited["updated_at"]}
    assert client.get(f"/v1/incidents/{first['id']}").json()["incident"]["name"] == "Renamed"
    check_all(box)


@pytest.mark.parametrize(
    ("category", "word"),
    [("learning", "closed"), ("paused", "monitoring"), ("canceled", "declined"), ("merged", "closed")],
)
def test_v1_shows_what_it_has_no_word_for_by_the_nearest(box, client, category, word):
    incident = create(client)
    box.move("INC-1", category)
    assert client.get(f"/v1/incidents/{incident['id']}").json()["incident"]["status"] == word
    check_all(box)


def test_a_live_status_of_the_account_s_own_is_investigating_to_v1():
    with Sandbox() as box, speak(box) as client:
        box.catalogue.statuses.append(catalogue.status(11, "live", "Backfilling", ""))
        create(client, incident_status_id=box.catalogue.statuses[-1]["id"])
        assert box.incidents[0]["status"] == "investigating"


def test_an_edit_changes_only_what_it_gives(box, client):
    before = client.post(PATH, json=FULL).json()["incident"]
    after = edit(client, before, summary="Known now").json()["incident"]
    assert after == {**before, "summary": "Known now", "updated_at": after["updated_at"]}
    changes = {
        "call_url": "https://meet.example.com/x",
        "severity_id": catalogue.SEVERITIES[2]["id"],
        "slack_channel_name_override": "inc-other",
        "custom_field_entries": [{"custom_field_id": field_id("Notes"), "values": []}],
        "incident_role_assignments": [
            {"incident_role_id": LEAD},
            {"incident_role_id": COMMS, "assignee": {"slack_user_id": "U0SANDBOX3"}},
        ],
        "incident_timestamp_values": [{"incident_timestamp_id": catalogue.TIMESTAMPS[1]["id"]}],
    }
    after = edit(client, before, **changes).json()["incident"]
    assert (after["call_url"], after["slack_channel_name"]) == ("https://meet.example.com/x", "inc-other")
    assert after["severity"]["name"] == "Critical"
    assert assignees(after) == {"Communications Lead": "Chloe Carter"}
    entries = {row["custom_field"]["name"]: row["values"] for row in after["custom_field_entries"]}
    assert entries["Notes"] == []
    assert entries["Rows affected"] == [{"value_numeric": "-12.5"}]
    assert "value" not in after["incident_timestamp_values"][1]
    check_all(box)


ALLOWED = {
    "triage": set(STATUS),
    "live": set(STATUS) - {"Triage"},
    "paused": set(STATUS) - {"Triage"},
    "learning": {"Post-incident", "Closed"},
    "closed": {"Closed", "Investigating", "Fixing", "Monitoring"},
    "declined": {"Declined"},
    "canceled": {"Canceled"},
    "merged": {"Merged"},
}


@pytest.mark.parametrize("category", ALLOWED)
def test_only_documented_transitions_are_possible(box, client, category):
    """Never back into triage; a closed incident may be reopened; what was declined, canceled or merged is final."""
    incident, allowed = create(client), set()
    for name, status_id in STATUS.items():
        box.move("INC-1", category)
        answer = edit(client, incident, incident_status_id=status_id)
        if answer.status_code == 200:
            assert answer.json()["incident"]["incident_status"]["name"] == name
            allowed.add(name)
        else:
            (error,) = refused(answer, 422, "validation_error")
            assert error["source"] == {"field": "incident_status_id", "pointer": "/incident/incident_status_id"}
    assert allowed == ALLOWED[category]
    check_all(box)


def test_closing_sets_the_time_of_closing_and_reopening_takes_it_back(client):
    incident = create(client)

    def moments(name):
        after = edit(client, incident, incident_status_id=STATUS[name]).json()["incident"]
        return [row["incident_timestamp"]["name"] for row in after["incident_timestamp_values"] if "value" in row]

    assert moments("Closed") == ["Reported at", "Accepted at", "Closed at"]
    assert moments("Fixing") == ["Reported at", "Accepted at"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"incident": {}}, "/notify_incident_channel"),
        ({"notify_incident_channel": False}, "/incident"),
        ({"incident": {}, "notify_incident_channel": 0}, "/notify_incident_channel"),
        ({"incident": [], "notify_incident_channel": True}, "/incident"),
        ({"incident": {"name": None}, "notify_incident_channel": True}, "/incident/name"),
        ({"incident": {"severity_id": "x"}, "notify_incident_channel": True}, "/incident/severity_id"),
        ({"incident": {"incident_status_id": "x"}, "notify_incident_channel": True}, "/incident/incident_status_id"),
        (
            {
                "incident": {"incident_role_assignments": [{"incident_role_id": REPORTER}]},
                "notify_incident_channel": True,
            },
            "/incident/incident_role_assignments/0/incident_role_id",
        ),
        (
            {
                "incident": {"custom_field_entries": [{"custom_field_id": "x", "values": []}]},
                "notify_incident_channel": True,
            },
            "/incident/custom_field_entries/0/custom_field_id",
        ),
    ],
)
def test_a_wrong_edit_changes_nothing_and_names_the_field(box, client, body, pointer):
    incident = create(client)
    answer = client.post(f"{PATH}/{incident['id']}/actions/edit", json=body)
    assert [row["source"]["pointer"] for row in refused(answer, 422, "validation_error")] == [pointer]
    assert box.incidents_v2 == [incident]


def test_an_edit_of_nothing_that_exists_is_404(client):
    create(client)
    for name in ("INC-1", "1", "nope"):
        refused(client.post(f"{PATH}/{name}/actions/edit", json={}), 404, "not_found")


def test_updates_tell_of_every_new_status_and_severity_newest_first(box, client):
    incident = create(client)
    edit(client, incident, name="No news")
    edit(client, incident, severity_id=catalogue.SEVERITIES[0]["id"])
    box.close("INC-1")
    create(client, name="other")
    query = {"incident_id": incident["id"], "page_size": 2}
    first = client.get("/v2/incident_updates", params=query).json()
    query["after"] = first["pagination_meta"]["after"]
    last = client.get("/v2/incident_updates", params=query).json()
    rows = first["incident_updates"] + last["incident_updates"]
    told = {(row["new_incident_status"]["name"], row.get("new_severity", {}).get("name")) for row in rows}
    assert told == {("Triage", None), ("Triage", "Minor"), ("Closed", "Minor")}
    assert "after" not in last["pagination_meta"]
    assert len(client.get("/v2/incident_updates").json()["incident_updates"]) == 4
    check_all(box)

"""What is wrong with a create is refused, all of it at once, and named."""

import pytest

from airflow_incident.sandbox import catalogue

from .conftest import BODY, field_id, refused


@pytest.mark.parametrize(
    ("change", "field", "pointer"),
    [
        ({"idempotency_key": ""}, "idempotency_key", "/idempotency_key"),
        ({"idempotency_key": 7}, "idempotency_key", "/idempotency_key"),
        ({"visibility": "secret"}, "visibility", "/visibility"),
        ({"mode": "tutorial"}, "mode", "/mode"),
        ({"mode": ["real"]}, "mode", "/mode"),
        ({"status": "learning"}, "status", "/status"),
        ({"name": None}, "name", "/name"),
        ({"unknown": {"deep": [None]}}, "unknown", "/unknown/deep/0"),
        ({"severity_id": "Major"}, "severity_id", "/severity_id"),
        ({"incident_type_id": "nope"}, "incident_type_id", "/incident_type_id"),
        ({"incident_type_id": catalogue.INCIDENT_TYPES[2]["id"]}, "visibility", "/visibility"),
        ({"custom_field_entries": {}}, "custom_field_entries", "/custom_field_entries"),
        ({"custom_field_entries": ["x"]}, "custom_field_entries", "/custom_field_entries/0"),
        ({"incident_role_assignments": [7]}, "incident_role_assignments", "/incident_role_assignments/0"),
    ],
)
def test_a_wrong_field_is_named(box, client, change, field, pointer):
    errors = refused(client.post("/v1/incidents", json={**BODY, **change}), 422, "validation_error")
    assert [row["source"] for row in errors] == [{"field": field, "pointer": pointer}]
    assert box.incidents == []


@pytest.mark.parametrize("name", ["idempotency_key", "visibility"])
def test_a_missing_required_field_is_named(client, name):
    body = {key: value for key, value in BODY.items() if key != name}
    errors = refused(client.post("/v1/incidents", json=body), 422, "validation_error")
    assert [(row["code"], row["source"]["field"]) for row in errors] == [("is_required", name)]


@pytest.mark.parametrize(
    ("name", "values", "pointer"),
    [
        ("Affected team", [{"value_text": "Product"}], "/values/0"),
        ("Affected team", [{"value_option_id": "nope"}], "/values/0/value_option_id"),
        ("Affected team", [{"value_option_id": "a"}, {"value_option_id": "b"}], "/values"),
        ("Service", [{"value_catalog_entry_id": "nope"}], "/values/0/value_catalog_entry_id"),
        ("Rows affected", [{"value_numeric": "many"}], "/values/0/value_numeric"),
        ("Rows affected", [{"value_numeric": 7}], "/values/0/value_numeric"),
        ("Runbook", [{"value_link": "javascript:alert(1)"}], "/values/0/value_link"),
        ("Notes", [{"id": "x"}], "/values/0"),
        ("Notes", [{"value_text": "x", "value_link": "https://x"}], "/values/0"),
        ("Notes", [{"value_timestamp": "2026-01-01T00:00:00Z"}], "/values/0"),
        ("Notes", [{"value_json": "x"}], "/values/0"),
        ("Notes", ["x"], "/values/0"),
        ("Notes", "x", "/values"),
    ],
)
def test_a_value_that_does_not_suit_its_custom_field_is_refused(client, name, values, pointer):
    entries = [{"custom_field_id": field_id(name), "values": values}]
    answer = client.post("/v1/incidents", json={**BODY, "custom_field_entries": entries})
    errors = refused(answer, 422, "validation_error")
    assert errors[0]["source"]["pointer"] == f"/custom_field_entries/0{pointer}"


def test_an_unknown_custom_field_role_or_user_is_refused(client):
    body = {
        **BODY,
        "custom_field_entries": [{"custom_field_id": "nope", "values": []}],
        "incident_role_assignments": [
            {"incident_role_id": "nope", "assignee": {"id": "nope"}},
            {"incident_role_id": catalogue.ROLES[0]["id"], "assignee": {}},
        ],
    }
    errors = refused(client.post("/v1/incidents", json=body), 422, "validation_error")
    assert [row["source"]["pointer"] for row in errors] == [
        "/custom_field_entries/0/custom_field_id",
        "/incident_role_assignments/0/incident_role_id",
        "/incident_role_assignments/0/assignee",
        "/incident_role_assignments/1/assignee",
    ]


def test_all_problems_are_told_at_once(client):
    body = {
        "visibility": "x",
        "custom_field_entries": [{}],
        "incident_role_assignments": [
            {"assignee": "bob"},
            {"assignee": {"email": 1}, "incident_role_id": ""},
        ],
    }
    errors = refused(client.post("/v1/incidents", json=body), 422, "validation_error")
    assert len(errors) == 8


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b'"x"', b"\xff{}", b'{"a": NaN}', b"[" * 100_000, b'{"a": 1' + b"0" * 5000 + b"}"],
)
def test_a_body_that_is_no_json_object_is_refused(client, raw):
    answer = client.post("/v1/incidents", content=raw, headers={"Content-Type": "application/json"})
    refused(answer, 422, "validation_error")

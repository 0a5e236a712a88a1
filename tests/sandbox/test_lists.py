"""The sandbox lists what incidents can refer to, and a test may change it."""

import pytest

from airflow_incident.sandbox import catalogue
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_all

from .conftest import BODY, refused, speak

LISTS = {
    "/v1/severities": ("severities", "severity"),
    "/v1/incident_types": ("incident_types", "incident_type"),
    "/v1/incident_statuses": ("incident_statuses", "incident_status"),
    "/v2/incident_roles": ("incident_roles", "incident_role"),
    "/v2/custom_fields": ("custom_fields", "custom_field"),
}


def pages(client, path, name, **query):
    """Follow a list to its end, and return all rows and the number of pages."""
    rows, count = [], 0
    while True:
        answer = client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        rows += answer.json()[name]
        count += 1
        query["after"] = answer.json()["pagination_meta"].get("after")
        if query["after"] is None:
            return rows, count


@pytest.mark.parametrize("path", LISTS)
def test_every_row_of_a_list_is_shown_by_its_id(box, client, path):
    many, one = LISTS[path]
    rows = client.get(path).json()[many]
    assert len(rows) >= 3
    for row in rows:
        assert client.get(f"{path}/{row['id']}").json() == {one: row}
    check_all(box)
    refused(client.get(f"{path}/nope"), 404, "not_found")


def test_there_is_a_status_of_every_category(box, client):
    rows = client.get("/v1/incident_statuses").json()["incident_statuses"]
    assert {row["category"] for row in rows} == set(catalogue.CATEGORIES)
    assert [row["name"] for row in rows if row["category"] == "live"] == ["Investigating", "Fixing", "Monitoring"]
    check_all(box)


def test_timestamps_are_listed(box, client):
    rows = client.get("/v2/incident_timestamps").json()["incident_timestamps"]
    assert [row["name"] for row in rows] == ["Reported at", "Accepted at", "Closed at"]
    check_all(box)


def test_three_hundred_options_come_in_pages():
    """And each of them can be taken."""
    values = [f"Region {number}" for number in range(300)]
    with Sandbox() as box, speak(box) as client:
        field = catalogue.custom_field(7, "single_select", "Region", "Where.", *values)
        box.catalogue.custom_fields.append(field)
        rows, count = pages(client, "/v1/custom_field_options", "custom_field_options", custom_field_id=field["id"])
        assert ([row["value"] for row in rows], count) == (values, 12)
        assert len({row["id"] for row in rows}) == 300
        query = {"custom_field_id": field["id"], "page_size": 250}
        assert pages(client, "/v1/custom_field_options", "custom_field_options", **query) == (rows, 2)
        entry = {"custom_field_id": field["id"], "values": [{"value_option_id": rows[299]["id"]}]}
        incident = client.post("/v2/incidents", json={**BODY, "custom_field_entries": [entry]}).json()["incident"]
        assert incident["custom_field_entries"][0]["values"][0]["value_option"]["value"] == "Region 299"
        check_all(box)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("custom_field_id=nope", 404),
        (f"custom_field_id={catalogue.CUSTOM_FIELDS[0]['id']}&page_size=251", 422),
    ],
)
def test_options_of_no_field_are_refused(client, query, status):
    answer = client.get(f"/v1/custom_field_options?{query}")
    refused(answer, status, "validation_error" if status == 422 else "not_found")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["Alice", "Bob", "Chloe"]),
        ("include_inactive=false", ["Alice", "Bob", "Chloe"]),
        ("include_inactive=true", ["Alice", "Bob", "Chloe", "Dora"]),
        ("email=BOB%40example.com", ["Bob"]),
        ("email=dora%40example.com", []),
        ("email=dora%40example.com&include_inactive=true", ["Dora"]),
        ("slack_user_id=U0SANDBOX3", ["Chloe"]),
        ("slack_user_id=U0SANDBOX3&email=bob%40example.com", []),
        ("page_size=2", ["Alice", "Bob"]),
        ("page_size=10000", ["Alice", "Bob", "Chloe"]),
    ],
)
def test_people_are_found_by_email_or_slack_id_and_leavers_only_when_asked_for(box, client, query, names):
    rows = client.get(f"/v2/users?{query}").json()["users"]
    assert [row["name"].split()[0] for row in rows] == names
    assert [row["is_active"] for row in rows] == [name != "Dora" for name in names]
    check_all(box)


@pytest.mark.parametrize("query", ["include_inactive=perhaps", "page_size=10001", "after=nope"])
def test_a_wrong_question_about_people_is_refused(client, query):
    errors = refused(client.get(f"/v2/users?{query}"), 422, "validation_error")
    assert errors[0]["source"]["field"] == query.partition("=")[0]


def test_people_come_in_pages(client):
    rows, count = pages(client, "/v2/users", "users", page_size=1, include_inactive="true")
    assert (len(rows), count) == (4, 4)


def test_a_catalogue_belongs_to_one_sandbox_and_may_be_changed_while_it_runs():
    """Two severities whose names differ only in case are two."""
    with Sandbox() as box, Sandbox() as other, speak(box) as client, speak(other) as neighbour:
        shouted = catalogue.severity(4, "MAJOR", "Shouted.")
        box.catalogue.severities.append(shouted)
        names = [row["name"] for row in client.get("/v1/severities").json()["severities"]]
        assert names == ["Minor", "Major", "Critical", "MAJOR"]
        assert len(neighbour.get("/v1/severities").json()["severities"]) == len(catalogue.SEVERITIES) == 3
        body = {**BODY, "severity_id": shouted["id"]}
        assert client.post("/v1/incidents", json=body).json()["incident"]["severity"] == shouted
        refused(neighbour.post("/v1/incidents", json=body), 422, "validation_error")
        box.clear()
        assert shouted in box.catalogue.severities

"""Links that are attached to an incident."""

import pytest

from tests.contract import check_all, check_request, check_response
from tests.sandbox.conftest import BODY, refused, speak

PATH = "/v1/incident_attachments"


def opened(client):
    return client.post("/v1/incidents", json=BODY).json()["incident"]["id"]


def test_a_link_is_attached_and_listed(client, box):
    """Both requests and both answers are the document's."""
    resource = {
        "resource_type": "arbitrary_url",
        "url": "https://airflow.example.com/run",
        "title": "Failed tasks: load",
    }
    body = {"incident_id": opened(client), "resource": resource}
    made = client.post(PATH, json=body)
    check_request("POST", PATH, body)
    check_response("POST", PATH, made.status_code, made.json())
    listed = client.get(PATH, params={"incident_id": body["incident_id"]})
    check_response("GET", PATH, 200, listed.json())
    assert [row["resource"]["title"] for row in listed.json()["incident_attachments"]] == ["Failed tasks: load"]
    assert client.get(PATH, params={"incident_id": "other"}).json() == {"incident_attachments": []}
    shown = client.get(f"/page/incidents/{body['incident_id']}").json()
    assert shown["attachments"][0]["permalink"] == resource["url"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"incident_id": "unknown"}, 404),
        ({"resource": {"resource_type": "arbitrary_url"}}, 422),
        ({"resource": {"resource_type": "carrier_pigeon", "url": "https://x"}}, 422),
        ({"resource": {"url": "https://x"}}, 422),
        ({"resource": "https://x"}, 422),
        ({"incident_id": None}, 422),
        ({"incident_id": 3}, 422),
    ],
)
def test_a_wrong_attachment_is_refused(client, change, status):
    body = {"incident_id": opened(client), "resource": {"resource_type": "arbitrary_url", "url": "https://x"}} | change
    answer = client.post(PATH, json=body)
    assert answer.status_code == status
    check_response("POST", PATH, status, answer.json())


def test_attaching_needs_the_editor_s_role():
    from airflow_incident.sandbox.server import Sandbox

    with Sandbox(roles=["incident_creator"]) as box, speak(box) as client:
        body = {"incident_id": opened(client), "resource": {"resource_type": "arbitrary_url", "url": "https://x"}}
        assert client.post(PATH, json=body).status_code == 403


def test_another_system_s_resource_has_an_address_of_its_own(client):
    body = {"incident_id": opened(client), "resource": {"resource_type": "jira_issue", "external_id": "OPS-1"}}
    resource = client.post(PATH, json=body).json()["incident_attachment"]["resource"]
    assert resource["title"] == "OPS-1"
    assert resource["permalink"].startswith("https://")


def test_a_link_can_be_taken_away_once(client, box):
    body = {"incident_id": opened(client), "resource": {"resource_type": "arbitrary_url", "url": "https://x"}}
    kept, gone = (client.post(PATH, json=body).json()["incident_attachment"] for _ in range(2))
    answer = client.delete(f"{PATH}/{gone['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(PATH).json() == {"incident_attachments": [kept]}
    check_all(box)
    refused(client.delete(f"{PATH}/{gone['id']}"), 404, "not_found")

"""What a sandbox is told, at its start or while it runs, is what it does."""

import pytest

from airflow_incident.sandbox import catalogue
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_all

from .conftest import BODY, refused, speak
from .test_second_version import STATUS, create, edit

FIRST = "/v1/incidents"
SECOND = "/v2/incidents"
ATTACHMENT = "/v1/incident_attachments"

NEEDED = {
    ("POST", FIRST): "incident_creator",
    ("POST", SECOND): "incident_creator",
    ("POST", f"{SECOND}/x/actions/edit"): "incident_editor",
    ("POST", ATTACHMENT): "incident_editor",
    ("DELETE", f"{ATTACHMENT}/x"): "incident_editor",
} | {
    ("GET", path): "viewer"
    for path in (
        FIRST,
        f"{FIRST}/x",
        SECOND,
        f"{SECOND}/x",
        ATTACHMENT,
        "/v1/severities",
        "/v1/severities/x",
        "/v1/incident_types",
        "/v1/incident_types/x",
        "/v1/incident_statuses",
        "/v1/incident_statuses/x",
        "/v1/custom_field_options",
        "/v2/custom_fields",
        "/v2/custom_fields/x",
        "/v2/incident_roles",
        "/v2/incident_roles/x",
        "/v2/incident_timestamps",
        "/v2/incident_updates",
        "/v2/users",
    )
}


@pytest.mark.parametrize("role", ["viewer", "incident_creator", "incident_editor"])
def test_every_endpoint_asks_for_its_role(role):
    with Sandbox(roles=(role,)) as box, speak(box) as client:
        for (method, path), needed in NEEDED.items():
            answer = client.request(method, path)
            assert (answer.status_code == 403) == (needed != role), (method, path)
            if needed != role:
                assert needed in refused(answer, 403, "resource_forbidden")[0]["message"]


@pytest.mark.parametrize("where", ["Investigating", "Monitoring", "Post-incident"])
def test_closing_past_a_post_incident_flow_takes_a_role(where):
    everything = ("viewer", "incident_creator", "incident_editor", "post_incident_flow_opt_out")
    for roles, status in ((everything[:3], 403), (everything, 200)):
        with Sandbox(post_incident_flow=True, roles=roles) as box, speak(box) as client:
            incident = create(client, incident_status_id=STATUS[where])
            answer = edit(client, incident, incident_status_id=STATUS["Closed"])
            assert answer.status_code == status
            check_all(box)
    assert "post_incident_flow_opt_out" not in Sandbox().options.roles


@pytest.mark.parametrize(("flow", "where"), [(True, "Triage"), (False, "Fixing")])
def test_without_a_flow_or_from_triage_the_editor_s_role_is_enough(flow, where):
    with Sandbox(post_incident_flow=flow) as box, speak(box) as client:
        incident = create(client, incident_status_id=STATUS[where])
        assert edit(client, incident, incident_status_id=STATUS["Closed"]).status_code == 200


def test_v1_can_be_removed_and_brought_back_while_it_runs():
    """Only its incidents go; what else is under /v1 stays, and v2 shows what v1 opened."""
    with Sandbox() as box, speak(box) as client:
        opened = client.post(FIRST, json=BODY).json()["incident"]["id"]
        box.v1_removed = True
        for method, path in (
            ("POST", FIRST),
            ("GET", FIRST),
            ("GET", f"{FIRST}/{opened}"),
            ("GET", f"{FIRST}?page_size=1"),
        ):
            (error,) = refused(client.request(method, path, json=BODY if method == "POST" else None), 404, "not_found")
            assert "source" not in error
        for path in ("/v1/severities", "/v1/identity", f"{SECOND}/{opened}", ATTACHMENT):
            assert client.get(path).status_code == 200
        box.v1_removed = False
        assert client.get(f"{FIRST}/{opened}").status_code == 200
        assert len(box.incidents) == 1


def test_a_removed_v1_still_asks_for_the_key():
    with Sandbox(v1_removed=True) as box, speak(box) as client:
        refused(client.get(FIRST, headers={"Authorization": "Bearer x"}), 401, "authentication_error")
        refused(client.get(FIRST), 404, "not_found")


@pytest.mark.parametrize("path", [FIRST, SECOND])
def test_a_severity_can_be_demanded_while_it_runs(path):
    with Sandbox(demand_severity=True) as box, speak(box) as client:
        (error,) = refused(client.post(path, json=BODY), 422, "validation_error")
        assert (error["code"], error["source"]["field"]) == ("is_required", "severity_id")
        body = {**BODY, "severity_id": catalogue.SEVERITIES[0]["id"]}
        assert client.post(path, json=body).status_code == 200
        box.demand_severity = False
        assert client.post(path, json={**BODY, "idempotency_key": "other"}).status_code == 200
        check_all(box)


@pytest.mark.parametrize(("shared", "count"), [(False, 2), (True, 1)])
def test_the_versions_share_keys_only_when_told(shared, count):
    with Sandbox(shared_keys=shared) as box, speak(box) as client:
        first = client.post(FIRST, json=BODY).json()["incident"]
        second = client.post(SECOND, json=BODY).json()["incident"]
        assert (first["id"] == second["id"]) == shared
        assert client.post(SECOND, json=BODY).json()["incident"] == second
        assert len(box.incidents) == count
        check_all(box)


@pytest.mark.parametrize(("repeat", "status"), [("existing", 200), ("conflict", 409), ("rejected", 422)])
def test_a_repeated_key_answers_alike_in_v2(repeat, status):
    with Sandbox(repeat=repeat) as box, speak(box) as client:
        first = client.post(SECOND, json=BODY).json()["incident"]
        answer = client.post(SECOND, json={**BODY, "name": "new"})
        assert answer.status_code == status
        assert box.incidents_v2 == [first]
        check_all(box)

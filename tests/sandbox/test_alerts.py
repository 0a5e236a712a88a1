"""An alert source takes events, makes alerts of them, and the alert route opens an incident for each."""

import json

import httpx
import pytest

from airflow_incident.sandbox import catalogue, options
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_all

from .conftest import BODY, refused, speak

PATH = f"/v2/alert_events/http/{options.ALERT_SOURCE_ID}"
FIRING = {"title": "DAG orders failed", "status": "firing", "deduplication_key": "airflow/prod/dag/orders/run/1"}
FULL = {
    **FIRING,
    "description": "**load** failed",
    "source_url": "https://airflow.example.com/run",
    "metadata": {"team": ["product"], "try": 2, "deep": {"a": "b"}},
}


def send(box, body, token=options.ALERT_SOURCE_TOKEN, path=PATH):
    headers = {"Authorization": f"Bearer {token}".encode()}
    return httpx.post(box.url + path, json=body, headers=headers, trust_env=False)


def test_a_first_firing_event_opens_an_alert_and_its_incident(box):
    answer = send(box, FULL)
    assert (answer.status_code, answer.json()["deduplication_key"]) == (202, FULL["deduplication_key"])
    (alert,) = box.alerts
    (incident,) = box.incidents_v2
    assert {name: alert[name] for name in FULL} == FULL
    assert alert["incident_id"] == incident["id"]
    assert (incident["name"], incident["summary"]) == (FULL["title"], FULL["description"])
    assert incident["incident_status"]["category"] == "triage"
    assert incident["creator"] == {"alert": {"id": alert["id"], "title": alert["title"]}}
    check_all(box)


def test_both_versions_show_an_incident_that_an_alert_opened(box, client):
    send(box, FIRING)
    incident_id = box.alerts[0]["incident_id"]
    for version in ("v1", "v2"):
        assert client.get(f"/{version}/incidents/{incident_id}").status_code == 200
    check_all(box)


def test_the_same_again_changes_nothing(box):
    send(box, FULL)
    before = (box.alerts, box.incidents_v2)
    assert send(box, {**FULL, "title": "other"}).status_code == 202
    assert (box.alerts, box.incidents_v2) == before


def test_resolved_ends_the_alert_once_and_leaves_the_incident(box):
    send(box, FIRING)
    incident = box.incidents_v2[0]
    assert send(box, {**FIRING, "status": "resolved"}).status_code == 202
    (ended,) = box.alerts
    assert ended["status"] == "resolved"
    send(box, {**FIRING, "status": "resolved"})
    assert box.alerts == [ended]
    assert box.incidents_v2 == [incident]
    check_all(box)


def test_what_fires_after_it_was_resolved_is_a_new_alert(box):
    """A deduplication key stands for an alert as long as that is active."""
    for status in ("firing", "firing", "resolved", "resolved", "firing", "firing"):
        assert send(box, {**FIRING, "status": status}).status_code == 202
    assert [alert["status"] for alert in box.alerts] == ["resolved", "firing"]
    assert len(box.incidents) == 2
    check_all(box)


def test_resolving_what_never_fired_does_nothing(box):
    assert send(box, {**FIRING, "status": "resolved"}).status_code == 202
    assert (box.alerts, box.incidents) == ([], [])


def test_an_alert_and_a_create_share_no_keys(box, client):
    send(box, FIRING)
    client.post("/v1/incidents", json=BODY)
    assert len(box.incidents) == 2


@pytest.mark.parametrize("token", ["wrong", "sandbox-key", "ü"])
def test_only_the_source_s_own_token_opens_it(box, token):
    refused(send(box, FIRING, token), 401, "authentication_error")
    assert box.alerts == []


def test_the_source_s_token_opens_nothing_else(box):
    headers = {"Authorization": f"Bearer {options.ALERT_SOURCE_TOKEN}"}
    refused(httpx.get(f"{box.url}/v1/identity", headers=headers, trust_env=False), 401, "authentication_error")


def test_an_unknown_source_is_404(box):
    refused(send(box, FIRING, path="/v2/alert_events/http/nope"), 404, "not_found")


def test_a_source_can_be_removed_while_it_runs():
    with Sandbox() as box:
        assert send(box, FIRING).status_code == 202
        box.alert_source_removed = True
        refused(send(box, FIRING), 404, "not_found")


def test_the_source_has_a_rate_of_its_own(clock):
    with Sandbox(alert_rate_limit=2, rate_limit=1, clock=clock) as box, speak(box) as client:
        assert [send(box, FIRING).status_code for _ in range(2)] == [202, 202]
        answer = send(box, FIRING)
        refused(answer, 429, "too_many_requests")
        assert answer.headers["Retry-After"] == "30"
        assert answer.json()["rate_limit"]["retry_after"] == "2026-09-21T14:13:50.000Z"
        assert client.get("/v1/identity").status_code == 200
        clock.now += 30
        assert send(box, FIRING).status_code == 202


def test_its_usual_rate_is_two_a_second():
    assert options.Options().alert_rate_limit == 120


def test_another_id_and_token_can_be_told():
    with Sandbox(alert_source_id="01OTHER", alert_source_token="t") as box:
        assert send(box, FIRING, "t", "/v2/alert_events/http/01OTHER").status_code == 202
        refused(send(box, FIRING, "t"), 404, "not_found")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"title": ""}, "/title"),
        ({"status": "closed"}, "/status"),
        ({"deduplication_key": ""}, "/deduplication_key"),
        ({"deduplication_key": 1}, "/deduplication_key"),
        ({"description": None}, "/description"),
        ({"metadata": "team"}, "/metadata"),
        ({"metadata": {"deep": [None]}}, "/metadata/deep/0"),
    ],
)
def test_a_wrong_event_is_named(box, change, pointer):
    errors = refused(send(box, {**FULL, **change}), 422, "validation_error")
    assert [row["source"]["pointer"] for row in errors] == [pointer]
    assert box.alerts == []


@pytest.mark.parametrize("name", ["title", "status", "deduplication_key"])
def test_a_missing_property_is_named(box, name):
    errors = refused(send(box, {key: value for key, value in FULL.items() if key != name}), 422, "validation_error")
    assert [(row["code"], row["source"]["field"]) for row in errors] == [("is_required", name)]


def test_the_page_shows_the_alert_on_its_incident(box):
    send(box, FIRING)
    for status in ("firing", "resolved"):
        send(box, {**FIRING, "status": status})
        found = httpx.get(f"{box.url}/page/incidents/INC-1", trust_env=False).json()
        assert (found["opened_by"], found["alert"]["status"], found["request"]) == ("alert", status, FIRING)


def route(box, **metadata):
    send(box, {**FIRING, "deduplication_key": json.dumps(metadata), "metadata": metadata})
    return httpx.get(f"{box.url}/page/incidents/INC-{len(box.alerts)}", trust_env=False).json()["route"]


def test_the_page_says_which_route_takes_an_alert_by_its_metadata():
    """The first one that wants it; a value may be one of several; what none wants opens its incident all the same."""
    with Sandbox() as box:
        assert [route(box, severity="Critical")["name"], route(box)["name"]] == ["Wake somebody", "Working hours"]
        box.catalogue.alert_routes[:] = [
            catalogue.alert_route("Web", owners="web", severity="Major"),
            catalogue.alert_route("Web, later", owners="web"),
        ]
        assert route(box, owners=["data", "web"], severity="Major")["name"] == "Web"
        assert route(box, owners=["data", "web"])["name"] == "Web, later"
        assert route(box, owners="website") is None
        assert len(box.incidents) == 5


def test_clearing_forgets_alerts(box):
    send(box, FIRING)
    box.clear()
    assert box.alerts == []
    send(box, FIRING)
    assert [row["reference"] for row in box.incidents] == ["INC-1"]

"""The sandbox answers as incident.io does."""

import concurrent.futures
import itertools
import json
import socket
import ssl
import subprocess
import sys

import httpx
import pytest
import trustme

from airflow_incident.sandbox import catalogue
from airflow_incident.sandbox.options import REPEATS, Options
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_all, check_request

from .conftest import BODY, field_id, refused, speak


def option_id(name):
    options = itertools.chain.from_iterable(row["options"] for row in catalogue.CUSTOM_FIELDS)
    return next(row["id"] for row in options if row["value"] == name)


FULL = {
    **BODY,
    "name": "DAG orders failed: ZeroDivisionError",
    "summary": "**division by zero** in `load`",
    "mode": "test",
    "status": "investigating",
    "severity_id": catalogue.SEVERITIES[1]["id"],
    "incident_type_id": catalogue.INCIDENT_TYPES[1]["id"],
    "slack_team_id": "T123",
    "source_message_channel_id": "C123",
    "source_message_timestamp": "1690000000.1",
    "custom_field_entries": [
        {"custom_field_id": field_id(name), "values": values}
        for name, values in {
            "Affected team": [{"value_option_id": option_id("Product")}],
            "Data products": [
                {"value_option_id": option_id("Orders")},
                {"value_option_id": option_id("Clicks")},
            ],
            "Notes": [{"value_text": "nothing else"}],
            "Runbook": [{"value_link": "https://example.com/runbook"}],
            "Rows affected": [{"value_numeric": "-12.5"}],
            "Service": [{"value_catalog_entry_id": "dwh"}],
        }.items()
    ],
    "incident_role_assignments": [
        {"incident_role_id": catalogue.ROLES[0]["id"], "assignee": {"email": "bob@example.com"}}
    ],
}


def test_a_minimal_create_opens_an_incident_in_triage(box, client):
    answer = client.post("/v1/incidents", json=BODY)
    incident = answer.json()["incident"]
    assert answer.status_code == 200
    assert (incident["reference"], incident["status"], incident["mode"]) == ("INC-1", "triage", "real")
    assert incident["permalink"] == f"{box.url}/incidents/INC-1"
    assert "severity" not in incident
    assert "summary" not in incident
    assert box.incidents == [incident]
    check_all(box)


def test_a_full_create_shows_everything_it_was_given(box, client):
    incident = client.post("/v1/incidents", json=FULL).json()["incident"]
    assert {name: incident[name] for name in ("name", "summary", "mode", "status", "slack_team_id")} == {
        name: FULL[name] for name in ("name", "summary", "mode", "status", "slack_team_id")
    }
    assert incident["severity"]["name"] == "Major"
    assert incident["incident_type"]["name"] == "Data pipeline"
    values = {row["custom_field"]["name"]: row["values"] for row in incident["custom_field_entries"]}
    assert values["Affected team"][0]["value_option"]["value"] == "Product"
    assert [row["value_option"]["value"] for row in values["Data products"]] == ["Orders", "Clicks"]
    assert values["Service"][0]["value_catalog_entry"]["name"] == "Warehouse"
    assert values["Rows affected"] == [{"value_numeric": "-12.5"}]
    lead = incident["incident_role_assignments"][0]
    assert (lead["role"]["role_type"], lead["assignee"]["name"]) == ("lead", "Bob Baker")
    check_all(box)


def test_an_incident_born_closed_has_its_time_of_closing(box, client):
    incident = client.post("/v1/incidents", json={**BODY, "status": "closed"}).json()["incident"]
    assert all("last_occurred_at" in row for row in incident["timestamps"])
    check_all(box)


def test_half_a_surrogate_pair_survives(box, client):
    raw = json.dumps({**BODY, "name": "a\ud800b"}).encode()
    answer = client.post("/v1/incidents", content=raw, headers={"Content-Type": "application/json"})
    assert answer.json()["incident"]["name"] == "a\ud800b"
    assert client.get("/v1/incidents").status_code == 200
    assert box.requests[0].raw == raw


def test_a_body_without_its_content_type_is_refused(client):
    answer = client.post("/v1/incidents", content=json.dumps(BODY).encode())
    refused(answer, 415, "api_error")


def test_a_body_beyond_the_limit_is_refused():
    with Sandbox(max_body_bytes=1000) as box, speak(box) as client:
        fits = client.post("/v1/incidents", json={**BODY, "name": "x" * 800})
        assert fits.status_code == 200
        for size in (1000, 5_000_000):
            refused(client.post("/v1/incidents", json={**BODY, "name": "x" * size}), 413, "payload_too_large")
        assert [seen.status for seen in box.requests] == [200, 413, 413]


def test_a_client_that_leaves_within_its_body_is_no_request(box, client, caplog):
    with socket.create_connection(("127.0.0.1", box.port)) as leaver:
        head = f"POST /v1/incidents HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {box.api_key}\r\n"
        leaver.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{{".encode())
    assert client.get("/v1/identity").status_code == 200
    assert [seen.path for seen in box.requests] == ["/v1/identity"]
    assert caplog.text == ""


def test_unknown_properties_are_ignored_but_noted(box, client):
    body = {**BODY, "severity": "Major", "custom_field_entries": [], "incident_role_assignments": []}
    entries = [{"custom_field_id": field_id("Notes"), "values": [{"value_text": "x", "colour": "red"}]}]
    answer = client.post("/v1/incidents", json={**body, "custom_field_entries": entries})
    assert answer.status_code == 200
    assert box.requests[0].warnings == ["/severity", "/custom_field_entries/0/values/0/colour"]
    with pytest.raises(AssertionError, match="severity"):
        check_all(box)


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic sandbox-key", "sandbox-key", "Bearer", "Bearer ü"])
@pytest.mark.parametrize("path", ["/v1/incidents", "/v1/identity", "/v1/nothing"])
def test_without_the_right_key_nothing_is_answered(box, header, path):
    headers = {} if header is None else {"Authorization": header.encode()}
    refused(httpx.get(box.url + path, headers=headers, trust_env=False), 401, "authentication_error")


def test_roles_decide_what_a_key_may_do():
    with Sandbox(roles=(), api_key="other") as box, speak(box) as client:
        create = refused(client.post("/v1/incidents", json=BODY), 403, "resource_forbidden")
        assert "incident_creator" in create[0]["message"]
        assert "viewer" in refused(client.get("/v1/incidents"), 403, "resource_forbidden")[0]["message"]
        refused(client.get("/v1/incidents/x"), 403, "resource_forbidden")
        assert client.get("/v1/identity").json()["identity"]["roles"] == []
        assert box.incidents == []


def test_identity_tells_the_keys_roles(box, client):
    assert client.get("/v1/identity").json()["identity"]["roles"] == list(Options().roles)
    check_all(box)


def test_existing_answers_a_repeat_with_the_first_incident_even_when_it_is_closed(box, client):
    first = client.post("/v1/incidents", json=BODY).json()["incident"]
    assert client.post("/v1/incidents", json={**BODY, "name": "new"}).json()["incident"] == first
    closed = box.close(first["id"])
    assert box.close("INC-1") == closed
    assert client.post("/v1/incidents", json=BODY).json()["incident"] == closed
    assert closed["status"] == "closed"
    check_all(box)


@pytest.mark.parametrize(
    ("repeat", "status", "kind"), [("conflict", 409, "conflict"), ("rejected", 422, "validation_error")]
)
def test_a_repeat_can_be_refused(repeat, status, kind):
    """`conflict` and `rejected` name the key and the incident that has it."""
    with Sandbox(repeat=repeat) as box, speak(box) as client:
        client.post("/v1/incidents", json=BODY)
        (error,) = refused(client.post("/v1/incidents", json=BODY), status, kind)
        assert error["source"]["field"] == "idempotency_key"
        assert "already been used for INC-1" in error["message"]
        assert len(box.incidents) == 1


def test_every_answer_says_what_time_it_is(clock):
    """One Date, by the sandbox's own clock, also where it refuses."""
    clock.now = 1_800_000_000
    with Sandbox(clock=clock) as box, speak(box) as client:
        for path, status in (("/v1/identity", 200), ("/v1/nothing", 404), ("/", 200)):
            answer = client.get(path)
            assert (answer.status_code, answer.headers.get_list("date")) == (status, ["Fri, 15 Jan 2027 08:00:00 GMT"])


def test_an_expired_key_opens_a_new_incident(clock):
    with Sandbox(repeat="expires", expires_after=10, clock=clock) as box, speak(box) as client:
        references = []
        for pause in (0, 9.9, 0.1, 9.9):
            clock.now += pause
            references.append(client.post("/v1/incidents", json=BODY).json()["incident"]["reference"])
        assert references == ["INC-1", "INC-1", "INC-2", "INC-2"]
        check_all(box)


@pytest.mark.parametrize("repeat", REPEATS)
def test_thirty_at_once_with_one_key_open_one_incident(repeat):
    with (
        Sandbox(repeat=repeat) as box,
        concurrent.futures.ThreadPoolExecutor(30) as pool,
        speak(box) as client,
    ):
        answers = list(pool.map(lambda _: client.post("/v1/incidents", json=BODY), range(30)))
        statuses = sorted(answer.status_code for answer in answers)
        other = {"existing": 200, "expires": 200, "conflict": 409, "rejected": 422}[repeat]
        assert statuses == [200] + [other] * 29
        assert len(box.incidents) == 1


def test_show_answers_by_id_and_404_for_the_rest(box, client):
    incident = client.post("/v1/incidents", json=BODY).json()["incident"]
    assert client.get(f"/v1/incidents/{incident['id']}").json() == {"incident": incident}
    check_all(box)
    refused(client.get("/v1/incidents/nope"), 404, "not_found")
    refused(client.get("/v1/incidents/INC-1"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v2/nothing", 404, "not_found"),
        ("GET", "/v1/incidents/", 404, "not_found"),
        ("GET", "/nothing", 404, "not_found"),
        ("DELETE", "/v1/incidents", 405, "api_error"),
        ("PUT", "/v1/identity", 405, "api_error"),
        ("POST", "/v1/incidents/INC-1", 405, "api_error"),
    ],
)
def test_unknown_paths_and_methods_are_refused_in_json(client, method, path, status, kind):
    answer = client.request(method, path)
    refused(answer, status, kind)
    assert (status == 405) == ("allow" in answer.headers)


def test_pages_go_from_new_to_old_and_meet_every_incident_once(box, client):
    for number in range(5):
        client.post("/v1/incidents", json={**BODY, "idempotency_key": str(number)})
    seen, after = [], {}
    while True:
        page = client.get("/v1/incidents", params={"page_size": 2, **after}).json()
        seen += [row["reference"] for row in page["incidents"]]
        assert page["pagination_meta"]["total_record_count"] == 5
        if "after" not in page["pagination_meta"]:
            break
        after = {"after": page["pagination_meta"]["after"]}
    assert seen == ["INC-5", "INC-4", "INC-3", "INC-2", "INC-1"]
    check_all(box)


def test_the_status_filter_takes_several_and_survives_a_change_between_pages(box, client):
    for status in ("triage", "fixing", "monitoring", "triage", "fixing"):
        client.post("/v1/incidents", json={**BODY, "idempotency_key": str(len(box.incidents)), "status": status})
    query = {"status": ["triage", "monitoring"], "page_size": 1}
    page = client.get("/v1/incidents", params=query).json()
    assert [row["reference"] for row in page["incidents"]] == ["INC-4"]
    assert page["pagination_meta"]["total_record_count"] == 3
    box.close("INC-4")
    query["after"] = page["pagination_meta"]["after"]
    page = client.get("/v1/incidents", params=query).json()
    assert [row["reference"] for row in page["incidents"]] == ["INC-3"]
    assert client.get("/v1/incidents?status=declined").json()["incidents"] == []
    check_all(box)


@pytest.mark.parametrize("query", ["page_size=0", "page_size=501", "page_size=x", "page_size=-1", "after=nope"])
def test_a_wrong_page_is_refused(client, query):
    errors = refused(client.get(f"/v1/incidents?{query}"), 422, "validation_error")
    assert errors[0]["source"]["field"] == query.partition("=")[0]


def test_an_empty_parameter_is_no_parameter_and_the_answers_limit_is_kept(box, client):
    assert client.get("/v1/incidents?page_size=&after=&status=").json()["pagination_meta"]["page_size"] == 25
    assert client.get("/v1/incidents?page_size=500").json()["pagination_meta"]["page_size"] == 250


def test_the_rate_is_limited_and_the_answer_says_for_how_long(clock):
    with Sandbox(rate_limit=6, clock=clock) as box, speak(box) as client:
        assert [client.get("/v1/identity").status_code for _ in range(6)] == [200] * 6
        answer = client.get("/v1/identity")
        refused(answer, 429, "too_many_requests")
        assert answer.headers["Retry-After"] == "10"
        limit = answer.json()["rate_limit"]
        assert (limit["limit"], limit["remaining"]) == (6, 0)
        assert limit["retry_after"] == "2026-09-21T14:13:30.000Z"
        clock.now += 10
        assert client.get("/v1/identity").status_code == 200
        assert client.get("/v1/identity").status_code == 429
        clock.now -= 100
        assert client.get("/v1/identity").status_code == 429


@pytest.mark.parametrize("host", ["example.com", "example.com:80", "127.0.0.1.example.com", "", "10.0.0.1"])
@pytest.mark.parametrize("path", ["/v1/identity", "/"])
def test_a_name_that_is_not_this_machine_is_refused(client, host, path):
    """A rebound DNS name reaches neither the API nor the page."""
    errors = refused(client.get(path, headers={"Host": host}), 421, "api_error")
    assert "http://127.0.0.1" in errors[0]["message"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:80"])
def test_every_name_of_this_machine_is_welcome(client, host):
    assert client.get("/v1/identity", headers={"Host": host}).status_code == 200


def test_it_records_what_was_sent(box, client):
    client.post("/v1/incidents?x=1", json=BODY, headers={"X-Test": "Yes"})
    (seen,) = box.requests
    assert (seen.method, seen.path, seen.query, seen.status) == ("POST", "/v1/incidents", "x=1", 200)
    assert seen.headers["x-test"] == "Yes"
    assert seen.body == json.loads(seen.raw) == BODY
    assert seen.answer == {"incident": box.incidents[0]}


def test_the_connection_leads_airflow_to_it(box):
    assert json.loads(box.connection_json()) == {
        "conn_type": "incident_io",
        "password": "sandbox-key",
        "host": box.url,
    }


def test_it_speaks_tls(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    both = str(tmp_path / "both.pem")
    with Sandbox(certfile=both, keyfile=both) as box:
        assert box.url.startswith("https://")
        headers = {"Authorization": f"Bearer {box.api_key}"}
        answer = httpx.get(f"{box.url}/v1/identity", headers=headers, verify=context, trust_env=False)
        assert answer.status_code == 200


@pytest.mark.parametrize("fault", ["none", "hang"])
def test_a_taken_port_is_an_error_at_once(fault):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            Sandbox(port=taken.getsockname()[1], fault=fault).start()


@pytest.mark.parametrize(
    "options",
    [
        {"repeat": "sometimes"},
        {"roles": ("owner",)},
        {"rate_limit": 0},
        {"alert_rate_limit": 0},
        {"api_key": ""},
        {"alert_source_token": ""},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Sandbox(**options)


def test_an_error_of_its_own_is_answered_in_json(box, client, monkeypatch):
    monkeypatch.setattr(box.store, "show", lambda _: 1 / 0)
    errors = refused(client.get("/v1/incidents/x"), 500, "api_error")
    assert errors[0]["message"] == "ZeroDivisionError"


def test_it_imports_nothing_else_of_the_package():
    """One misreading of the API cannot hide on both sides of the wire."""
    code = (
        "import sys, airflow_incident.sandbox.server, airflow_incident.sandbox.fault\n"
        "print([m for m in sys.modules if m.startswith('airflow_incident.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = [name.strip(" '[]\n") for name in done.stdout.split(",")]
    assert names
    assert all(name.startswith(("airflow_incident.sandbox", "airflow_incident.constants")) for name in names)


def test_the_contract_itself_refuses_what_it_should():
    """A misspelt property, a null and an unknown path never pass as conforming."""
    check_request("POST", "/v1/incidents", FULL)
    for wrong in ({**BODY, "sumary": "x"}, {**BODY, "name": None}, {"visibility": "public"}):
        with pytest.raises(AssertionError, match=r"sumary|null|idempotency_key"):
            check_request("POST", "/v1/incidents", wrong)
    with pytest.raises(AssertionError, match="has no"):
        check_request("DELETE", "/v1/incidents")

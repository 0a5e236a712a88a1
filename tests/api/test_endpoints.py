"""Every call against the official document: the request that it makes, and the answer that it reads."""

import asyncio
import json

import pytest

from airflow_incident.api import calls, endpoints
from airflow_incident.api.client import AsyncClient, Client, Connector
from airflow_incident.api.models import Incident
from airflow_incident.errors import ConfigurationError
from airflow_incident.sandbox.fault_answers import answer
from tests.api.canned import ID, ROWS, answer_to, check, served
from tests.contract import document
from tests.doors import Scripted


def made(call, url, *, coroutine=False):
    """Make a call with either client."""
    connector = Connector(base_url=url, api_key="k", alert_source_id=ID, alert_source_token="t")
    if coroutine:
        return asyncio.run(AsyncClient(connector).call(call, budget=10))
    client = Client(connector)
    try:
        return client.call(call, budget=10)
    finally:
        client.close()


def shown(result):
    """Put what a call returned into JSON's words, as far as the answer had them."""
    if isinstance(result, list):
        return [shown(item) for item in result]
    return result if result is None else result.model_dump(mode="json", exclude_unset=True)


@pytest.mark.parametrize("coroutine", [False, True])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_every_call_says_what_the_document_allows_and_reads_what_it_shows(row, coroutine):
    """Sync and async alike, with nothing of the answer lost; an answer without a body is no trouble."""
    with served(row) as server:
        result = made(row.call(), server.url, coroutine=coroutine)
    check(row, server)
    if row.name in {"attach_link", "delete_attachment"}:
        assert result is None
    else:
        said = answer_to(row)
        said.pop("pagination_meta", None)
        inner = next(iter(said.values())) if len(said) == 1 else said
        assert same(shown(result), inner)


def same(read, said):
    """Compare what was read with what was said: times may be written in another way."""
    if isinstance(said, dict):
        return set(read) == set(said) and all(same(read[name], said[name]) for name in said)
    if isinstance(said, list):
        return len(read) == len(said) and all(map(same, read, said))
    return read == said or str(read).startswith(str(said)[:19])


def test_every_operation_of_the_document_has_a_call():
    """Only a heartbeat is no business of ours; the calls of v1's create are tested with the doors."""
    covered = {(row.method.lower(), row.path.replace(ID, "{}")) for row in ROWS}
    for path, operations in document()["paths"].items():
        for method in operations:
            plain = "/".join("{}" if part.startswith("{") else part for part in path.split("/"))
            assert (method, plain) in covered or "heartbeat" in plain or (method, plain) == ("post", "/v1/incidents")


def test_every_public_function_is_in_the_table():
    """What is not in it is not tested."""
    public = {
        name
        for module in (calls, endpoints)
        for name, thing in vars(module).items()
        if callable(thing) and thing.__module__ == module.__name__ and name.islower() and not name.startswith("_")
    }
    assert public - {row.name for row in ROWS} == {
        "addressed", "any_incident", "edit_summary", "either_version", "filter_query", "is_for_alert_source",
        "list_incident_states", "pages", "quoted", "read_incident", "send_alert", "show_incident_state",
    }  # fmt: skip


@pytest.mark.parametrize(
    "call",
    [
        endpoints.list_incidents_v2({"status_category": {"one_of": ["live"]}}),
        endpoints.list_incidents(),
        endpoints.list_incident_updates(ID),
        endpoints.list_custom_field_options(ID),
        endpoints.list_users(),
    ],
    ids=lambda call: call.page(None).path,
)
def test_a_list_asks_for_page_after_page_with_the_same_filters(call):
    """Until the answer names no next item."""
    key = call.page(None).path.rpartition("/")[2]
    pages = [
        {key: [{"id": "1"}, {"id": "2"}], "pagination_meta": {"after": "2", "page_size": 2}},
        {key: [{"id": "3"}], "pagination_meta": {"page_size": 2}},
    ]
    with Scripted([answer(200, json.dumps(page).encode()) for page in pages]) as server:
        assert [item.id for item in made(call, server.url)] == ["1", "2", "3"]
    first, second = (arrival.head.split(b" ")[1].decode() for arrival in server.arrivals)
    assert second == f"{first}&after=2"


@pytest.mark.parametrize("call", [endpoints.show_incident, endpoints.delete_attachment, endpoints.show_severity])
def test_an_id_stays_one_part_of_the_path(call):
    """Whatever it holds."""
    assert call("../a?b#c d").path.endswith("/..%2Fa%3Fb%23c%20d")


def test_wrong_filters_are_all_told_before_anything_is_sent():
    """A filter that is dropped would list, and change, what it should not."""
    with pytest.raises(ConfigurationError) as caught:
        endpoints.list_incidents_v2({
            "stat": {"one_of": ["x"]}, "status": ["x"], "severity": {"above": ["x"]}, "mode": {"one_of": []},
            "created_at": {"gte": None}, "custom_field": {"one_of": ["x"]}, "incident_role": {}, "updated_at": {},
            "incident_type": {"one_of": [""]}, "status_category": {"one_of": [["live"]]},
        })  # fmt: skip
    told = list(map(str, caught.value.problems))
    assert told == [
        "Filter 'stat': is unknown; there are status, status_category, severity, incident_type, mode, created_at, updated_at, incident_role, custom_field",
        "Filter 'status': must be a mapping like {operator: values}",
        "Filter 'severity': cannot be asked 'above'; it knows one_of, not_in, gte, lte",
        "Filter 'mode': 'one_of' needs one or more values, each a text",
        "Filter 'created_at': 'gte' needs one or more values, each a text",
        "Filter 'custom_field[one_of]': must be a mapping like {operator: values}",
        "Filter 'incident_role': must be a mapping like {id: {operator: values}}",
        "Filter 'updated_at': must be a mapping like {operator: values}",
        "Filter 'incident_type': 'one_of' needs one or more values, each a text",
        "Filter 'status_category': 'one_of' needs one or more values, each a text",
    ]


def test_the_filters_are_the_document_s():
    """Their names, and the operators that the document tells of each."""
    from airflow_incident.api.endpoints import OPERATORS, OPERATORS_BY_ID

    rows = {
        row["name"]: row["description"]
        for row in document()["paths"]["/v2/incidents"]["get"]["parameters"]
        if row["schema"]["type"] == "object"
    }
    assert set(rows) == {*OPERATORS, *OPERATORS_BY_ID}
    for name, operators in {**OPERATORS, **OPERATORS_BY_ID}.items():
        words = {"one_of", "not_in", "gte", "lte", "date_range", "is_blank"}
        assert {word for word in words if f"'{word}" in rows[name].partition("If this")[0]} == set(operators)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: endpoints.create_incident_v2({"idempotency_key": "k", "status": "hunter2"}), "status: "),
        (lambda: endpoints.edit_incident(ID, {"nam": "hunter2", "call_url": 7}), "nam: "),
        (
            lambda: endpoints.edit_incident(ID, {"incident_timestamp_values": [{"incident_timestamp_id": "M", "value": "hunter2"}]}),
            "incident_timestamp_values.0.value: ",
        ),
        (lambda: endpoints.create_alert_event({"title": "t", "status": "hunter2"}), "status: "),
        (lambda: endpoints.create_attachment(ID, {"url": "hunter2"}), "resource_type: "),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_used_is_told_by_its_field_and_never_by_its_value(build, told):
    """A value could be a secret."""
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_null_is_never_said():
    """Also not where anything may stand."""
    event = {
        "title": "t",
        "status": "resolved",
        "description": None,
        "metadata": {"a": None, "b": [None, {"c": None}], "d": 0},
    }
    sent = endpoints.create_alert_event(event).body
    assert sent == {"title": "t", "status": "resolved", "metadata": {"b": [{}], "d": 0}}


def test_what_an_incident_of_either_version_tells_is_read():
    """The same model for both, so that nobody has to ask who opened it."""
    documented = document()["components"]["schemas"]
    first, second = (Incident.model_validate(documented[f"Incident{version}"]["example"]) for version in ("V1", "V2"))
    assert first.id == second.id
    assert first.status == "triage"
    assert second.incident_status.category == "triage"
    assert not first.is_closed

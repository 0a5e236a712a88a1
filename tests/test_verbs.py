"""The hook calls every endpoint of the API with the connection's key, and incidents by name, sync and async alike."""

import asyncio
import inspect
import json

import pytest

from airflow_incident import ConfigurationError, IncidentHook, NotFoundError, ServerError
from airflow_incident.api import endpoints
from airflow_incident.api.calls import either_version
from airflow_incident.api.client import Client, Connector
from airflow_incident.core.timing import BUDGET
from airflow_incident.sandbox.fault_answers import answer
from tests.api.canned import FILTERS, ID, ROWS, answer_to, check, served
from tests.doors import Scripted

NAMED = {"create_incident", "show_incident", "list_incidents", "edit_incident", "resolve_incident", "show_identity"}
CASES = [row for row in ROWS if row.name in NAMED and "api_version" not in row.kwargs]
ALERT_SOURCE = {"alert_source_id": ID, "alert_source_token": "the-token"}


def use(name, coroutine, *args, **kwargs):
    """Call a method or its async version."""
    hook = IncidentHook()
    return (
        asyncio.run(getattr(hook, f"a{name}")(*args, **kwargs)) if coroutine else getattr(hook, name)(*args, **kwargs)
    )


@pytest.mark.parametrize("coroutine", [False, True])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_every_endpoint_can_be_called(row, coroutine, connect):
    """The request and the answer are the document's; a list is a list. An alert source has a token of its own."""
    with served(row) as server:
        connect(server.url, password="the-key", extra=ALERT_SOURCE)
        result = use("call", coroutine, row.call())
    check(row, server)
    key = b"the-token" if row.name == "create_alert_event" else b"the-key"
    assert b"Authorization: Bearer " + key in server.arrivals[0].head
    assert isinstance(result, list) == row.name.startswith("list_")


@pytest.mark.parametrize("coroutine", [False, True])
@pytest.mark.parametrize("row", CASES, ids=str)
def test_a_named_method_makes_its_call(row, coroutine, connect):
    """The request and the answer are the document's; a list is a list."""
    with served(row) as server:
        connect(server.url, password="the-key")
        result = use(row.name, coroutine, *row.args, **row.kwargs)
    check(row, server)
    assert b"Authorization: Bearer the-key" in server.arrivals[0].head
    assert isinstance(result, list) == row.name.startswith("list_")


@pytest.mark.parametrize("coroutine", [False, True])
@pytest.mark.parametrize("row", [row for row in ROWS if row.name == "list_incidents_v2" and row.args], ids=str)
def test_filters_ask_v2(row, coroutine, connect):
    """Whatever the connection's version is, for v1 has none of them."""
    with served(row) as server:
        connect(server.url)
        found = use("list_incidents", coroutine, filters=FILTERS, **row.kwargs)
    check(row, server)
    assert found[0].incident_status.category


def test_every_method_has_an_async_version():
    """With the same arguments and a budget, and a docstring that says whose it is."""
    assert {row.name for row in CASES} == NAMED - {
        "create_incident",
        "resolve_incident",
    }  # which have tests of their own
    for name in {*NAMED, "call"}:
        method, other = getattr(IncidentHook, name), getattr(IncidentHook, f"a{name}")
        assert inspect.iscoroutinefunction(other)
        assert inspect.signature(method) == inspect.signature(other)
        assert inspect.signature(method).parameters["budget"].default == BUDGET
        assert method.__doc__
        assert (other.__name__, other.__doc__) == (f"a{name}", f"Async version of `{name}`.")


def test_v1_s_status_does_not_go_with_v2_s_filters():
    """Neither version knows both."""
    with pytest.raises(ConfigurationError, match="Status: is a word of v1"):
        IncidentHook().list_incidents(status=["triage"], filters={"severity": {"one_of": ["S"]}})


def test_a_wrong_filter_or_field_is_told_before_anything_is_sent(connected):
    with pytest.raises(ConfigurationError, match="Filter 'severty': is unknown"):
        IncidentHook().list_incidents(filters={"severty": {"one_of": ["S"]}})
    with pytest.raises(ConfigurationError, match="sevrity_id"):
        asyncio.run(IncidentHook().aedit_incident(ID, {"sevrity_id": "S"}))
    assert connected.requests == []


@pytest.mark.parametrize(
    ("api_version", "script", "paths"),
    [
        ("v1", [200], ["v1"]),
        ("v2", [200], ["v2"]),
        ("auto", [200], ["v1"]),
        ("auto", [404, 200], ["v1", "v2"]),
        ("auto", [410, 200], ["v1", "v2"]),
        ("auto", [404, 404], ["v1", "v2"]),
        ("auto", [403], ["v1"]),
    ],
)
def test_what_both_versions_show_is_asked_of_the_one_that_the_connection_names(api_version, script, paths):
    """`auto` asks v1, and v2 when v1 has no such thing or is gone."""
    rows = {
        version: next(row for row in ROWS if row.request == f"GET /{version}/incidents/{ID}")
        for version in ("v1", "v2")
    }
    answers = [
        answer(status, json.dumps(answer_to(rows[version]) if status == 200 else {"status": status}).encode())
        for version, status in zip(paths, script, strict=True)
    ]
    with Scripted(answers) as server:
        client = Client(Connector(base_url=server.url, api_key="k"))
        first, second = (endpoints.show_incident(ID, api_version=version) for version in ("v1", "v2"))
        call = either_version(api_version, first, second)
        try:
            if script[-1] == 200:
                assert client.call(call, budget=10).id
            else:
                with pytest.raises(Exception, match=f"answered {script[-1]}"):
                    client.call(call, budget=10)
        finally:
            client.close()
    assert [arrival.head.split(b" ")[1].decode() for arrival in server.arrivals] == [
        f"/{p}/incidents/{ID}" for p in paths
    ]


def test_a_call_ends_within_its_budget_and_raises_its_error(connect):
    """The error's class is what the caller acts on."""
    with Scripted([answer(503, b"{}")]) as server:
        connect(server.url)
        with pytest.raises(ServerError):
            IncidentHook().call(endpoints.list_severities(), budget=0.2)
    with Scripted([answer(404, b"{}")]) as server:
        connect(server.url)
        with pytest.raises(NotFoundError):
            IncidentHook().call(endpoints.delete_attachment(ID))

"""Whatever incident.io answers, or a proxy in its place: a call returns something or raises one of our errors."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_incident.api import closing, endpoints, names
from airflow_incident.api.calls import Call, CallSequence, Directory, PaginatedCall, PreparedCreate
from airflow_incident.api.client import AsyncClient, Client, Connector
from airflow_incident.api.exchange import Request, RequestLimits, Response, execute
from airflow_incident.api.submit import SubmitOptions, submission
from airflow_incident.core.text_edits import with_notes
from airflow_incident.errors import ConfigurationError, IncidentIoError, TransportError, UnexpectedResponseError
from airflow_incident.sandbox.fault_answers import answer
from tests.doors import Scripted

NOW = datetime(2026, 11, 23, 9, 0, 0, tzinfo=UTC)
DRAFT = {
    "idempotency_key": "k",
    "visibility": "public",
    "name": "n",
    "summary": "s",
    "severity": "Major",
    "incident_type": "Default",
    "status": "Fixing it",
    "custom_fields": {"Affected team": ["Product", 3], "01FDAG4SAP5TYPT98WGR2N7W91": {"value_text": "x"}},
    "roles": {"Lead": "bob@example.com"},
}
FIXED_DRAFT = {"idempotency_key": "k", "visibility": "public", "name": "n", "severity": "01FDAG4SAP5TYPT98WGR2N7W91"}
CALLS = {
    "create": PreparedCreate({"idempotency_key": "k"}),
    "create in v2": PreparedCreate({"idempotency_key": "k"}, "v2"),
    "alert": PreparedCreate({"deduplication_key": "k"}, "alert"),
    "submit": submission(DRAFT, SubmitOptions("auto", with_notes)),
    "submit ids": submission(FIXED_DRAFT, SubmitOptions("auto", with_notes, since="2026-11-22", unsettled=True)),
    "close": closing.close_sequence("01", closing.CloseOptions("t", "http://x/", always=True, status="Done")),
    "close by hand": closing.close_sequence("01", closing.CloseOptions("t")),
    "wait": closing.WaitCondition(["01", "02"], may_be_gone=True).still_open(),
    "wait for many": closing.WaitCondition([str(number) for number in range(20)]).still_open(),
    "wait for a severity": closing.WaitCondition(severity="Major").still_open(),
    "names": CallSequence(lambda directory: names.lookup_ids(DRAFT, directory, api_version="v1", trust_ids=False)),
    "names in v2": CallSequence(
        lambda directory: names.lookup_ids(DRAFT | {"status": "fixing"}, directory, api_version="v2")
    ),
    "lowest": CallSequence(names.lowest_severity),
    "show state": endpoints.show_incident_state("01"),
    "show": endpoints.show_incident("01"),
    "list": endpoints.list_incidents(),
    "list in v2": endpoints.list_incidents_v2(),
    "updates": endpoints.list_incident_updates(),
    "edit": endpoints.edit_incident("01", {"name": "n"}),
    "link": endpoints.attach_link("01", url="http://x/", title="t"),
    "attach": endpoints.create_attachment("01", {"resource_type": "arbitrary_url", "external_id": "1"}),
    "attachments": endpoints.list_attachments("01"),
    "event": endpoints.create_alert_event({"title": "t", "status": "firing"}),
    "any": endpoints.any_incident(),
    "find": endpoints.list_incident_states(since="2026-11-22", mode="test"),
    "identity": endpoints.show_identity(),
    "severities": endpoints.list_severities(),
    "types": endpoints.list_incident_types(),
    "statuses": endpoints.list_incident_statuses(),
    "fields": endpoints.list_custom_fields(),
    "options": endpoints.list_custom_field_options("01"),
    "roles": endpoints.list_incident_roles(),
    "timestamps": endpoints.list_incident_timestamps(),
    "people": endpoints.list_users(email="bob@example.com"),
}

WORDS = [
    "incident", "incidents", "id", "reference", "name", "status", "summary", "permalink", "category",
    "incident_status", "severities", "rank", "incident_types", "private_incidents_only", "incident_statuses",
    "custom_fields", "custom_field_options", "field_type", "catalog_type_id", "value", "incident_roles",
    "incident_role_assignments", "role", "role_type", "assignee", "users", "identity", "incident_updates",
    "incident_attachment", "incident_attachments", "pagination_meta", "after", "errors", "source", "field", "pointer",
    "code", "message", "type", "request_id", "rate_limit", "retry_after", "deduplication_key", "created_at",
    "timestamps", "custom_field_entries", "severity", "incident_timestamps",
]  # fmt: skip
TEXTS = [
    "01", "Major", "Product", "Lead", "Fixing it", "fixing", "lead", "closed", "live", "single_select", "numeric",
    "severity_id", "/custom_field_entries/" + "9" * 5000, "idempotency_key", "already", "2026-11-23T09:00:00Z",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1e999", "nan", "half \ud800 pair", "",
]  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(TEXTS) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=25,
)
whole = st.dictionaries(st.sampled_from(WORDS), values, max_size=6).map(lambda said: json.dumps(said).encode())
POISON = [
    b"[" * 100_000,
    b'{"incident":' * 50_000,
    b'{"errors": [{"message": ' + b"[" * 900 + b"]" * 900 + b"}]}",
    b'{"incidents": ' + b"[" * 900 + b"]" * 900 + b"}",
    b"1" * 10_000,
    b'{"incident": {"id": 1' + b"0" * 5000 + b"}}",
    b'{"incident": NaN}',
    b'"\\ud800"',
    b"\xef\xbb\xbf{}",
    '{"incident": 1}'.encode("utf-16"),
    b"\xff\xfe",
    b"",
    b"null",
]
bodies = whole | values.map(lambda said: json.dumps(said).encode()) | st.binary(max_size=20) | st.sampled_from(POISON)
statuses = st.sampled_from(
    [200, 200, 200, 201, 202, 204, 301, 400, 401, 403, 404, 404, 409, 410, 422, 422, 429, 500, 999]
)
headers = st.dictionaries(
    st.sampled_from(["retry-after", "date", "x-request-id", "content-type"]),
    st.sampled_from(
        ["", "7", "-1", "nan", "inf", "1e400", "9" * 5000, "Mon, 99 Nov 2026 09:00:07 GMT", "Mon, 23 Nov 2026 09:00:07 +9999",
         "0001-01-01T00:00:00+23:59", "Thu, 01 Jan 0001 00:00:00 +2359", "\ud800", "\0", ",,,", "2026-11-23T09:00:07"]
    )
    | st.text(max_size=10),
    max_size=3,
)  # fmt: skip
answers = st.lists(st.builds(Response, status=statuses, headers=headers, content=bodies), min_size=1, max_size=12)


def terms():
    return RequestLimits(
        deadline=1e9, clock=lambda: 0.0, now=lambda: NOW, random=lambda: 0.5, errors_seen=[], directory=Directory()
    )


def drive(conversation, take):
    """Take every step of a conversation as a client does."""
    given_back = None
    try:
        while True:
            assert isinstance(conversation.send(given_back), Request)
            given_back = take()
    except StopIteration as end:
        return end.value


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("name", CALLS)
@given(said=answers)
def test_nothing_but_our_own_errors_comes_out_of_a_call(name, said):
    """Whoever made the call goes on with the next one."""
    rest = [*said]
    with contextlib.suppress(IncidentIoError):
        drive(execute(CALLS[name], terms()), lambda: rest.pop(0) if len(rest) > 1 else rest[0])


@pytest.mark.parametrize("name", CALLS)
def test_no_poison_comes_out_of_a_call_as_it_is(name):
    """A parser that gives up is an answer that nobody expected."""
    for said in (Response(status, {"date": "\0"}, content) for status in (200, 404, 422, 500) for content in POISON):
        with contextlib.suppress(IncidentIoError):
            drive(execute(CALLS[name], terms()), lambda said=said: said)


@pytest.mark.parametrize(
    "error",
    [RecursionError("deep"), KeyError("id"), TypeError("x"), AttributeError("x"), MemoryError(), StopIteration()],
)
def test_whatever_a_parser_raises_the_answer_was_unexpected(error):
    """It may have taken effect, and is asked for again: an outage of that one call."""

    def parse(_):
        raise error

    with pytest.raises(
        UnexpectedResponseError, match=r"answered 200: the answer is not what incident\.io documents"
    ) as caught:
        drive(execute(Call("POST", "/v1/incidents", parse, body={}), terms()), lambda: Response(200))
    assert caught.value.retryable
    assert caught.value.maybe_delivered
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("error", [KeyError("id"), IndexError("x"), RecursionError("deep")])
def test_what_a_plan_makes_of_an_answer_is_no_other_trouble(error):
    """A plan looks into what it was answered; that the answer was odd is an error of the plan alone."""

    def steps(_):
        yield Call("GET", "/v1/severities", lambda content: content)
        raise error

    with pytest.raises(UnexpectedResponseError, match=type(error).__name__):
        drive(execute(CallSequence(steps), terms()), lambda: Response(200))
    listing = PaginatedCall(lambda _: Call("GET", "/v1/x", lambda content: content[9]))
    with pytest.raises(UnexpectedResponseError):
        drive(execute(listing, terms()), lambda: Response(200))


@pytest.mark.parametrize("body", [{"name": {1, 2}}, {"name": object()}, {"name": float("nan")}, {"name": b"x"}])
def test_a_body_that_is_no_json_is_refused_before_anything_leaves(body):
    """It cannot have taken effect, and would never pass."""
    with pytest.raises(ConfigurationError, match="JSON") as caught:
        drive(execute(Call("POST", "/v1/incidents", bytes.decode, body=body), terms()), lambda: pytest.fail("it left"))
    assert not caught.value.maybe_delivered
    assert not caught.value.retryable


def test_a_body_that_is_nested_without_end_is_refused():
    """Python gives up on it."""
    body: dict = {}
    body["body"] = body
    with pytest.raises(ConfigurationError):
        drive(execute(Call("POST", "/v1/incidents", bytes.decode, body=body), terms()), lambda: pytest.fail("it left"))


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"incident":' * 50_000])
@pytest.mark.parametrize("call", [CALLS["close"], CALLS["wait"], CALLS["show"]], ids=["close", "wait", "show"])
def test_over_the_wire_a_deep_answer_is_unexpected(call, content):
    """For threads and for coroutines."""
    with Scripted([answer(200, content)]) as server:
        connector = Connector(base_url=server.url, api_key="k")
        client = Client(connector)
        try:
            with pytest.raises(UnexpectedResponseError):
                client.call(call, budget=2)
            with pytest.raises(UnexpectedResponseError):
                asyncio.run(AsyncClient(connector).call(call, budget=2))
        finally:
            client.close()


@pytest.mark.parametrize("error", [RuntimeError("closed"), KeyError("x"), AttributeError("x"), TypeError("x")])
def test_whatever_the_wire_raises_is_an_error_of_the_transport(monkeypatch, error):
    """A library that carries the request may break in any way."""
    connector = Connector(base_url="http://127.0.0.1:9", api_key="k")

    def broken(_):
        raise error

    monkeypatch.setattr(connector, "arguments", broken)
    client = Client(connector)
    try:
        with pytest.raises(TransportError, match=type(error).__name__):
            client.call(CALLS["show state"], budget=0.3)
        with pytest.raises(TransportError, match=type(error).__name__):
            asyncio.run(AsyncClient(connector).call(CALLS["show state"], budget=0.3))
    finally:
        client.close()

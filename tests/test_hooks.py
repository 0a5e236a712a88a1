"""The hook: a connection becomes calls."""

import asyncio

import pytest

from airflow_incident import ConfigurationError, IncidentHook, MissingConnectionError, NotFoundError
from airflow_incident.sandbox.catalogue import SEVERITIES
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_all

SEVERITY = SEVERITIES[0]["id"]
FIELDS = {
    "name": "n", "summary": "s", "visibility": "private", "mode": "test", "status": "fixing",
    "source_message_channel_id": "C1", "source_message_timestamp": "1.2", "slack_team_id": "T1",
}  # fmt: skip


def test_every_named_method_sends_what_the_document_allows(connected):
    """Create, show, list and identity; requests and answers pass the validating check."""
    hook = IncidentHook()
    created = hook.create_incident(idempotency_key="k", **FIELDS)
    assert created.reference == "INC-1"
    assert (
        created.model_dump(include=set(FIELDS) & {"name", "summary", "visibility", "mode", "status"}).items()
        <= FIELDS.items()
    )
    assert hook.show_incident(created.id) == created
    assert hook.list_incidents() == [created]
    assert hook.list_incidents(status=["closed"]) == []
    assert "incident_creator" in hook.show_identity().roles
    check_all(connected)


def test_every_named_method_has_an_async_version(connected):
    """The same requests, from a coroutine."""

    async def use():
        hook = IncidentHook()
        created = await hook.acreate_incident(idempotency_key="k", **FIELDS)
        assert await hook.ashow_incident(created.id) == created
        assert await hook.alist_incidents(status=["fixing"]) == [created]
        assert "incident_creator" in (await hook.ashow_identity()).roles

    asyncio.run(use())
    check_all(connected)
    prefixes = ("call", "config", "create_", "edit_", "list_", "resolve_", "show_")
    names = {name for name in dir(IncidentHook) if name.startswith(prefixes)}
    assert len(names) == 8
    assert {f"a{name}" for name in names} <= set(dir(IncidentHook))


def test_the_connection_s_options_stand_in_for_those_not_given(sandbox, connect):
    """An argument goes before them."""
    connect(sandbox.url, extra={"mode": "test", "visibility": "private", "severity": SEVERITY})
    IncidentHook().create_incident(idempotency_key="a", visibility="public", severity=None)
    body = sandbox.requests[0].body
    assert body == {"idempotency_key": "a", "visibility": "public", "mode": "test", "severity_id": SEVERITY}


def test_a_wrong_field_is_told_before_anything_is_sent(connected):
    with pytest.raises(ConfigurationError, match=r"'incident_io_default': Novel"):
        IncidentHook().create_incident(idempotency_key="k", novel=1)
    assert connected.requests == []


def test_a_missing_incident_is_not_found(connected):
    """Also one whose id would change the path."""
    for incident_id in ("01", "../identity", "a/b?c#d"):
        with pytest.raises(NotFoundError):
            IncidentHook().show_incident(incident_id)


def test_a_missing_connection_says_how_to_add_it():
    with pytest.raises(MissingConnectionError) as caught:
        IncidentHook("nowhere").get_conn()
    assert "airflow connections add nowhere --conn-type incident_io" in caught.value.advice
    with pytest.raises(MissingConnectionError):
        asyncio.run(IncidentHook("nowhere").ashow_identity())


def test_test_connection_opens_nothing(connected):
    """It asks who the key is."""
    passed, message = IncidentHook().test_connection()
    assert passed, message
    assert "deployment 'tests'" in message
    assert [(r.method, r.path) for r in connected.requests] == [("GET", "/v1/identity")]


def test_only_the_creator_s_role_fails_the_test(connect):
    with Sandbox(roles=["viewer", "incident_editor"]) as box:
        connect(box.url)
        passed, message = IncidentHook().test_connection()
        assert not passed
        assert "lacks the role 'incident creator'" in message


@pytest.mark.parametrize(
    ("roles", "lacking"),
    [
        (["viewer", "incident_editor"], []),
        (["viewer"], ["incident editor"]),
        (["incident_editor"], ["viewer"]),
        ([], ["viewer", "incident editor"]),
    ],
)
def test_roles_that_a_key_lacks_are_told_with_what_they_are_for(connect, roles, lacking):
    """A key that may open incidents passes, whatever else it may not."""
    for_what = {
        "viewer": "looking up names, showing and listing incidents, or closing those of runs that recovered",
        "incident editor": "closing incidents of runs that recovered, or attaching links",
    }
    with Sandbox(roles=["incident_creator", *roles]) as box:
        connect(box.url)
        passed, message = IncidentHook().test_connection()
    assert passed
    for role, loss in for_what.items():
        assert (f"Without the role {role!r} there is no {loss}." in message) == (role in lacking)


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({}, None),
        ({"alert_source_id": "01SOURCE", "alert_source_token": "t0ken"}, "Alerts go to source '01SOURCE'"),
        ({"alert_source_id": "01SOURCE"}, "Alerts cannot be sent: the alert source's token is missing."),
        ({"alert_source_token": "t0ken"}, "Alerts cannot be sent: the alert source's ID is missing."),
    ],
)
def test_an_alert_source_is_told_but_not_tried(sandbox, connect, extra, told):
    """To try it would page somebody; its token is not shown."""
    connect(sandbox.url, extra=extra)
    passed, message = IncidentHook().test_connection()
    assert passed
    assert told in message if told else "lert" not in message
    assert "t0ken" not in message
    assert [r.path for r in sandbox.requests] == ["/v1/identity"]


def test_a_connection_for_alerts_alone_passes_and_says_what_was_not_tried(sandbox, connect):
    """Who has no API key wants no incident; with half an alert source the key is what is missing."""
    extra = {"alert_source_id": "01SOURCE", "alert_source_token": "t0ken"}
    connect(sandbox.url, password="", extra=extra)
    passed, message = IncidentHook().test_connection()
    assert passed
    assert message.startswith("There is no API key, so nothing was asked of incident.io")
    assert "Alerts go to source '01SOURCE', which is not tried" in message
    connect(sandbox.url, password="", extra={"alert_source_id": "01SOURCE"})
    passed, message = IncidentHook().test_connection()
    assert not passed
    assert "API key: missing" in message
    connect("https://127.0.0.1:9", password="", extra=extra | {"ca_bundle": "/nowhere.pem"})
    passed, message = IncidentHook().test_connection()
    assert not passed
    assert "CA bundle" in message
    assert sandbox.requests == []


def test_a_failing_test_says_what_to_do(sandbox, connect):
    connect(sandbox.url, password="wrong")
    passed, message = IncidentHook().test_connection()
    assert not passed
    assert message.endswith("Put a valid API key into the connection's password.")
    assert "wrong" not in message


def test_an_unnamed_deployment_is_told(connected, monkeypatch):
    """Two installations would share keys."""
    monkeypatch.delenv("AIRFLOW__INCIDENT_IO__DEPLOYMENT")
    _, message = IncidentHook().test_connection()
    assert "deployment 'unnamed'" in message
    assert "has no name" in message


def test_one_client_serves_a_process_and_a_fork_makes_its_own(connected, monkeypatch):
    """A trust store takes 20 ms to load; a connection must not be shared across a fork."""
    hook = IncidentHook()
    client = hook.get_conn()
    assert hook.get_conn() is client
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert hook.get_conn() is not client

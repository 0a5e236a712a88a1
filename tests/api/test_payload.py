"""What people write becomes the official body."""

import pytest

from airflow_incident.api import payload
from airflow_incident.api.body import CreateIncident, CreateIncidentV2
from airflow_incident.api.payload import create_draft
from airflow_incident.api.submit import SubmitOptions, at_once
from airflow_incident.errors import ConfigurationError
from tests.contract import check_request

SEVERITY, TYPE, ONE, MANY, NONE = (f"01FCNDV6P870EA6S7TK1DSYDG{n}" for n in range(5))


def body(**fields):
    return at_once(create_draft(idempotency_key="k", **fields), SubmitOptions("v1", lambda text, _: text)).body


def test_every_field_of_the_document_can_be_sent():
    """All thirteen, all seven kinds of value, all three names of a person."""
    values = [
        {"value_text": "x"}, {"value_link": "https://x"}, {"value_numeric": "1"}, {"value_option_id": "O"},
        {"value_catalog_entry_id": "C"}, {"value_timestamp": "2026-11-23"}, {"id": "V", "value_text": "y"},
    ]  # fmt: skip
    sent = body(
        name="n", summary="s", severity=SEVERITY, incident_type=TYPE, mode="test", visibility="private", status="fixing",
        slack_team_id="W", source_message_channel_id="C", source_message_timestamp="1.2",
        custom_fields={ONE: values[0], MANY: values, NONE: []},
        roles={SEVERITY: "bob@example.com", TYPE: "U01ABCDEF", ONE: "01FCNDV6P870EA6S7TK1DSYDG0", MANY: {"slack_user_id": "W1"}},
    )  # fmt: skip
    check_request("POST", "/v1/incidents", sent)
    assert len(sent) == 13
    assert sent["custom_field_entries"][0] == {"custom_field_id": ONE, "values": [values[0]]}
    assert sent["custom_field_entries"][2] == {"custom_field_id": NONE, "values": []}
    assert [a["assignee"] for a in sent["incident_role_assignments"]] == [
        {"email": "bob@example.com"}, {"slack_user_id": "U01ABCDEF"}, {"id": "01FCNDV6P870EA6S7TK1DSYDG0"},
        {"slack_user_id": "W1"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "own"), [(CreateIncident, payload._V1_ONLY), (CreateIncidentV2, payload._V2_ONLY)], ids=["v1", "v2"]
)
def test_the_tables_have_every_field_of_the_models(model, own):
    """A field that one of both lacks would be refused as unknown, or never sent; a status has a name of its own."""
    told = {"idempotency_key", *payload._TEXTS, *payload._OF_BODIES, *own}
    assert set(model.model_fields) - told in ({"status"}, {"incident_status_id"})
    assert told <= set(model.model_fields)


def test_what_is_not_given_is_not_sent():
    """Null is never valid."""
    assert body(name=None, custom_fields={}, roles=None) == {"idempotency_key": "k", "visibility": "public"}


def test_every_wrong_field_is_told_by_its_label_and_no_value_is():
    """A value could be a secret."""
    with pytest.raises(ConfigurationError) as caught:
        body(
            severity=3,
            custom_fields={"F": [["hunter2"]], "G": {"value_txt": "hunter2"}},
            roles={"R": 7, "S": " "},
            novel="hunter2",
        )
    told = str(caught.value)
    for label in (
        "Custom fields: 'F' needs",
        "Roles: 'R' needs",
        "Roles: 'S' needs",
        "Severity: ",
        "Novel: ",
        "Custom fields: 'G' needs {kind: value}",
    ):
        assert label in told
    assert "hunter2" not in told

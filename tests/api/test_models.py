"""Our words for incident.io's objects, held against its own document and against a table of our own."""

import pytest

from airflow_incident.api import body, models
from airflow_incident.core.settings import OPTIONS
from tests.contract import document

CREATE_FIELDS = {
    "custom_field_entries",
    "idempotency_key",
    "incident_role_assignments",
    "incident_type_id",
    "mode",
    "name",
    "severity_id",
    "slack_team_id",
    "source_message_channel_id",
    "source_message_timestamp",
    "status",
    "summary",
    "visibility",
}
CREATE_REQUIRED = {"idempotency_key", "visibility"}
VALUE_KEYS = {
    "id",
    "value_catalog_entry_id",
    "value_link",
    "value_numeric",
    "value_option_id",
    "value_text",
    "value_timestamp",
}
PERSON_KEYS = {"id", "email", "slack_user_id"}
ENUMS = {
    "mode": ["real", "test"],
    "visibility": ["public", "private"],
}
ANSWERS = {
    "IncidentV1": models.Incident,
    "ActorV1": models.Actor,
    "APIKeyActorV1": models.APIKeyActor,
    "UserV1": models.User,
    "SeverityV1": models.Severity,
    "IncidentTypeV1": models.IncidentType,
    "CustomFieldEntryV1": models.CustomFieldEntry,
    "CustomFieldTypeInfoV1": models.CustomFieldInfo,
    "CustomFieldOptionV1": models.CustomFieldOption,
    "CustomFieldValueV1": models.CustomFieldValue,
    "EmbeddedCatalogEntryV1": models.CatalogEntry,
    "IncidentRoleAssignmentV1": models.RoleAssignment,
    "IncidentRoleV1": models.IncidentRole,
    "IncidentTimestampValueV1": models.IncidentTimestamp,
    "PaginationMetaResultWithTotalV1": models.Page,
    "IdentityV1": models.Identity,
    "IdentityTeamV1": models.Team,
    "IncidentsListResultV1": models.IncidentsAnswer,
    "IncidentsCreateResultV1": models.IncidentAnswer,
    "UtilitiesIdentityResultV1": models.IdentityAnswer,
}
REQUESTS = {
    "IncidentsCreatePayloadV1": (body.CreateIncident, CREATE_FIELDS),
    "CustomFieldEntryPayloadV1": (body.CustomFieldEntryPayload, {"custom_field_id", "values"}),
    "CustomFieldValuePayloadV1": (body.CustomFieldValuePayload, VALUE_KEYS),
    "IncidentRoleAssignmentPayloadV1": (body.RoleAssignmentPayload, {"incident_role_id", "assignee"}),
    "UserReferencePayloadV1": (body.UserReference, PERSON_KEYS),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_has_the_fields_of_our_table_and_of_the_document(name):
    """No more, no fewer; the table guards checkouts that lack the document."""
    model, fields = REQUESTS[name]
    assert set(model.model_fields) == fields
    assert set(document()["components"]["schemas"][name]["properties"]) == fields


def test_what_a_create_must_have_is_what_the_document_demands():
    assert set(document()["components"]["schemas"]["IncidentsCreatePayloadV1"]["required"]) == CREATE_REQUIRED
    said = body.CreateIncident(idempotency_key="k").model_dump(exclude_none=True)
    assert set(said) == CREATE_REQUIRED


@pytest.mark.parametrize("name", ENUMS)
def test_the_choices_of_an_option_are_the_document_s(name):
    assert list(OPTIONS[name].choices) == ENUMS[name]
    assert document()["components"]["schemas"]["IncidentsCreatePayloadV1"]["properties"][name]["enum"] == ENUMS[name]


@pytest.mark.parametrize("name", ANSWERS)
def test_every_property_of_an_answer_is_typed(name):
    assert set(ANSWERS[name].model_fields) == set(document()["components"]["schemas"][name]["properties"])


def test_an_answer_may_hold_more_and_less_than_documented():
    """Unknown properties are ignored, unknown enum values kept, missing ones unset; only the id is needed."""
    incident = models.Incident.model_validate({"id": "1", "status": "sunny", "mode": "dream", "novel": {"a": 1}})
    assert (incident.status, incident.mode, incident.slack_channel_id) == ("sunny", "dream", None)
    assert not incident.is_over
    with pytest.raises(ValueError, match="id"):
        models.Incident.model_validate({})


def test_the_document_s_own_examples_can_be_read():
    """What incident.io shows as an answer passes our models."""
    schemas = document()["components"]["schemas"]
    for name, model in ANSWERS.items():
        if example := schemas[name].get("example"):
            model.model_validate(example)


def test_a_misspelt_field_of_a_request_is_refused():
    """The document would let it pass; we do not."""
    with pytest.raises(ValueError, match="severity"):
        body.CreateIncident.model_validate({"idempotency_key": "k", "severity": "Major"})

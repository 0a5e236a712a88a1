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
CREATE_FIELDS_V2 = (CREATE_FIELDS - {"status", "source_message_channel_id", "source_message_timestamp"}) | {
    "incident_status_id",
    "incident_timestamp_values",
    "retrospective_incident_options",
    "slack_channel_name_override",
}
EDIT_FIELDS = {
    "call_url",
    "custom_field_entries",
    "incident_role_assignments",
    "incident_status_id",
    "incident_timestamp_values",
    "name",
    "severity_id",
    "slack_channel_name_override",
    "summary",
}
ALERT_FIELDS = {"deduplication_key", "description", "metadata", "source_url", "status", "title"}
RESOURCE_FIELDS = {"emoji", "external_id", "resource_type", "title", "url"}
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
    models.APIKeyActor: ["APIKeyActorV1", "APIKeyActorV2"],
    models.Actor: ["ActorV1", "ActorV2"],
    models.AlertActor: ["AlertActorV2"],
    models.Attachment: ["IncidentAttachmentV1"],
    models.CatalogEntry: ["EmbeddedCatalogEntryV1", "EmbeddedCatalogEntryV2"],
    models.CustomField: ["CustomFieldV2"],
    models.CustomFieldEntry: ["CustomFieldEntryV1", "CustomFieldEntryV2"],
    models.CustomFieldInfo: ["CustomFieldTypeInfoV1", "CustomFieldTypeInfoV2"],
    models.CustomFieldOption: ["CustomFieldOptionV1", "CustomFieldOptionV2"],
    models.CustomFieldValue: ["CustomFieldValueV1", "CustomFieldValueV2"],
    models.DurationMetric: ["IncidentDurationMetricV2"],
    models.DurationValue: ["IncidentDurationMetricWithValueV2"],
    models.ExternalIssue: ["ExternalIssueReferenceV2"],
    models.ExternalResource: ["ExternalResourceV1"],
    models.FixedFilter: ["CustomFieldFixedFilterOptionsV2"],
    models.Identity: ["IdentityV1"],
    models.Incident: ["IncidentV1", "IncidentV2"],
    models.IncidentRole: ["IncidentRoleV1", "IncidentRoleV2", "EmbeddedIncidentRoleV2"],
    models.IncidentStatus: ["IncidentStatusV1", "IncidentStatusV2"],
    models.IncidentTimestamp: ["IncidentTimestampV2"],
    models.IncidentType: ["IncidentTypeV1", "IncidentTypeV2"],
    models.IncidentUpdate: ["IncidentUpdateV2"],
    models.Member: ["UserWithRolesV2"],
    models.Moment: ["IncidentTimestampValueV2"],
    models.OptionsFilter: ["CustomFieldFilterByOptionsV2"],
    models.Permissions: ["RBACRoleV2"],
    models.RoleAssignment: ["IncidentRoleAssignmentV1", "IncidentRoleAssignmentV2"],
    models.Seats: ["UserSeatsV2"],
    models.Severity: ["SeverityV1", "SeverityV2"],
    models.Team: ["IdentityTeamV1"],
    models.TimestampOccurrence: ["IncidentTimestampValueV1"],
    models.TimestampValue: ["IncidentTimestampWithValueV2"],
    models.User: ["UserV1", "UserV2"],
    models.WorkflowActor: ["WorkflowActorV2"],
    models.AlertEventReceipt: ["AlertEventsCreateHTTPResultV2"],
}
ENVELOPES = {
    "CustomFieldOptionsListResultV1": "custom_field_options",
    "CustomFieldsListResultV2": "custom_fields",
    "CustomFieldsShowResultV2": "custom_field",
    "IncidentAttachmentsCreateResultV1": "incident_attachment",
    "IncidentAttachmentsListResultV1": "incident_attachments",
    "IncidentRolesListResultV2": "incident_roles",
    "IncidentRolesShowResultV2": "incident_role",
    "IncidentStatusesListResultV1": "incident_statuses",
    "IncidentStatusesShowResultV1": "incident_status",
    "IncidentTimestampsListResultV2": "incident_timestamps",
    "IncidentTypesListResultV1": "incident_types",
    "IncidentTypesShowResultV1": "incident_type",
    "IncidentUpdatesListResultV2": "incident_updates",
    "IncidentsCreateResultV1": "incident",
    "IncidentsCreateResultV2": "incident",
    "IncidentsEditResultV2": "incident",
    "IncidentsListResultV1": "incidents",
    "IncidentsListResultV2": "incidents",
    "IncidentsShowResultV1": "incident",
    "IncidentsShowResultV2": "incident",
    "SeveritiesListResultV1": "severities",
    "SeveritiesShowResultV1": "severity",
    "UsersListResultV2": "users",
    "UtilitiesIdentityResultV1": "identity",
}
PAGES = [
    "PaginationMetaResultV1", "PaginationMetaResultV2", "PaginationMetaResultWithTotalV1",
    "PaginationMetaResultWithTotalV2",
]  # fmt: skip
REQUESTS = {
    "IncidentsCreatePayloadV1": (body.CreateIncident, CREATE_FIELDS),
    "IncidentsCreatePayloadV2": (body.CreateIncidentV2, CREATE_FIELDS_V2),
    "IncidentEditPayloadV2": (body.EditIncident, EDIT_FIELDS),
    "CustomFieldEntryPayloadV1": (body.CustomFieldEntryPayload, {"custom_field_id", "values"}),
    "CustomFieldEntryPayloadV2": (body.CustomFieldEntryPayload, {"custom_field_id", "values"}),
    "CustomFieldValuePayloadV1": (body.CustomFieldValuePayload, VALUE_KEYS),
    "CustomFieldValuePayloadV2": (body.CustomFieldValuePayload, VALUE_KEYS),
    "IncidentRoleAssignmentPayloadV1": (body.RoleAssignmentPayload, {"incident_role_id", "assignee"}),
    "IncidentRoleAssignmentPayloadV2": (body.RoleAssignmentPayloadV2, {"incident_role_id", "assignee"}),
    "IncidentTimestampValuePayloadV2": (body.TimestampValuePayload, {"incident_timestamp_id", "value"}),
    "RetrospectiveIncidentOptionsV2": (
        body.RetrospectiveOptions, {"external_id", "postmortem_document_url", "slack_channel_id"},
    ),
    "UserReferencePayloadV1": (body.UserReference, PERSON_KEYS),
    "UserReferencePayloadV2": (body.UserReference, PERSON_KEYS),
    "AlertEventsCreateHTTPPayloadV2": (body.AlertEvent, ALERT_FIELDS),
    "IncidentAttachmentsCreatePayloadV1.resource": (body.ResourcePayload, RESOURCE_FIELDS),
}  # fmt: skip


def schema(name):
    """Return a schema of the document, or of a property of one."""
    whole, _, within = name.partition(".")
    found = document()["components"]["schemas"][whole]
    return found["properties"][within] if within else found


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_has_the_fields_of_our_table_and_of_the_document(name):
    """No more, no fewer; the table guards checkouts that lack the document."""
    model, fields = REQUESTS[name]
    assert set(model.model_fields) == fields
    assert set(schema(name)["properties"]) == fields


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_demands_what_the_document_demands(name):
    """Only visibility has a default of ours."""
    demanded = {field for field, info in REQUESTS[name][0].model_fields.items() if info.is_required()}
    assert set(schema(name).get("required", [])) - {"visibility"} == demanded


@pytest.mark.parametrize("model", [body.CreateIncident, body.CreateIncidentV2])
def test_a_create_says_what_it_must_and_no_more(model):
    assert set(model(idempotency_key="k").model_dump(exclude_none=True)) == CREATE_REQUIRED


@pytest.mark.parametrize("name", ENUMS)
def test_the_choices_of_an_option_are_the_document_s(name):
    assert list(OPTIONS[name].choices) == ENUMS[name]
    assert document()["components"]["schemas"]["IncidentsCreatePayloadV1"]["properties"][name]["enum"] == ENUMS[name]


@pytest.mark.parametrize("model", ANSWERS)
def test_every_property_of_an_answer_is_typed(model):
    """One model has what all versions of the document have, and nothing else."""
    assert set(model.model_fields) == set().union(*(schema(name)["properties"] for name in ANSWERS[model]))


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_answer_wraps_one_object_or_a_page_of_one_list(name):
    """Beside it there is nothing but where the list goes on; that the parsers read it, the calls' tests show."""
    assert set(schema(name)["properties"]) - {"pagination_meta"} == {ENVELOPES[name]}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_tells_after_which_item_the_next_begins(name):
    assert "after" in schema(name)["properties"]
    assert set(schema(name)["properties"]) <= {"after", "page_size", "total_record_count"}


def test_no_answer_of_the_document_is_without_a_model():
    """Whatever the document can show, somewhere in an answer, has a model of ours."""
    shown = {name for names in ANSWERS.values() for name in names} | {*ENVELOPES, *PAGES}
    assert {name for name in document()["components"]["schemas"] if "Payload" not in name} - shown == {
        "RetrospectiveIncidentOptionsV2"  # a part of a request
    }


@pytest.mark.parametrize(
    ("said", "over"),
    [
        ({"status": "closed"}, True),
        ({"status": "declined"}, True),
        ({"status": "fixing"}, False),
        ({}, False),
        *(({"incident_status": {"id": "S", "category": word}}, True) for word in ("closed", "declined", "canceled", "merged")),
        *(({"incident_status": {"id": "S", "category": word}}, False) for word in ("triage", "live", "learning", "paused")),
    ],
)  # fmt: skip
def test_either_version_tells_whether_an_incident_is_closed(said, over):
    """v1 by its word, v2 by its status's category."""
    assert models.Incident.model_validate({"id": "1"} | said).is_closed is over


def test_an_answer_may_hold_more_and_less_than_documented():
    """Unknown properties are ignored, unknown enum values kept, missing ones unset; only the id is needed."""
    incident = models.Incident.model_validate({"id": "1", "status": "sunny", "mode": "dream", "novel": {"a": 1}})
    assert (incident.status, incident.mode, incident.slack_channel_id) == ("sunny", "dream", None)
    assert not incident.is_closed
    with pytest.raises(ValueError, match="id"):
        models.Incident.model_validate({})


def test_the_document_s_own_examples_can_be_read():
    """What incident.io shows as an answer passes our models."""
    for model, names in ANSWERS.items():
        for example in filter(None, (schema(name).get("example") for name in names)):
            read = model.model_validate(example).model_dump(exclude_unset=True)
            assert set(read) == set(example)


def test_a_misspelt_field_of_a_request_is_refused():
    """The document would let it pass; we do not."""
    with pytest.raises(ValueError, match="severity"):
        body.CreateIncident.model_validate({"idempotency_key": "k", "severity": "Major"})

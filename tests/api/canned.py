"""Every call of the API with the answer that the official document shows for it, over a server on 127.0.0.1."""

import json
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from airflow_incident.api import endpoints
from airflow_incident.sandbox.fault_answers import answer
from tests.contract import check_request, check_response, document
from tests.doors import Scripted

ID = "01FDAG4SAP5TYPT98WGR2N7W91"
WHOLE = {
    "name": "n",
    "summary": "s",
    "severity_id": "S",
    "incident_status_id": "T",
    "custom_field_entries": [{"custom_field_id": "F", "values": [{"value_text": "x"}]}],
    "incident_role_assignments": [
        {"incident_role_id": "R", "assignee": {"email": "bob@example.com"}},
        {"incident_role_id": "Q"},
    ],
    "incident_timestamp_values": [
        {"incident_timestamp_id": "M", "value": "2026-11-23T09:00:00Z"},
        {"incident_timestamp_id": "N"},
    ],
    "slack_channel_name_override": "inc-orders",
}
CREATE_V2 = WHOLE | {
    "idempotency_key": "k",
    "visibility": "private",
    "mode": "retrospective",
    "incident_type_id": "Y",
    "slack_team_id": "W",
    "retrospective_incident_options": {
        "external_id": 123,
        "postmortem_document_url": "https://example.com/p",
        "slack_channel_id": "C",
    },
}
EDIT = WHOLE | {"call_url": "https://example.com/call"}
EVENT = {
    "title": "t",
    "status": "firing",
    "deduplication_key": "k",
    "description": "d",
    "source_url": "https://example.com",
    "metadata": {"dag": "orders", "tags": ["a", 1, True]},
}
RESOURCE = {"resource_type": "github_pull_request", "external_id": "123", "url": "https://example.com/pull/123"}
FILTERS = {
    "status": {"not_in": ["T"]},
    "status_category": {"one_of": ["live", "paused"]},
    "severity": {"gte": "S"},
    "incident_type": {"one_of": ["Y"]},
    "mode": {"one_of": ["standard", "test"]},
    "created_at": {"gte": "2026-11-01", "lte": "2026-11-30"},
    "updated_at": {"date_range": "2026-11-01~2026-11-30"},
    "incident_role": {"R": {"one_of": ["U"]}, "Q": {"is_blank": True}},
    "custom_field": {"F": {"one_of": ["O", "P"]}},
}
FILTER_QUERY = [
    "status[not_in]=T",
    "status_category[one_of]=live",
    "status_category[one_of]=paused",
    "severity[gte]=S",
    "incident_type[one_of]=Y",
    "mode[one_of]=standard",
    "mode[one_of]=test",
    "created_at[gte]=2026-11-01",
    "created_at[lte]=2026-11-30",
    "updated_at[date_range]=2026-11-01~2026-11-30",
    "incident_role[R][one_of]=U",
    "incident_role[Q][is_blank]=true",
    "custom_field[F][one_of]=O",
    "custom_field[F][one_of]=P",
]
PAGED = "page_size=250"


class Row(NamedTuple):
    """One call: what is called with what, the request that it makes, the answer that it gets."""

    name: str
    request: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012 -- never changed
    query: tuple[str, ...] = ()
    body: Any = None
    status: int = 200
    documented: bool = True

    @property
    def method(self) -> str:
        return self.request.partition(" ")[0]

    @property
    def path(self) -> str:
        return self.request.partition(" ")[2]

    def __str__(self) -> str:
        return f"{self.name} {self.request} {'&'.join(self.query)}"

    def call(self) -> Any:
        """Build the call."""
        return getattr(endpoints, self.name)(*self.args, **self.kwargs)


ROWS = [
    Row("create_incident_v2", "POST /v2/incidents", (CREATE_V2,), body=CREATE_V2),
    Row("show_incident", f"GET /v1/incidents/{ID}", (ID,)),
    Row("show_incident", f"GET /v2/incidents/{ID}", (ID,), {"api_version": "v2"}),
    Row("list_incidents", "GET /v1/incidents", query=(PAGED,)),
    Row("list_incidents", "GET /v1/incidents", (), {"status": ["triage", "fixing"]}, (PAGED, "status=triage", "status=fixing")),
    Row("list_incidents_v2", "GET /v2/incidents", query=(PAGED,)),
    Row(
        "list_incidents_v2", "GET /v2/incidents", (FILTERS,), {"sort_by": "created_at_oldest_first", "filter_mode": "any"},
        (PAGED, *FILTER_QUERY, "sort_by=created_at_oldest_first", "filter_mode=any"),
    ),
    Row("edit_incident", f"POST /v2/incidents/{ID}/actions/edit", (ID, EDIT), body={"incident": EDIT, "notify_incident_channel": False}),
    Row(
        "edit_incident", f"POST /v2/incidents/{ID}/actions/edit", (ID, {"name": "x", "summary": None}), {"notify_channel": True},
        body={"incident": {"name": "x"}, "notify_incident_channel": True},
    ),
    Row("list_incident_updates", "GET /v2/incident_updates", query=(PAGED,)),
    Row("list_incident_updates", "GET /v2/incident_updates", (ID,), query=(PAGED, f"incident_id={ID}")),
    Row("create_attachment", "POST /v1/incident_attachments", (ID, RESOURCE), body={"incident_id": ID, "resource": RESOURCE}, status=201),
    Row(
        "attach_link", "POST /v1/incident_attachments", (ID,), {"url": "https://x", "title": "t"}, status=201,
        body={"incident_id": ID, "resource": {"resource_type": "arbitrary_url", "url": "https://x", "title": "t"}},
    ),
    Row("list_attachments", "GET /v1/incident_attachments", (ID,), query=(f"incident_id={ID}",)),
    Row(
        "list_attachments", "GET /v1/incident_attachments", (), {"external_id": "7", "resource_type": "sentry_issue"},
        ("external_id=7", "resource_type=sentry_issue"),
    ),
    Row("delete_attachment", f"DELETE /v1/incident_attachments/{ID}", (ID,), status=204, documented=False),
    Row("create_alert_event", f"POST /v2/alert_events/http/{ID}", (EVENT,), body=EVENT, status=202),
    Row("show_identity", "GET /v1/identity"),
    Row("list_severities", "GET /v1/severities"),
    Row("show_severity", f"GET /v1/severities/{ID}", (ID,)),
    Row("list_incident_types", "GET /v1/incident_types"),
    Row("show_incident_type", f"GET /v1/incident_types/{ID}", (ID,)),
    Row("list_incident_statuses", "GET /v1/incident_statuses"),
    Row("show_incident_status", f"GET /v1/incident_statuses/{ID}", (ID,)),
    Row("list_custom_fields", "GET /v2/custom_fields"),
    Row("show_custom_field", f"GET /v2/custom_fields/{ID}", (ID,)),
    Row("list_custom_field_options", "GET /v1/custom_field_options", (ID,), query=(PAGED, f"custom_field_id={ID}")),
    Row("list_incident_roles", "GET /v2/incident_roles"),
    Row("show_incident_role", f"GET /v2/incident_roles/{ID}", (ID,)),
    Row("list_incident_timestamps", "GET /v2/incident_timestamps"),
    Row("list_users", "GET /v2/users", query=(PAGED,)),
    Row(
        "list_users", "GET /v2/users", (), {"email": "bob+x@example.com", "slack_user_id": "U1", "include_inactive": True},
        (PAGED, "email=bob+x@example.com", "slack_user_id=U1", "include_inactive=true"),
    ),
]  # fmt: skip


def answer_to(row: Row) -> Any:
    """Return what the document shows as the answer, as the last page; None where there is no body."""
    if not row.documented:
        return None
    template = (
        row.path.replace(ID, "{id}") if "alert" not in row.path else "/v2/alert_events/http/{alert_source_config_id}"
    )
    content = document()["paths"][template][row.method.lower()]["responses"][str(row.status)]["content"]
    schema = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    shown = json.loads(json.dumps(document()["components"]["schemas"][schema]["example"]))
    shown.get("pagination_meta", {}).pop("after", None)
    return shown


def served(row: Row) -> Scripted:
    """Serve the answer to a call."""
    shown = answer_to(row)
    return Scripted([answer(row.status, b"" if shown is None else json.dumps(shown).encode())])


def check(row: Row, server: Scripted) -> None:
    """Fail unless the one request is this row's, and the document allows it and its answer."""
    (arrival,) = server.arrivals
    method, target, _ = arrival.head.split(b"\r\n")[0].decode().split(" ")
    path, query = urlsplit(target).path, urlsplit(target).query
    body = json.loads(arrival.body) if arrival.body else None
    assert (method, path) == (row.method, row.path)
    assert [unquote(pair) for pair in query.split("&") if pair] == list(row.query)
    assert body == row.body
    if row.documented:
        check_request(method, path, body, query)
        check_response(method, path, row.status, answer_to(row))

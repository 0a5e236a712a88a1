"""Links that are attached to an incident.

https://docs.incident.io/api-reference/incident-attachments-v1/create
"""

from . import incidents
from .refusals import JsonObject, invalid, problem
from .shape import Known, Shape

RESOURCE_TYPES = (
    "pager_duty_incident",
    "opsgenie_alert",
    "datadog_monitor_alert",
    "github_pull_request",
    "gitlab_merge_request",
    "sentry_issue",
    "jira_issue",
    "jsm_alert",
    "atlassian_statuspage_incident",
    "zendesk_ticket",
    "google_calendar_event",
    "outlook_calendar_event",
    "slack_file",
    "salesforce_case",
    "arbitrary_url",
    "scrubbed",
    "statuspage_incident",
)
TEXTS = dict.fromkeys(("emoji", "external_id", "title", "url"), "string")
RESOURCE: Known = {"resource_type": RESOURCE_TYPES, **TEXTS}
CREATE: Known = {"incident_id": "string", "resource": "object"}


def check(body: JsonObject) -> list[str]:
    """Return the unknown properties of a create, or refuse with every problem found."""
    shape = Shape()
    shape.nulls(body)
    if not shape.errors:
        shape.object(body, (), CREATE, tuple(CREATE))
    if not shape.errors:
        shape.object(body["resource"], ("resource",), RESOURCE, ("resource_type",))
    return shape.done()


def build(body: JsonObject, now: float) -> JsonObject:
    """Return the attachment that a valid create makes; a plain link needs its address."""
    given = body["resource"]
    if given["resource_type"] == "arbitrary_url" and not given.get("url"):
        raise invalid([problem("is_required", "url is required for an arbitrary_url", "resource", "url")])
    external = given.get("external_id") or given.get("url") or ""
    return {
        "id": incidents.ulid(now),
        "incident_id": body["incident_id"],
        "resource": {
            "external_id": external,
            "permalink": given.get("url") or f"https://{given['resource_type']}.example.com/{external}",
            "resource_type": given["resource_type"],
            "title": given.get("title") or external,
        },
    }

"""Which status an incident may go to next, and what a change leaves behind. Pure.

https://docs.incident.io/api-reference/incidents-v2/edit
"""

from . import incidents
from .catalogue import CATEGORIES, Catalogue, by_id
from .refusals import JsonObject, invalid, problem

ONWARD = frozenset(CATEGORIES) - {"triage"}
# Category -> where else it may go; what is not here is final.
TRANSITIONS = {
    "triage": ONWARD | {"triage"},
    "live": ONWARD,
    "paused": ONWARD,
    "learning": frozenset({"learning", "closed"}),
    "closed": frozenset({"closed", "live"}),
}


def check(incident: JsonObject, edit: JsonObject, known: Catalogue) -> None:
    """Refuse a status that this incident cannot go to, and a reporter other than the first."""
    errors = [*_status(incident, edit, known), *_reporter(edit, known)]
    if errors:
        raise invalid(errors)


def skips_the_flow(incident: JsonObject, edit: JsonObject, known: Catalogue) -> bool:
    """Tell whether an edit closes an incident that a post-incident flow should have closed."""
    wanted = by_id(known.statuses, edit.get("incident_status_id", ""))
    closes = wanted is not None and wanted["category"] == "closed"
    return closes and incidents.category(incident) in ("live", "learning")


def update(before: JsonObject | None, after: JsonObject, updater: JsonObject, now: float) -> JsonObject | None:
    """Return the update that tells of a new status or severity, if there is one."""
    if before is not None and all(before.get(name) == after.get(name) for name in ("incident_status", "severity")):
        return None
    severity = {"new_severity": after["severity"]} if "severity" in after else {}
    return severity | {
        "id": incidents.ulid(now),
        "incident_id": after["id"],
        "created_at": after["updated_at"],
        "new_incident_status": after["incident_status"],
        "updater": updater,
    }


def _status(incident: JsonObject, edit: JsonObject, known: Catalogue) -> list[JsonObject]:
    wanted = by_id(known.statuses, edit.get("incident_status_id", ""))
    now = incident["incident_status"]
    if wanted is None or wanted["id"] == now["id"] or wanted["category"] in TRANSITIONS.get(now["category"], ()):
        return []
    told = f"an incident cannot go from {now['name']} to {wanted['name']}"
    return [problem("invalid_value", told, "incident", "incident_status_id")]


def _reporter(edit: JsonObject, known: Catalogue) -> list[JsonObject]:
    errors = []
    for place, row in enumerate(edit.get("incident_role_assignments", [])):
        role = by_id(known.roles, row["incident_role_id"])
        if role is not None and role["role_type"] == "reporter":
            path = ("incident", "incident_role_assignments", place, "incident_role_id")
            errors.append(problem("invalid_value", "the reporter is set when an incident is created", *path))
    return errors

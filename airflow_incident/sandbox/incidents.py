"""From an accepted request to what the API answers with. Pure, but for random IDs.

An incident is kept in v2's words; `shown` says it in v1's.
https://docs.incident.io/api-reference/incidents-v1/show
https://docs.incident.io/api-reference/incidents-v2/show
"""

import datetime as dt
import re
import secrets
from collections.abc import Mapping
from typing import Literal

from .catalogue import CATEGORIES, Catalogue, by_id, fixed_id
from .errors import JsonObject, invalid, problem

Version = Literal["v1", "v2"]

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
FIELD_NAMES = ("id", "name", "description", "field_type", "options")
USER_NAMES = ("id", "name", "email", "slack_user_id", "role")
CREATOR = {"api_key": {"id": fixed_id("KEY", 1), "name": "Sandbox key"}}

# v1 has no words for these categories; these are the nearest (nobody documents which are taken).
NEAREST = {"learning": "closed", "paused": "monitoring", "canceled": "declined", "merged": "closed"}
LIVE = ("investigating", "fixing", "monitoring")

_ONWARD = frozenset(CATEGORIES) - {"triage"}
# Category -> where else an edit may take it; what is not here is final.
TRANSITIONS = {
    "triage": _ONWARD | {"triage"},
    "live": _ONWARD,
    "paused": _ONWARD,
    "learning": frozenset({"learning", "closed"}),
    "closed": frozenset({"closed", "live"}),
}


def ulid(now: float) -> str:
    """Return an ID that sorts by time.

    https://github.com/ulid/spec
    """
    number = (int(now * 1000) << 80) | secrets.randbits(80)
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def rfc3339(now: float) -> str:
    """Return the moment as the API writes it."""
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def pick(row: JsonObject, names: tuple[str, ...]) -> JsonObject:
    """Return the row with no more than these properties."""
    return {name: row[name] for name in names if name in row}


def build(
    create: JsonObject, known: Catalogue, number: int, now: float, *, base_url: str, creator: JsonObject
) -> JsonObject:
    """Return the incident that a valid create of v2 opens.

    https://docs.incident.io/api-reference/incidents-v2/create
    """
    reference = f"INC-{number}"
    name = create.get("name") or "Unnamed incident"
    slug = re.sub(r"[^a-z0-9]+", "-", f"{reference}-{name}".lower())
    retrospective = create.get("retrospective_incident_options", {})
    incident = {
        "id": ulid(now),
        "reference": reference,
        "name": name,
        "incident_status": known.status_in("triage"),
        "mode": create.get("mode", "standard"),
        "visibility": create["visibility"],
        "permalink": f"{base_url}/incidents/{reference}",
        "call_url": f"https://meet.example.com/{reference.lower()}",
        "creator": creator,
        "incident_type": by_id(known.incident_types, create.get("incident_type_id", "")) or known.incident_types[0],
        "custom_field_entries": [],
        "incident_role_assignments": [{"role": role} for role in known.roles],
        "incident_timestamp_values": [{"incident_timestamp": row} for row in known.timestamps],
        "slack_team_id": create.get("slack_team_id", "T0SANDBOX"),
        "slack_channel_id": retrospective.get("slack_channel_id", f"C{number:010}"),
        "slack_channel_name": slug[:80].rstrip("-"),
        "created_at": rfc3339(now),
    } | pick(retrospective, ("postmortem_document_url",))
    return edited(_with_timestamps(incident, {"Reported at": rfc3339(now)}), create, known, now)


def edited(incident: JsonObject, edit: JsonObject, known: Catalogue, now: float) -> JsonObject:
    """Return the incident with what a valid edit gives; the rest stays as it is.

    https://docs.incident.io/api-reference/incidents-v2/edit
    """
    changed = incident | pick(edit, ("call_url",)) | {"updated_at": rfc3339(now)}
    changed |= {name: edit[name] for name in ("name", "summary") if edit.get(name)}
    if edit.get("slack_channel_name_override"):
        changed["slack_channel_name"] = edit["slack_channel_name_override"]
    if "severity_id" in edit:
        changed["severity"] = by_id(known.severities, edit["severity_id"])
    changed["incident_role_assignments"] = _assignments(incident, edit, known)
    changed["custom_field_entries"] = _entries(incident, edit, known)
    status = by_id(known.statuses, edit.get("incident_status_id", ""))
    if status is not None:
        changed = moved(changed, status, now)
    given = edit.get("incident_timestamp_values", [])
    return _with_timestamps(changed, {row["incident_timestamp_id"]: row.get("value") for row in given})


def moved(incident: JsonObject, status: JsonObject, now: float) -> JsonObject:
    """Return the incident in another status, with the moments that come with it."""
    rows = incident["incident_timestamp_values"]
    before = {row["incident_timestamp"]["name"]: row["value"]["value"] for row in rows if "value" in row}
    at = rfc3339(now)
    moments = {"Closed at": before.get("Closed at", at) if status["category"] == "closed" else None}
    if status["category"] in ("live", "learning", "closed", "paused"):
        moments["Accepted at"] = before.get("Accepted at", at)
    return _with_timestamps(incident | {"incident_status": status, "updated_at": at}, moments)


def _with_timestamps(incident: JsonObject, moments: Mapping[str, str | None]) -> JsonObject:
    """Return the incident with these moments, by the ID or name of a timestamp; None takes one away."""
    rows = []
    for row in incident["incident_timestamp_values"]:
        stamp = row["incident_timestamp"]
        key = stamp["id"] if stamp["id"] in moments else stamp["name"]
        value = {"value": {"value": moments[key]}} if moments.get(key) else {}
        rows.append({"incident_timestamp": stamp} | value if key in moments else row)
    return incident | {"incident_timestamp_values": rows}


def _assignments(incident: JsonObject, edit: JsonObject, known: Catalogue) -> list[JsonObject]:
    given = {row["incident_role_id"]: row.get("assignee") for row in edit.get("incident_role_assignments", [])}
    rows = []
    for row in incident["incident_role_assignments"]:
        role = row["role"]
        user = known.find_user(given.get(role["id"]) or {})
        assigned = {"role": role} | ({"assignee": pick(user, USER_NAMES)} if user else {})
        rows.append(assigned if role["id"] in given else row)
    return rows


def _entries(incident: JsonObject, edit: JsonObject, known: Catalogue) -> list[JsonObject]:
    entries = {row["custom_field"]["id"]: row for row in incident["custom_field_entries"]}
    for given in edit.get("custom_field_entries", []):
        field = next(row for row in known.custom_fields if row["id"] == given["custom_field_id"])
        values = [_value(field, value, known) for value in given["values"]]
        entries[field["id"]] = {"custom_field": pick(field, FIELD_NAMES), "values": values}
    return list(entries.values())


def _value(field: JsonObject, value: JsonObject, known: Catalogue) -> JsonObject:
    if "value_option_id" in value:
        return {"value_option": by_id(field["options"], value["value_option_id"])}
    if "value_catalog_entry_id" in value:
        return {"value_catalog_entry": known.find_entry(value["value_catalog_entry_id"])}
    return pick(value, ("value_text", "value_link", "value_numeric"))


def check_edit(incident: JsonObject, edit: JsonObject, known: Catalogue) -> None:
    """Refuse a status that this incident cannot go to, and a reporter other than the first."""
    errors = []
    now, wanted = incident["incident_status"], by_id(known.statuses, edit.get("incident_status_id", ""))
    if wanted and wanted["id"] != now["id"] and wanted["category"] not in TRANSITIONS.get(now["category"], ()):
        message = f"an incident cannot go from {now['name']} to {wanted['name']}"
        errors.append(problem("invalid_value", message, "incident", "incident_status_id"))
    reporters = [role["id"] for role in known.roles if role["role_type"] == "reporter"]
    for place, row in enumerate(edit.get("incident_role_assignments", [])):
        if row["incident_role_id"] in reporters:
            path = ("incident", "incident_role_assignments", place, "incident_role_id")
            errors.append(problem("invalid_value", "the reporter is set when an incident is created", *path))
    if errors:
        raise invalid(*errors)


def from_v1(create: JsonObject, known: Catalogue) -> JsonObject:
    """Return what a valid v1 create asks for, as v2 would ask for it."""
    asked = {name: value for name, value in create.items() if name != "status"}
    if asked.get("mode") == "real":
        asked["mode"] = "standard"
    word = create.get("status", "triage")
    return asked | {"incident_status_id": known.status_in("live" if word in LIVE else word, word)["id"]}


def shown(incident: JsonObject, version: Version) -> JsonObject:
    """Return an incident as this version of the API shows it."""
    if version == "v2":
        return incident
    rest = ("incident_status", "incident_timestamp_values")
    return {name: value for name, value in incident.items() if name not in rest} | {
        "status": _word(incident["incident_status"]),
        "mode": {"standard": "real", "retrospective": "real"}.get(incident["mode"], incident["mode"]),
        "creator": pick(incident["creator"], ("api_key", "user")),
        "timestamps": [
            {"name": row["incident_timestamp"]["name"]}
            | ({"last_occurred_at": row["value"]["value"]} if "value" in row else {})
            for row in incident["incident_timestamp_values"]
        ],
    }


def _word(status: JsonObject) -> str:
    """Return v1's word for a status."""
    if status["category"] == "live":
        word = str(status["name"]).lower()
        return word if word in LIVE else LIVE[0]
    return str(NEAREST.get(status["category"], status["category"]))


def attachment(create: JsonObject, now: float) -> JsonObject:
    """Return the attachment that a valid create makes.

    https://docs.incident.io/api-reference/incident-attachments-v1/create
    """
    given = create["resource"]
    external = given.get("external_id") or given.get("url") or ""
    return {
        "id": ulid(now),
        "incident_id": create["incident_id"],
        "resource": {
            "external_id": external,
            "permalink": given.get("url") or f"https://{given['resource_type']}.example.com/{external}",
            "resource_type": given["resource_type"],
            "title": given.get("title") or external,
        },
    }

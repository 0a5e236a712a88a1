"""From an accepted create to the incident the API answers with. Pure, but for random IDs."""

import datetime as dt
import re
import secrets

from . import catalogue
from .refusals import JsonObject

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


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


def build(payload: JsonObject, number: int, now: float, base_url: str, key_name: str) -> JsonObject:
    """Return the incident that a valid create opens.

    https://docs.incident.io/api-reference/incidents-v1/create
    """
    reference = f"INC-{number}"
    name = payload.get("name") or "Unnamed incident"
    incident: JsonObject = {
        "id": ulid(now),
        "reference": reference,
        "name": name,
        "status": payload.get("status", "triage"),
        "mode": payload.get("mode", "real"),
        "visibility": payload["visibility"],
        "permalink": f"{base_url}/incidents/{reference}",
        "call_url": f"https://meet.example.com/{reference.lower()}",
        "creator": {"api_key": {"id": catalogue.fixed_id("KEY", 1), "name": key_name}},
        "incident_type": _incident_type(payload),
        "custom_field_entries": [_entry(entry) for entry in payload.get("custom_field_entries", [])],
        "incident_role_assignments": _assignments(payload),
        "slack_team_id": payload.get("slack_team_id", "T0SANDBOX"),
        "slack_channel_id": f"C{number:010}",
        "slack_channel_name": _channel_name(reference, name),
        "timestamps": [],
        "created_at": rfc3339(now),
        "updated_at": rfc3339(now),
    }
    severity = catalogue.by_id(catalogue.SEVERITIES, payload.get("severity_id", ""))
    if severity is not None:
        incident["severity"] = severity
    if payload.get("summary"):
        incident["summary"] = payload["summary"]
    return {**incident, "timestamps": _timestamps(incident, now)}


def closed(incident: JsonObject, now: float) -> JsonObject:
    """Return the incident as it is once somebody has closed it."""
    moment = rfc3339(now)
    timestamps = [row for row in incident["timestamps"] if row["name"] != "Closed at"]
    timestamps.append({"name": "Closed at", "last_occurred_at": moment})
    return {**incident, "status": "closed", "updated_at": moment, "timestamps": timestamps}


def _incident_type(payload: JsonObject) -> JsonObject:
    wanted = payload.get("incident_type_id", "")
    return catalogue.by_id(catalogue.INCIDENT_TYPES, wanted) or catalogue.INCIDENT_TYPES[0]


def _timestamps(incident: JsonObject, now: float) -> list[JsonObject]:
    moment = rfc3339(now)
    happened = {"Reported at"}
    if incident["status"] not in ("triage", "declined"):
        happened.add("Accepted at")
    if incident["status"] == "closed":
        happened.add("Closed at")
    return [
        {"name": name, "last_occurred_at": moment} if name in happened else {"name": name}
        for name in ("Reported at", "Accepted at", "Closed at")
    ]


def _channel_name(reference: str, name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{reference.lower()}-{slug}"[:80].rstrip("-")


def _assignments(payload: JsonObject) -> list[JsonObject]:
    given = {row["incident_role_id"]: row["assignee"] for row in payload.get("incident_role_assignments", [])}
    rows = []
    for role in catalogue.ROLES:
        user = catalogue.find_user(given.get(role["id"], {}))
        rows.append({"role": role, "assignee": user} if user else {"role": role})
    return rows


def _entry(entry: JsonObject) -> JsonObject:
    field = catalogue.by_id(catalogue.CUSTOM_FIELDS, entry["custom_field_id"])
    assert field is not None  # noqa: S101 - validation has looked it up
    return {"custom_field": field, "values": [_value(field, value) for value in entry["values"]]}


def _value(field: JsonObject, value: JsonObject) -> JsonObject:
    if "value_option_id" in value:
        return {"value_option": catalogue.by_id(field["options"], value["value_option_id"])}
    if "value_catalog_entry_id" in value:
        return {"value_catalog_entry": catalogue.find_entry(value["value_catalog_entry_id"])}
    return {name: text for name, text in value.items() if name in ("value_text", "value_link", "value_numeric")}

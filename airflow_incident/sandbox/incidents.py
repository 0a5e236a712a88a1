"""From an accepted request to the incident that the API answers with, in v2's words. Pure, but for random IDs."""

import datetime as dt
import re
import secrets

from .catalogue import Catalogue, by_id, fixed_id
from .refusals import JsonObject

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
FIELD_NAMES = ("id", "name", "description", "field_type", "options")
USER_NAMES = ("id", "name", "email", "slack_user_id", "role")
CREATOR = {"api_key": {"id": fixed_id("KEY", 1), "name": "Sandbox key"}}


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
    payload: JsonObject, known: Catalogue, number: int, now: float, *, base_url: str, creator: JsonObject
) -> JsonObject:
    """Return the incident that a valid create opens.

    https://docs.incident.io/api-reference/incidents-v2/create
    """
    reference = f"INC-{number}"
    name = payload.get("name") or "Unnamed incident"
    retrospective = payload.get("retrospective_incident_options", {})
    incident: JsonObject = {
        "id": ulid(now),
        "reference": reference,
        "name": name,
        "incident_status": known.status_in("triage"),
        "mode": payload.get("mode", "standard"),
        "visibility": payload["visibility"],
        "permalink": f"{base_url}/incidents/{reference}",
        "call_url": f"https://meet.example.com/{reference.lower()}",
        "creator": creator,
        "incident_type": by_id(known.incident_types, payload.get("incident_type_id", "")) or known.incident_types[0],
        "custom_field_entries": [],
        "incident_role_assignments": [{"role": role} for role in known.roles],
        "incident_timestamp_values": [{"incident_timestamp": row} for row in known.timestamps],
        "slack_team_id": payload.get("slack_team_id", "T0SANDBOX"),
        "slack_channel_id": retrospective.get("slack_channel_id", f"C{number:010}"),
        "slack_channel_name": _channel_name(reference, name),
        "created_at": rfc3339(now),
    } | pick(retrospective, ("postmortem_document_url",))
    return edit(_timed(incident, "Reported at", now), payload, known, now)


def edit(incident: JsonObject, payload: JsonObject, known: Catalogue, now: float) -> JsonObject:
    """Return the incident with what a valid edit gives; the rest stays as it is.

    https://docs.incident.io/api-reference/incidents-v2/edit
    """
    changed = {**incident, **pick(payload, ("call_url",)), "updated_at": rfc3339(now)}
    changed |= {name: payload[name] for name in ("name", "summary") if payload.get(name)}
    if payload.get("slack_channel_name_override"):
        changed["slack_channel_name"] = payload["slack_channel_name_override"]
    if "severity_id" in payload:
        changed["severity"] = by_id(known.severities, payload["severity_id"])
    changed["incident_role_assignments"] = _assignments(incident, payload, known)
    changed["custom_field_entries"] = _entries(incident, payload, known)
    status = by_id(known.statuses, payload.get("incident_status_id", ""))
    if status is not None:
        changed = moved(changed, status, now)
    return {**changed, "incident_timestamp_values": _stamps(changed, payload)}


def moved(incident: JsonObject, status: JsonObject, now: float) -> JsonObject:
    """Return the incident in another status, with the moments that come with it."""
    changed = {**incident, "incident_status": status, "updated_at": rfc3339(now)}
    if status["category"] in ("live", "learning", "closed", "paused"):
        changed = _timed(changed, "Accepted at", now)
    if status["category"] == "closed":
        return _timed(changed, "Closed at", now)
    rows = changed["incident_timestamp_values"]
    return {**changed, "incident_timestamp_values": [_unset(row, "Closed at") for row in rows]}


def category(incident: JsonObject) -> str:
    """Return the category of the incident's status."""
    return str(incident["incident_status"]["category"])


def _unset(row: JsonObject, name: str) -> JsonObject:
    stamp = row["incident_timestamp"]
    return {"incident_timestamp": stamp} if stamp["name"] == name else row


def _timed(incident: JsonObject, name: str, now: float) -> JsonObject:
    """Return the incident with this moment set, if it was not."""
    moment = {"value": {"value": rfc3339(now)}}
    rows = incident["incident_timestamp_values"]
    timed = [moment | row if row["incident_timestamp"]["name"] == name else row for row in rows]
    return {**incident, "incident_timestamp_values": timed}


def _stamps(incident: JsonObject, payload: JsonObject) -> list[JsonObject]:
    given = {row["incident_timestamp_id"]: row.get("value") for row in payload.get("incident_timestamp_values", [])}
    rows = []
    for row in incident["incident_timestamp_values"]:
        stamp = row["incident_timestamp"]
        value = given.get(stamp["id"])
        kept = row if stamp["id"] not in given else {"incident_timestamp": stamp}
        rows.append({**kept, "value": {"value": value}} if value else kept)
    return rows


def _channel_name(reference: str, name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{reference.lower()}-{slug}"[:80].rstrip("-")


def _assignments(incident: JsonObject, payload: JsonObject, known: Catalogue) -> list[JsonObject]:
    given = {row["incident_role_id"]: row.get("assignee") for row in payload.get("incident_role_assignments", [])}
    rows = []
    for row in incident["incident_role_assignments"]:
        role = row["role"]
        if role["id"] not in given:
            rows.append(row)
            continue
        user = known.find_user(given[role["id"]] or {})
        rows.append({"role": role, "assignee": pick(user, USER_NAMES)} if user else {"role": role})
    return rows


def _entries(incident: JsonObject, payload: JsonObject, known: Catalogue) -> list[JsonObject]:
    entries = {row["custom_field"]["id"]: row for row in incident["custom_field_entries"]}
    for given in payload.get("custom_field_entries", []):
        field = by_id(known.custom_fields, given["custom_field_id"])
        assert field is not None  # noqa: S101 - validation has looked it up
        values = [_value(field, value, known) for value in given["values"]]
        entries[field["id"]] = {"custom_field": pick(field, FIELD_NAMES), "values": values}
    return list(entries.values())


def _value(field: JsonObject, value: JsonObject, known: Catalogue) -> JsonObject:
    if "value_option_id" in value:
        return {"value_option": by_id(field["options"], value["value_option_id"])}
    if "value_catalog_entry_id" in value:
        return {"value_catalog_entry": known.find_entry(value["value_catalog_entry_id"])}
    return {name: text for name, text in value.items() if name in ("value_text", "value_link", "value_numeric")}

"""How v1 says what v2 says: the same incidents, in the older version's words.

https://docs.incident.io/api-reference/incidents-v1/show
"""

from .catalogue import Catalogue
from .refusals import JsonObject

# v1 has no words for these categories; these are the nearest (nobody documents which are taken).
NEAREST = {"learning": "closed", "paused": "monitoring", "canceled": "declined", "merged": "closed"}
LIVE = ("investigating", "fixing", "monitoring")


def to_second(payload: JsonObject, known: Catalogue) -> JsonObject:
    """Return what a valid v1 create asks for, as v2 would ask for it."""
    asked = {name: value for name, value in payload.items() if name != "status"}
    if asked.get("mode") == "real":
        asked["mode"] = "standard"
    word = payload.get("status", "triage")
    category = "live" if word in LIVE else word
    return asked | {"incident_status_id": known.status_in(category, word)["id"]}


def shown(incident: JsonObject) -> JsonObject:
    """Return a v2 incident as v1 shows it."""
    rest = ("incident_status", "incident_timestamp_values")
    first = {name: value for name, value in incident.items() if name not in rest}
    actor = incident["creator"]
    return first | {
        "status": status_word(incident["incident_status"]),
        "mode": {"standard": "real", "retrospective": "real"}.get(incident["mode"], incident["mode"]),
        "creator": {kind: actor[kind] for kind in ("api_key", "user") if kind in actor},
        "timestamps": [_timestamp(row) for row in incident["incident_timestamp_values"]],
    }


def status_word(status: JsonObject) -> str:
    """Return v1's word for a status."""
    if status["category"] == "live":
        word = str(status["name"]).lower()
        return word if word in LIVE else LIVE[0]
    return str(NEAREST.get(status["category"], status["category"]))


def _timestamp(row: JsonObject) -> JsonObject:
    named = {"name": row["incident_timestamp"]["name"]}
    return named | ({"last_occurred_at": row["value"]["value"]} if "value" in row else {})

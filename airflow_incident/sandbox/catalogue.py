"""The pretend organisation: what names and IDs its incidents can refer to, as the API spells them."""

from typing import Any

JsonObject = dict[str, Any]

SINCE = "2026-01-05T09:00:00Z"


def fixed_id(kind: str, number: int) -> str:
    """Return an ID that looks like a ULID and is the same in every run."""
    return "01SANDB0X" + kind + f"{number:0{17 - len(kind)}}"


def _severity(rank: int, name: str, description: str) -> JsonObject:
    return {
        "id": fixed_id("SEV", rank),
        "name": name,
        "description": description,
        "rank": rank,
        "created_at": SINCE,
        "updated_at": SINCE,
    }


def _incident_type(number: int, name: str, description: str, *, private: bool) -> JsonObject:
    return {
        "id": fixed_id("TYP", number),
        "name": name,
        "description": description,
        "is_default": number == 1,
        "private_incidents_only": private,
        "create_in_triage": "optional",
        "created_at": SINCE,
        "updated_at": SINCE,
    }


def _role(number: int, role_type: str, name: str, shortform: str, description: str) -> JsonObject:
    return {
        "id": fixed_id("ASG", number),
        "name": name,
        "shortform": shortform,
        "description": description,
        "instructions": "" if role_type == "reporter" else "Say in the channel that it is yours.",
        "role_type": role_type,
        "required": False,
        "created_at": SINCE,
        "updated_at": SINCE,
    }


def _field(number: int, field_type: str, name: str, description: str, *options: str) -> JsonObject:
    field_id = fixed_id("CFD", number)
    return {
        "id": field_id,
        "name": name,
        "description": description,
        "field_type": field_type,
        "options": [
            {
                "id": fixed_id("CPT", 100 * number + place),
                "custom_field_id": field_id,
                "value": value,
                "sort_key": 10 * place,
            }
            for place, value in enumerate(options, 1)
        ],
    }


def _user(number: int, name: str, role: str) -> JsonObject:
    return {
        "id": fixed_id("PRS", number),
        "name": name,
        "email": f"{name.split(maxsplit=1)[0].lower()}@example.com",
        "slack_user_id": f"U0SANDBOX{number}",
        "role": role,
    }


SEVERITIES = [
    _severity(1, "Minor", "Can wait for working hours."),
    _severity(2, "Major", "People notice, someone should look now."),
    _severity(3, "Critical", "Much is broken, all hands."),
]
INCIDENT_TYPES = [
    _incident_type(1, "Default", "Anything that has no type of its own.", private=False),
    _incident_type(2, "Data pipeline", "Data is late, missing or wrong.", private=False),
    _incident_type(3, "Security", "For invited people only.", private=True),
]
ROLES = [
    _role(1, "lead", "Incident Lead", "lead", "Makes the decisions."),
    _role(2, "reporter", "Reporter", "", "Opened the incident."),
    _role(3, "custom", "Communications Lead", "comms", "Tells everybody else."),
]
USERS = [
    _user(1, "Alice Archer", "owner"),
    _user(2, "Bob Baker", "responder"),
    _user(3, "Chloe Carter", "responder"),
]
CUSTOM_FIELDS = [
    _field(1, "single_select", "Affected team", "Whose data it is.", "Product", "Finance", "Marketing"),
    _field(2, "multi_select", "Data products", "What is late.", "Orders", "Invoices", "Clicks"),
    _field(3, "text", "Notes", "Anything worth knowing."),
    _field(4, "link", "Runbook", "What to do about it."),
    _field(5, "numeric", "Rows affected", "How many."),
    _field(6, "single_select", "Service", "Taken from the catalogue of services."),
]
# A select field without options of its own takes its values from the catalogue.
CATALOGUE_ENTRIES = [
    {"id": fixed_id("ENT", 1), "name": "Warehouse", "external_id": "warehouse", "aliases": ["dwh"]},
    {"id": fixed_id("ENT", 2), "name": "Billing", "external_id": "billing", "aliases": []},
]


def by_id(rows: list[JsonObject], wanted: str) -> JsonObject | None:
    """Return the row with this ID."""
    return next((row for row in rows if row["id"] == wanted), None)


def find_user(reference: JsonObject) -> JsonObject | None:
    """Return the user that an id, an email address or a Slack user ID means."""
    keys = [key for key in ("id", "email", "slack_user_id") if key in reference]
    return next((user for user in USERS if keys and all(user[k] == reference[k] for k in keys)), None)


def find_entry(reference: str) -> JsonObject | None:
    """Return the catalogue entry with this ID, external ID or alias."""
    return next(
        (entry for entry in CATALOGUE_ENTRIES if reference in (entry["id"], entry["external_id"], *entry["aliases"])),
        None,
    )

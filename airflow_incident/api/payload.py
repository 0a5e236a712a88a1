"""From what people write to the body of a create. The draft says it in their words, with names; the body in IDs.

Plain mappings, checked by hand: every failure needs them, and models take longer to build than to send.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from numbers import Number
from typing import Any

from airflow_incident.errors import ConfigurationError, IncidentIoError, Problem, UnknownName, UnknownNameError

Draft = Mapping[str, Any]

NAMED = ("severity", "incident_type", "status", "custom_fields", "roles")
"""Fields that hold names, which stand for IDs."""

_TEXTS = ("name", "summary", "mode", "visibility", "slack_team_id")
_V1_ONLY = ("source_message_channel_id", "source_message_timestamp")
_V2_ONLY = ("slack_channel_name_override", "incident_timestamp_values", "retrospective_incident_options")
_OF_BODIES = ("severity_id", "incident_type_id", "custom_field_entries", "incident_role_assignments")
_MAPPINGS = {"custom_fields": "fields to values", "roles": "roles to people"}
_KNOWN = {"idempotency_key", *NAMED, *_TEXTS, *_V1_ONLY, *_V2_ONLY}
LABELS = {
    "custom_field_entries": "Custom fields",
    "incident_role_assignments": "Roles",
    "incident_type_id": "Incident type",
    "incident_status_id": "Status",
    "severity_id": "Severity",
    "slack_team_id": "Slack team ID",
}


def label(name: str) -> str:
    """Name a field of a body as people know it."""
    return LABELS.get(name, name.removesuffix("_id").replace("_", " ").capitalize())


def create_draft(*, idempotency_key: str, **fields: Any) -> dict[str, Any]:
    """Check what people wrote, and leave out what they did not.

    :param fields: The options that say what an incident looks like, and fields of the body under their own names.
    :raises ConfigurationError: naming every field that cannot be used.
    """
    draft = {"idempotency_key": idempotency_key, "visibility": "public"}
    draft |= {name: _plain(value) for name, value in fields.items() if value is not None and value != {}}
    problems = list(_problems(draft))
    if problems:
        raise ConfigurationError(problems)
    return draft


def create_usable_draft(*, idempotency_key: str, **fields: Any) -> tuple[dict[str, Any], list[Problem]]:
    """Check as `create_draft` does, but leave out what cannot be used, and return what that was.

    One wrong custom field or role costs itself, not the others.
    """
    with suppress(ConfigurationError):
        return create_draft(idempotency_key=idempotency_key, **fields), []
    usable: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in fields.items():
        entries = [{each: value[each]} for each in value] if isinstance(value, Mapping) else [value]
        for entry in entries:
            try:
                create_draft(idempotency_key=idempotency_key, **{name: entry})
            except ConfigurationError as error:
                problems += error.problems
            else:
                usable[name] = {**usable.get(name, {}), **entry} if isinstance(entry, Mapping) else entry
    return create_draft(idempotency_key=idempotency_key, **usable), problems


def _plain(value: Any) -> Any:
    """Make a value one that JSON knows, whatever mapping, sequence or number it is."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Number) and not isinstance(value, int | float) else value


def create_alert(
    *, deduplication_key: str, title: str, description: str, source_url: str | None, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the event that makes an alert fire (https://docs.incident.io/api-reference/alert-events-v2/create-http)."""
    event = {
        "deduplication_key": deduplication_key,
        "title": title,
        "status": "firing",
        "description": description,
        "source_url": source_url,
        "metadata": dict(metadata),
    }
    return {name: value for name, value in event.items() if value}


def is_alert(draft: Draft) -> bool:
    """Return whether a draft is an alert's event, which is sent as it is."""
    return "deduplication_key" in draft


def _problems(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong, without the value: it may be a secret."""
    for name, value in draft.items():
        if name not in _KNOWN:
            yield Problem(label(name), "is not known")
        elif name in _MAPPINGS:
            yield from _entry_problems(name, value)
        elif name not in _V2_ONLY[1:] and not isinstance(value, str):
            yield Problem(label(name), "must be a text")
    if not draft["idempotency_key"]:
        yield Problem(label("idempotency_key"), "is empty")


def _entry_problems(name: str, entries: Any) -> Iterator[Problem]:
    from airflow_incident.api.values import assignee, listed, ready_value, text

    if not isinstance(entries, Mapping):
        yield Problem(label(name), f"must be a mapping of {_MAPPINGS[name]}")
        return
    for key, given in entries.items():
        for value in listed(given) if name == "custom_fields" else [given]:
            read = assignee if name == "roles" else ready_value if isinstance(value, Mapping) else text
            try:
                read(value)
            except ValueError as error:
                yield Problem(label(name), f"{key!r} {error}")


@dataclass
class LookupResult:
    """What was found for a draft's names: `fields` belong into a body.

    `problems` says what is unknown or has no place; `missing` holds, by label, the look-ups that failed. What
    either is about is not in `fields`. `private_only` says that the chosen type allows private incidents only.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    missing: dict[str, IncidentIoError] = field(default_factory=dict)
    private_only: bool = False


def refusal(problems: Sequence[Problem]) -> ConfigurationError:
    """Make an error of problems, of which some may be names that incident.io does not know."""
    unknown = any(isinstance(problem, UnknownName) for problem in problems)
    return (UnknownNameError if unknown else ConfigurationError)(problems)


def compose(draft: Draft, found: Mapping[str, Any], *, api_version: str) -> dict[str, Any]:
    """Build the body of a create from a draft and the IDs that were found for its names, or from a body of v1."""
    others = _V1_ONLY if api_version == "v1" else _V2_ONLY
    names = ("idempotency_key", *_TEXTS, *_OF_BODIES, *others)
    body = {name: draft[name] for name in names if name in draft} | dict(found)
    if api_version == "v2" and body.get("mode") == "real":
        body["mode"] = "standard"
    return body


def unsayable(draft: Draft, *, api_version: str) -> list[Problem]:
    """Return which fields of a draft a version of the API has no place for."""
    names = [name for name in (_V2_ONLY if api_version == "v1" else _V1_ONLY) if name in draft]
    return [Problem(label(name), f"cannot be said in {api_version} of the API") for name in names]

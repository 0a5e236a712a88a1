"""How people write a person or a custom field's value, in the words of the API. No look-up and no I/O enters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_incident.constants import PERSON_KINDS, VALUE_KINDS

_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_SLACK_ID = re.compile(r"[UW][A-Z0-9]{7,}")
_MOST_DIGITS = 40
"""Digits before or after the point that a number may have: 1e999999 would become a megabyte of text."""


def is_id(text: str) -> bool:
    """Return whether a text is one of incident.io's IDs, a ULID (https://github.com/ulid/spec)."""
    return _ID.fullmatch(text) is not None


def assignee(person: Any) -> dict[str, str]:
    """Read a person: an email address, a Slack ID, an ID, or a mapping of one of these.

    :raises ValueError: saying what is expected instead.
    """
    if isinstance(person, Mapping) and person and _is_ready(person, PERSON_KINDS):
        return dict(person)
    if not isinstance(person, str) or not person.strip():
        raise ValueError("needs a person: an email address, a Slack ID or an ID")
    who = person.strip()
    return {"email" if "@" in who else "slack_user_id" if _SLACK_ID.fullmatch(who) else "id": who}


def listed(given: Any) -> list[Any]:
    """Return the values of a custom field, of which one may stand alone."""
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str | bytes) else [given]


def ready_value(value: Mapping[str, Any]) -> dict[str, str]:
    """Read a value that says itself what it is, like {"value_text": "x"}.

    :raises ValueError: saying what is expected instead.
    """
    if isinstance(value.get("value_numeric"), int | float | Decimal):
        value = {**value, "value_numeric": number(value["value_numeric"])}
    if not _is_ready(value, VALUE_KINDS):
        raise ValueError(f"needs {{kind: value}} with one of: {', '.join(VALUE_KINDS)}")
    return dict(value)


def _is_ready(value: Mapping[str, Any], kinds: Sequence[str]) -> bool:
    return all(kind in kinds and isinstance(text, str) for kind, text in value.items())


def plain_value(field_type: Any, value: Any) -> dict[str, str]:
    """Read the value of a field that is no select, by the field's type.

    :raises ValueError: saying what is expected instead; never quoting the value, it may be a secret.
    """
    match field_type:
        case "text":
            return {"value_text": text(value)}
        case "link":
            return {"value_link": text(value)}
        case "numeric":
            return {"value_numeric": number(value)}
    raise ValueError(f"is of a type unknown here; give {{kind: value}} with one of: {', '.join(VALUE_KINDS)}")


def text(value: Any) -> str:
    """Read a text; a number stands for its digits.

    :raises ValueError: if it is neither.
    """
    if not isinstance(value, str | int | float | Decimal):
        raise ValueError("needs a text")  # noqa: TRY004 -- whoever asks knows one kind of error
    return str(value).strip()


def number(value: Any) -> str:
    """Read a number and write it as the API wants it: digits, without an exponent.

    :raises ValueError: if it is none, or one of more digits than make sense.
    """
    try:
        exact = Decimal("NaN" if isinstance(value, bool) else text(value))
    except InvalidOperation:
        exact = Decimal("NaN")
    if not exact.is_finite():
        raise ValueError("needs a number")
    lowest = exact.as_tuple().exponent
    if exact.adjusted() > _MOST_DIGITS or (isinstance(lowest, int) and lowest < -_MOST_DIGITS):
        raise ValueError(f"needs a number of at most {_MOST_DIGITS} digits")
    return format(exact, "f")

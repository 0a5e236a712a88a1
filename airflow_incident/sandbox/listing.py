"""Pages of a list, and which incidents v2's filters let through. Pure.

https://docs.incident.io/api-reference/incidents-v2/list
"""

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

from . import incidents
from .catalogue import CATEGORIES, MODES, Catalogue, by_id
from .refusals import JsonObject, invalid, problem
from .validation import moment

Matches = Callable[[JsonObject], bool]
# A filter's name, the role or field that a nested one names, its operator.
Key = tuple[str, ...]

# The document has one limit for what is asked, and a lower one for what is answered.
PAGE_ASKED, PAGE_GIVEN, PAGE_DEFAULT = 500, 250, 25

_DATES = ("gte", "lte", "date_range")
OPERATORS = {
    "status": ("one_of", "not_in"),
    "status_category": ("one_of", "not_in"),
    "severity": ("one_of", "not_in", "gte", "lte"),
    "incident_type": ("one_of", "not_in"),
    "mode": ("one_of",),
    "created_at": _DATES,
    "updated_at": _DATES,
    "incident_role": ("one_of", "is_blank"),
    "custom_field": ("one_of", "not_in", "is_blank"),
}
NESTED = ("incident_role", "custom_field")
DEFAULT_MODES = ["standard", "retrospective"]
_FILTER = re.compile(r"(\w+)((?:\[[^\[\]]*\])+)", re.ASCII)


def page(
    name: str, rows: list[JsonObject], query: Any, *, most: int = PAGE_GIVEN, matches: Matches | None = None
) -> JsonObject:
    """Return the answer of a list that comes in pages; `matches` leaves rows out, and lets the rest be counted."""
    size = _size(query.get("page_size") or str(PAGE_DEFAULT), most)
    chosen = [row for row in rows if matches is None or matches(row)]
    start = 0
    if after := query.get("after"):
        places = [place for place, row in enumerate(rows) if row["id"] == after]
        if not places:
            raise invalid(problem("not_found", "there is no such record", "after"))
        # The record itself may have left the filter since: its place among all counts.
        later = {row["id"] for row in rows[places[0] + 1 :]}
        start = sum(row["id"] not in later for row in chosen)
    given = chosen[start : start + size]
    meta: JsonObject = {"page_size": size}
    if matches is not None:
        meta["total_record_count"] = len(chosen)
    if start + size < len(chosen):
        meta["after"] = given[-1]["id"]
    return {name: given, "pagination_meta": meta}


def _size(text: str, most: int) -> int:
    if re.fullmatch("[0-9]{1,9}", text) is None or not 1 <= int(text) <= most:
        raise invalid(problem("invalid_value", f"must be a whole number from 1 to {most}", "page_size"))
    return min(int(text), PAGE_GIVEN)


def filters(query: list[tuple[str, str]], known: Catalogue) -> Matches:
    """Read v2's filters, or refuse with all that are wrong."""
    asked: dict[Key, list[str]] = {}
    for name, value in query:
        found = _FILTER.fullmatch(name)
        if found and found[1] in OPERATORS and value:
            asked.setdefault((found[1], *re.findall(r"\[([^\[\]]*)\]", found[2])), []).append(value)
    errors = [problem("invalid_value", wrong, key[0]) for key in asked if (wrong := _wrong(key, asked[key], known))]
    mode = dict(query).get("filter_mode") or "all"
    if mode not in ("all", "any"):
        errors.append(problem("invalid_value", "must be all or any", "filter_mode"))
    if errors:
        raise invalid(*errors)
    modes = asked.pop(("mode", "one_of"), DEFAULT_MODES)
    tests = [_test(key, values, known) for key, values in asked.items()]
    every = all if mode == "all" or not tests else any
    return lambda row: row["mode"] in modes and every(test(row) for test in tests)


def _wrong(key: Key, values: list[str], known: Catalogue) -> str:
    """Say what is wrong with one filter, if anything is."""
    name, operator = key[0], key[-1]
    if len(key) != (3 if name in NESTED else 2) or operator not in OPERATORS[name]:
        return f"takes {', '.join(OPERATORS[name])}"
    if OPERATORS[name] is _DATES:
        pairs = [value.split("~") for value in values]
        right = all(len(dates) == (2 if operator == "date_range" else 1) for dates in pairs)
        right = right and all(_date(date) for dates in pairs for date in dates)
        return "" if right else "takes dates like 2026-01-05"
    if operator == "is_blank":
        return "" if set(values) <= {"true", "false"} else "takes true or false"
    lists = {"status": known.statuses, "severity": known.severities, "incident_type": known.incident_types}
    words = {"mode": MODES, "status_category": CATEGORIES}
    allowed = words.get(name, [row["id"] for row in lists.get(name, [])]) if name not in NESTED else values
    unknown = [value for value in values if value not in allowed]
    return f"{unknown[0]!r} is not known" if unknown else ""


def _test(key: Key, values: list[str], known: Catalogue) -> Matches:
    """Turn one filter, known to be right, into a question to ask of an incident."""
    name, operator = key[0], key[-1]
    if operator in _DATES:
        rank = _date if OPERATORS[name] is _DATES else lambda text: (by_id(known.severities, text) or {}).get("rank")
        ranges = [_range(value, operator, rank) for value in values]
        have = (lambda row: _date(row[name])) if rank is _date else (lambda row: row.get("severity", {}).get("rank"))
        return lambda row: (
            have(row) is not None
            and any((low is None or low <= have(row)) and (high is None or have(row) <= high) for low, high in ranges)
        )
    if operator == "is_blank":
        return lambda row: str(not _values(key, row)).lower() in values
    return lambda row: set(values).isdisjoint(_values(key, row)) == (operator == "not_in")


def _range(value: str, operator: str, rank: Callable[[str], Any]) -> tuple[Any, Any]:
    """Return the lowest and the highest that a comparison lets through; None is without end."""
    first, _, last = value.partition("~")
    low = None if operator == "lte" else rank(first)
    return low, None if operator == "gte" else rank(last or first)


def _values(key: Key, row: JsonObject) -> list[str]:
    """Return an incident's values for a filter."""
    name, inner = key[0], key[1]
    if name == "incident_role":
        roles = [it for it in row["incident_role_assignments"] if it["role"]["id"] == inner and "assignee" in it]
        return [it["assignee"]["id"] for it in roles]
    if name == "custom_field":
        entries = [it["values"] for it in row["custom_field_entries"] if it["custom_field"]["id"] == inner]
        values = [given for entry in entries for value in entry for given in value.values()]
        return [str(value["id"] if isinstance(value, dict) else value) for value in values]
    if name == "status_category":
        return [incidents.category(row)]
    source = "incident_status" if name == "status" else name
    return [row[source]["id"]] if source in row else []


def _date(text: str) -> dt.datetime | None:
    """Read a date, which means its first moment in UTC, or a moment."""
    try:
        return dt.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=dt.UTC)
    except ValueError:
        return moment(text)

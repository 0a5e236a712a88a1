"""Pages of a list, and which incidents v2's filters let through. Pure.

https://docs.incident.io/api-reference/incidents-v2/list
"""

import datetime as dt
import re
from collections.abc import Callable, Iterable
from typing import Any

from . import incidents
from .catalogue import CATEGORIES, Catalogue, by_id
from .refusals import JsonObject, invalid, problem
from .shape import moment
from .validation import MODES

Query = list[tuple[str, str]]
Matches = Callable[[JsonObject], bool]

OPERATORS = {
    "status": ("one_of", "not_in"),
    "status_category": ("one_of", "not_in"),
    "severity": ("one_of", "not_in", "gte", "lte"),
    "incident_type": ("one_of", "not_in"),
    "mode": ("one_of",),
    "created_at": ("gte", "lte", "date_range"),
    "updated_at": ("gte", "lte", "date_range"),
    "incident_role": ("one_of", "is_blank"),
    "custom_field": ("one_of", "not_in", "is_blank"),
}
NESTED = ("incident_role", "custom_field")
DEFAULT_MODES = ("standard", "retrospective")
_FILTER = re.compile(r"(\w+)((?:\[[^\[\]]*\])+)", re.ASCII)


def page(
    rows: list[JsonObject], size: int, after: str | None, matches: Matches = lambda _: True
) -> tuple[list[JsonObject], str | None, int]:
    """Return one page, the ID to continue after, and the number of all matches."""
    chosen = [row for row in rows if matches(row)]
    start = 0
    if after is not None:
        # The record itself may have left the filter since: find its place among all.
        places = [place for place, row in enumerate(rows) if row["id"] == after]
        if not places:
            raise invalid([problem("not_found", "there is no such record", "after")])
        later = {row["id"] for row in rows[places[0] + 1 :]}
        start = sum(row["id"] not in later for row in chosen)
    given = chosen[start : start + size]
    more = start + size < len(chosen)
    return given, given[-1]["id"] if more else None, len(chosen)


def filters(query: Query, known: Catalogue) -> Matches:
    """Read v2's filters, or refuse with all that are wrong."""
    asked: dict[tuple[str, ...], list[str]] = {}
    for name, value in query:
        found = _FILTER.fullmatch(name)
        if found and found[1] in OPERATORS and value:
            asked.setdefault((found[1], *re.findall(r"\[([^\[\]]*)\]", found[2])), []).append(value)
    errors = [error for key, values in asked.items() for error in _wrong(key, values, known)]
    mode = dict(query).get("filter_mode") or "all"
    if mode not in ("all", "any"):
        errors.append(problem("invalid_value", "must be all or any", "filter_mode"))
    if errors:
        raise invalid(errors)
    modes = asked.pop(("mode", "one_of"), list(DEFAULT_MODES))
    tests = [_test(key, values, known) for key, values in asked.items()]
    every = all if mode == "all" or not tests else any
    return lambda row: row["mode"] in modes and every(test(row) for test in tests)


def _wrong(key: tuple[str, ...], values: list[str], known: Catalogue) -> list[JsonObject]:
    """Say what is wrong with one filter."""
    name, operator = key[0], key[-1]
    if len(key) != (3 if name in NESTED else 2) or operator not in OPERATORS[name]:
        return [problem("invalid_value", f"takes {', '.join(OPERATORS[name])}", name)]
    if name in ("created_at", "updated_at"):
        dates = [date for value in values for date in (value.split("~") if operator == "date_range" else [value])]
        pairs = operator != "date_range" or all(value.count("~") == 1 for value in values)
        right = pairs and all(_date(date) for date in dates)
        return [] if right else [problem("invalid_value", "takes dates like 2026-01-05", name)]
    if operator == "is_blank":
        right = set(values) <= {"true", "false"}
        return [] if right else [problem("invalid_value", "takes true or false", name)]
    allowed = _allowed(name, known)
    wrong = [] if allowed is None else [value for value in values if value not in allowed]
    return [problem("invalid_value", f"{value!r} is not known", name) for value in wrong]


def _allowed(name: str, known: Catalogue) -> Iterable[str] | None:
    rows = {"status": known.statuses, "severity": known.severities, "incident_type": known.incident_types}
    if name in rows:
        return [row["id"] for row in rows[name]]
    return {"mode": MODES, "status_category": CATEGORIES}.get(name)


def _test(key: tuple[str, ...], values: list[str], known: Catalogue) -> Matches:
    """Turn one filter, known to be right, into a question to ask of an incident."""
    name, operator = key[0], key[-1]
    if name in ("created_at", "updated_at"):
        return lambda row: any(_within(_date(row[name]), operator, value) for value in values)
    if operator in ("gte", "lte"):
        ranks = [found["rank"] for value in values if (found := by_id(known.severities, value))]
        return lambda row: any(_compare(row.get("severity", {}).get("rank"), operator, rank) for rank in ranks)
    of = _values(key)
    if operator == "is_blank":
        return lambda row: str(not of(row)).lower() in values
    if operator == "not_in":
        return lambda row: not set(values) & set(of(row))
    return lambda row: bool(set(values) & set(of(row)))


def _values(key: tuple[str, ...]) -> Callable[[JsonObject], list[str]]:
    """Return what reads an incident's values for a filter."""
    name, inner = key[0], key[1]
    if name == "incident_role":
        return lambda row: [
            it["assignee"]["id"]
            for it in row["incident_role_assignments"]
            if it["role"]["id"] == inner and "assignee" in it
        ]
    if name == "custom_field":
        return lambda row: [
            text
            for entry in row["custom_field_entries"]
            if entry["custom_field"]["id"] == inner
            for value in entry["values"]
            for text in map(_identity, value.values())
        ]
    if name == "status_category":
        return lambda row: [incidents.category(row)]
    source = {"status": "incident_status"}.get(name, name)
    return lambda row: [row[source]["id"]] if source in row else []


def _identity(value: Any) -> str:
    return str(value["id"] if isinstance(value, dict) else value)


def _compare(left: Any, operator: str, right: Any) -> bool:
    if left is None:
        return False
    return bool(left >= right if operator == "gte" else left <= right)


def _within(given: Any, operator: str, value: str) -> bool:
    if operator != "date_range":
        return _compare(given, operator, _date(value))
    first, last = value.split("~")
    return _compare(given, "gte", _date(first)) and _compare(given, "lte", _date(last))


def _date(text: str) -> dt.datetime | None:
    """Read a date, which means its first moment in UTC, or a moment."""
    try:
        return dt.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=dt.UTC)
    except ValueError:
        return moment(text)

"""Pages of a list, and which incidents v2's filters let through. Pure.

https://docs.incident.io/api-reference/incidents-v2/list
"""

import datetime as dt
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from .catalogue import CATEGORIES, MODES, Catalogue
from .errors import JsonObject, invalid, problem
from .validation import moment

Matches = Callable[[JsonObject], bool]
# A filter's name, for a nested one the ID of the role or field, and how it compares.
Key = tuple[str, ...]

# The document has one limit for what is asked, and a lower one for what is answered.
PAGE_ASKED, PAGE_GIVEN, PAGE_DEFAULT = 500, 250, 25


def page(
    name: str, rows: list[JsonObject], query: Mapping[str, str], most: int = PAGE_GIVEN, matches: Matches | None = None
) -> JsonObject:
    """Return the answer of a list that comes in pages; `matches` leaves rows out, and lets the rest be counted."""
    text = query.get("page_size") or str(PAGE_DEFAULT)
    if re.fullmatch("[0-9]{1,9}", text) is None or not 1 <= int(text) <= most:
        raise invalid(problem("invalid_value", f"must be a whole number from 1 to {most}", "page_size"))
    size = min(int(text), PAGE_GIVEN)
    chosen = [row for row in rows if matches is None or matches(row)]
    start = 0
    if after := query.get("after"):
        ids = [row["id"] for row in rows]
        if after not in ids:
            raise invalid(problem("not_found", "there is no such record", "after"))
        # The record itself may have left the filter since: its place among all counts.
        seen = ids[: ids.index(after) + 1]
        start = sum(row["id"] in seen for row in chosen)
    given = chosen[start : start + size]
    meta: JsonObject = {"page_size": size} | ({} if matches is None else {"total_record_count": len(chosen)})
    if start + size < len(chosen):
        meta["after"] = given[-1]["id"]
    return {name: given, "pagination_meta": meta}


def _assignees(row: JsonObject, role_id: str) -> list[str]:
    roles = [it for it in row["incident_role_assignments"] if it["role"]["id"] == role_id]
    return [it["assignee"]["id"] for it in roles if "assignee" in it]


def _entries(row: JsonObject, field_id: str) -> list[str]:
    entries = [it["values"] for it in row["custom_field_entries"] if it["custom_field"]["id"] == field_id]
    values = [given for entry in entries for value in entry for given in value.values()]
    return [str(value["id"] if isinstance(value, dict) else value) for value in values]


_SET = ("one_of", "not_in")
_DATES = ("gte", "lte", "date_range")
_COMPARED = {"gte": [operator.ge], "lte": [operator.le], "date_range": [operator.ge, operator.le]}
DEFAULT_MODES = ["standard", "retrospective"]
# Filter -> how it may compare, and what reads an incident's values.
FILTERS: dict[str, tuple[tuple[str, ...], Callable[[JsonObject, str], list[str]]]] = {
    "status": (_SET, lambda row, _: [row["incident_status"]["id"]]),
    "status_category": (_SET, lambda row, _: [row["incident_status"]["category"]]),
    "severity": ((*_SET, "gte", "lte"), lambda row, _: [row["severity"]["id"]] if "severity" in row else []),
    "incident_type": (_SET, lambda row, _: [row["incident_type"]["id"]]),
    "mode": (("one_of",), lambda row, _: [row["mode"]]),
    "created_at": (_DATES, lambda row, _: [row["created_at"]]),
    "updated_at": (_DATES, lambda row, _: [row["updated_at"]]),
    "incident_role": (("one_of", "is_blank"), _assignees),
    "custom_field": ((*_SET, "is_blank"), _entries),
}
NESTED = ("incident_role", "custom_field")
_FILTER = re.compile(r"(\w+)((?:\[[^\[\]]*\])+)", re.ASCII)


def filters(query: list[tuple[str, str]], known: Catalogue) -> Matches:
    """Read v2's filters, or refuse with all that are wrong."""
    asked: dict[Key, list[str]] = {}
    for name, value in query:
        found = _FILTER.fullmatch(name)
        if found and found[1] in FILTERS and value:
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
    name, how = key[0], key[-1]
    possible, _ = FILTERS[name]
    if len(key) != (3 if name in NESTED else 2) or how not in possible:
        return f"takes {', '.join(possible)}"
    if possible is _DATES:
        dates = [value.split("~") for value in values]
        right = all(len(pair) == len(_COMPARED[how]) and all(map(_date, pair)) for pair in dates)
        return "" if right else "takes dates like 2026-01-05"
    if how == "is_blank":
        return "" if set(values) <= {"true", "false"} else "takes true or false"
    rows = {"status": known.statuses, "severity": known.severities, "incident_type": known.incident_types}
    allowed = {"mode": MODES, "status_category": CATEGORIES} | {it: [row["id"] for row in rows[it]] for it in rows}
    unknown = [value for value in values if value not in allowed.get(name, values)]
    return f"{unknown[0]!r} is not known" if unknown else ""


def _test(key: Key, values: list[str], known: Catalogue) -> Matches:
    """Turn one filter, known to be right, into a question to ask of an incident."""
    name, how = key[0], key[-1]
    possible, read = FILTERS[name]
    if how == "is_blank":
        return lambda row: str(not read(row, key[1])).lower() in values
    if how in _SET:
        return lambda row: set(values).isdisjoint(read(row, key[1])) == (how == "not_in")

    ranks = {row["id"]: row["rank"] for row in known.severities}

    def rank(text: str) -> Any:
        return _date(text) if possible is _DATES else ranks[text]

    bounds = [list(zip(_COMPARED[how], map(rank, value.split("~")), strict=True)) for value in values]
    return lambda row: any(
        all(compare(rank(have), bound) for compare, bound in pair) for have in read(row, key[1]) for pair in bounds
    )


def _date(text: str) -> dt.datetime | None:
    """Read a date, which means its first moment in UTC, or a moment."""
    try:
        return dt.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=dt.UTC)
    except ValueError:
        return moment(text)

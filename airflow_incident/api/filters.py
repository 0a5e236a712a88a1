"""The filters of a list of incidents: friendly mappings in, the query's own words out. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_incident.errors import ConfigurationError, Problem

ONE_OF = ("one_of", "not_in")
WHEN = ("gte", "lte", "date_range")

OPERATORS: Mapping[str, tuple[str, ...]] = {
    "status": ONE_OF,
    "status_category": ONE_OF,
    "severity": (*ONE_OF, "gte", "lte"),
    "incident_type": ONE_OF,
    "mode": ("one_of",),
    "created_at": WHEN,
    "updated_at": WHEN,
}
"""What each filter may ask, https://docs.incident.io/api-reference/incidents-v2/list"""
OPERATORS_BY_ID: Mapping[str, tuple[str, ...]] = {"incident_role": ("one_of", "is_blank"), "custom_field": ()}
"""Filters that name a role or a custom field first; what a custom field may be asked depends on its type."""


def filter_query(filters: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """Put filters like `{"status_category": {"one_of": ["live"]}}` into the form `status_category[one_of]=live`.

    :raises ConfigurationError: naming every filter that cannot be used.
    """
    problems: list[Problem] = []
    query: dict[str, Sequence[str]] = {}
    for name, given in filters.items():
        if name in OPERATORS:
            query |= _asked(name, given, OPERATORS[name], problems)
        elif name in OPERATORS_BY_ID and isinstance(given, Mapping) and given:
            for identity, asked in given.items():
                query |= _asked(f"{name}[{identity}]", asked, OPERATORS_BY_ID[name], problems)
        elif name in OPERATORS_BY_ID:
            problems.append(Problem(_label(name), "must be a mapping like {id: {operator: values}}"))
        else:
            known = ", ".join((*OPERATORS, *OPERATORS_BY_ID))
            problems.append(Problem(_label(name), f"is unknown; there are {known}"))
    if problems:
        raise ConfigurationError(problems)
    return query


def _asked(
    place: str, given: Any, operators: Sequence[str], problems: list[Problem]
) -> Iterator[tuple[str, list[str]]]:
    """Read `{operator: values}`. A filter that says nothing would list everything, so it is refused."""
    if not isinstance(given, Mapping) or not given:
        problems.append(Problem(_label(place), "must be a mapping like {operator: values}"))
        return
    for operator, values in given.items():
        if operators and operator not in operators:
            problems.append(Problem(_label(place), f"cannot be asked {operator!r}; it knows {', '.join(operators)}"))
        elif texts := _texts(values):
            yield f"{place}[{operator}]", texts
        else:
            problems.append(Problem(_label(place), f"{operator!r} needs one or more values, each a text"))


def _texts(values: Any) -> list[str] | None:
    """Read one value or several; None if there is none or one is no text, number or flag."""
    several = [values] if isinstance(values, str) or not isinstance(values, Sequence) else values
    texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in several]
    usable = all(isinstance(value, str | int | float) for value in several) and all(texts)
    return texts if usable and texts else None


def _label(place: str) -> str:
    return f"Filter {place!r}"

"""The schema of a file of rules, by pydantic: for whoever checks one, and for no callback.

What may stand where, core/routes says.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError, create_model, model_validator

from airflow_incident.core.routes import (
    MATCHES,
    OF_THE_RUN,
    SHAPE,
    SHAPES,
    problem_at,
    read_globs,
    read_setting,
    unknown,
)
from airflow_incident.core.settings import ROUTED_TEXTS, options_in, unknown_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_incident.core.routes import Loc
    from airflow_incident.errors import Problem


def _model(name: str, keys: Iterable[str], read: Callable[[str, Any], Any]) -> Any:
    fields: dict[str, Any] = {key: (Annotated[Any, BeforeValidator(partial(read, key))], None) for key in keys}
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


_Match = _model("Match", MATCHES, read_globs)
_Set = _model("Set", (*ROUTED_TEXTS, *(option.name for option in options_in("route"))), read_setting)


def _check_rule(rule: Any) -> Any:
    if rule.match and "task_id" in rule.match.model_fields_set:
        for name in sorted(rule.set.model_fields_set.intersection(OF_THE_RUN)):
            read_setting(name, getattr(rule.set, name), task=True)
    return rule


_list: Any = list  # of what is made here, no type checker knows
_RULE: Any = create_model(
    "Rule",
    __config__=ConfigDict(extra="forbid"),
    __validators__={"_check": model_validator(mode="after")(_check_rule)},  # type: ignore[dict-item]  # as pydantic has it
    match=(_Match | None, None),
    set=(_Set, ...),
)
_FILE: Any = TypeAdapter(_list[_RULE])


def schema_problems(document: Any, lines: Mapping[Loc, int]) -> list[Problem]:
    """Say what is wrong with a file of rules, each with its line, its rule and its key."""
    try:
        _FILE.validate_python([] if document is None else document)
    except ValidationError as error:
        return [problem_at(each["loc"], _what(each), lines) for each in error.errors()]
    return []


def _what(error: Mapping[str, Any]) -> str:
    """Say it as a callback's log does."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    _, *keys = error["loc"] or [0]
    match keys:
        case ["set", name]:
            return unknown_settings([str(name)], "route")[0].what
        case ["match", key]:
            return unknown(key, MATCHES)
        case [str(key)] if key in SHAPES:
            return SHAPES[key]
        case [key]:
            return unknown(key, tuple(SHAPES))
    return SHAPE if error["loc"] else "must be a list of rules"

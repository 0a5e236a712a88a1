"""Arguments of callbacks and operators, checked when a DAG file is parsed: by name, choice and type. No I/O enters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from numbers import Number
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_incident.constants import CHOICES, DEFAULT_CONN_ID, NEVER_WEAKER, PERSON_KINDS, VALUE_KINDS
from airflow_incident.core.reading import read_choice, read_mapping, read_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from types import ModuleType

    from airflow_incident.errors import Problem


def kinds_of(function: Any) -> dict[str, str]:
    """Return the arguments that an entry point takes by name, with their types as its signature writes them."""
    names = getattr(function, "__wrapped__", function).__kwdefaults__  # Airflow wraps what an operator's class has
    return {name: function.__annotations__[name] for name in names}


def usable(
    entry_point: str, arguments: Mapping[str, Any], kinds: Mapping[str, str], *, templates: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, Problem]]:
    """Read the arguments of an entry point as a DAG file holds them; name what cannot be used, which is left out.

    :param entry_point: What its author has called.
    :param kinds: What it takes, and of which types.
    :param templates: Arguments that may be known only when they are rendered.
    """
    kept: dict[str, Any] = {}
    problems: dict[str, Problem] = {}
    for name, value in arguments.items():
        try:
            if name not in kinds:
                problems[name] = _wrong_arguments().unknown(entry_point, name, kinds)
            elif name in templates and _is_rendered_later(value):
                kept[name] = value
            else:
                kept[name] = _read_argument(name, kinds[name], value)
        except Exception as error:  # noqa: BLE001 -- a mapping may raise anything, and a failure must not be lost for it
            what = str(error) if isinstance(error, ValueError) else f"cannot be read ({type(error).__name__})"
            problems[name] = _wrong_arguments().unusable(entry_point, name, value, what)
            if name in NEVER_WEAKER:
                kept[name] = NEVER_WEAKER[name]
            elif name in _ENTRIES:
                kept[name] = _right_entries(name, value) or None
    return kept, problems


def _wrong_arguments() -> ModuleType:
    from airflow_incident.core import wrong_arguments  # only where something is wrong

    return wrong_arguments


_PLAIN = (Number, Sequence, set, frozenset, Mapping)


def _is_rendered_later(value: Any) -> bool:
    """Tell templates, and what stands for another task's result, from plain values; one inside makes all of it late."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(map(_is_rendered_later, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_is_rendered_later, value))
    return value is not None and not isinstance(value, _PLAIN)


def _read_argument(name: str, kind: str, value: Any) -> Any:
    """Read one argument.

    :raises ValueError: saying what is expected instead.
    """
    kind, _, may_be_none = kind.partition(" | ")
    if value is None and may_be_none:
        return None
    if name == "conn_id" and not (isinstance(value, str) and value.strip()):
        raise ValueError(f"must be the ID of a connection, like {DEFAULT_CONN_ID!r}")
    if kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"must be True or False, not {type(value).__name__}")
        return value
    if kind == "Mapping[str, Any]":
        return _read_entries(name, value)
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {type(value).__name__}")  # noqa: TRY004 -- one kind of error for all
    chosen = "mode" if name == "incident_mode" else name
    return read_choice(chosen, value) if chosen in CHOICES and (value.strip() or not may_be_none) else read_text(value)


_ENTRIES = MappingProxyType(
    {
        "custom_fields": (
            '{"Affected team": "Product"}',
            f"needs a text, a number, {{kind: value}} with one of {', '.join(VALUE_KINDS)}, or a list of these",
        ),
        "roles": (
            '{"Incident Lead": "bob@example.com"}',
            "needs a person: an email address, a Slack ID or an ID",
        ),
    }
)
"""By argument: an example, and what to say of a value that cannot be used."""


def _read_entries(name: str, value: Any) -> Mapping[str, Any] | None:
    """Read a mapping of names, or the JSON of one."""
    if value == "":
        return None
    example, needs = _ENTRIES[name]
    try:
        entries = read_mapping(value)
    except (ValueError, RecursionError):
        raise ValueError(f"must be a dict, like {example}, not {type(value).__name__}") from None
    for entry, given in entries.items():
        if not isinstance(entry, str):
            raise ValueError(f"{entry!r} is no name or ID, which must be strings, like {example}")  # noqa: TRY004 -- as above
        if not _is_right(name, given):
            raise ValueError(f"{entry!r} {needs}")
    return entries


def _is_right(name: str, given: Any) -> bool:
    """Return whether a custom field's value, or a role's person, can be used."""
    if name == "roles":
        is_told = isinstance(given, Mapping) and given and all(kind in PERSON_KINDS for kind in given)
        return bool(is_told or (isinstance(given, str) and given.strip()))
    several = given if isinstance(given, Sequence) and not isinstance(given, str | bytes) else [given]
    return all(
        each.keys() <= set(VALUE_KINDS) if isinstance(each, Mapping) else isinstance(each, str | Number)
        for each in several
    )


def _right_entries(name: str, value: Any) -> dict[str, Any]:
    """Return the entries of a mapping that can be used, whatever is wrong with the others."""
    try:
        return {
            entry: given for entry, given in dict(value).items() if isinstance(entry, str) and _is_right(name, given)
        }
    except Exception:  # noqa: BLE001 -- it may be anything
        return {}


@contextmanager
def checked(operator: Any, entry_point: Any, given: Mapping[str, Any]) -> Iterator[list[Problem]]:
    """Check what an operator was called with, around Airflow's own look at the rest; the block may add problems.

    :param entry_point: The class that takes these arguments, which the operator may extend.
    :param given: What its constructor has, the rest under `kwargs`.
    :raises ConfigurationError: naming everything that cannot be used.
    """
    name, kinds = type(operator).__name__, kinds_of(entry_point.__init__)
    arguments = {argument: given[argument] for argument in kinds}
    _, wrong = usable(name, arguments, kinds, templates=operator.template_fields)
    problems = list(wrong.values())
    try:
        yield problems
    except Exception:
        classes: Iterable[Any] = type(operator).__mro__
        odd = _wrong_arguments().strangers(name, given["kwargs"], kinds, (each.__init__ for each in classes))
        if not odd:
            raise
        problems += odd
    if problems:
        raise _wrong_arguments().error(problems) from None

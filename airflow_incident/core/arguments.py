"""Arguments of callbacks and operators, checked when a DAG file is parsed: by name, choice and type. No I/O enters.

What is only needed where something is wrong is imported there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from numbers import Number
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_incident.constants import (
    CHOICES,
    CONFIG_SECTION,
    DEFAULT_CONN_ID,
    NEVER_WEAKER,
    PERSON_KINDS,
    VALUE_KINDS,
)
from airflow_incident.core.reading import LONGEST, nearest, read_choice, read_mapping, read_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from types import FrameType

    from airflow_incident.errors import ConfigurationError, Problem, WrongArgument

_BETWEEN = ("airflow_incident", "airflow", "contextlib")
"""Packages that stand between a DAG file and what is wrong in it."""
_NEAREST = 3
"""Lines of other modules that are shown."""


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
                problems[name] = _unknown(entry_point, name, list(kinds))
            elif name in templates and _is_rendered_later(value):
                kept[name] = value
            else:
                kept[name] = read_argument(name, kinds[name], value)
        except Exception as error:  # noqa: BLE001 -- a mapping may raise anything, and a failure must not be lost for it
            what = str(error) if isinstance(error, ValueError) else f"cannot be read ({type(error).__name__})"
            problems[name] = _wrong(f"{entry_point}({name}={_shown(value)})", what)
            if name in NEVER_WEAKER:
                kept[name] = NEVER_WEAKER[name]
            elif name in ENTRIES:
                kept[name] = right_entries(name, value) or None
    return kept, problems


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


def read_argument(name: str, kind: str, value: Any) -> Any:
    """Read one argument, or what a rule sets in its place.

    :param kind: Its type, as a signature writes it.
    :raises ValueError: saying what is expected instead.
    """
    kind, _, may_be_none = kind.partition(" | ")
    if value is None and may_be_none:
        return None
    if name == "conn_id" and (not isinstance(value, str) or value.isspace()):  # the empty one is the default
        raise ValueError(f"must be the ID of a connection, like {DEFAULT_CONN_ID!r}")
    if kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"must be True or False, not {type(value).__name__}")
        return value
    if kind == "Mapping[str, Any]":
        return _read_entries(name, value)
    if kind == "int":
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"must be a whole number, 0 or more, not {_shown(value)}")
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {type(value).__name__}")  # noqa: TRY004 -- one kind of error for all
    chosen = "mode" if name == "incident_mode" else name
    return read_choice(chosen, value) if chosen in CHOICES and (value.strip() or not may_be_none) else read_text(value)


ENTRIES = MappingProxyType(
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
    example, needs = ENTRIES[name]
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


def right_entries(name: str, value: Any) -> dict[str, Any]:
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
        odd = strangers(name, given["kwargs"], kinds, (each.__init__ for each in classes))
        if not odd:
            raise
        problems += odd
    if problems:
        raise located_error(problems) from None


def unnamed(entry_point: str, value: Any) -> WrongArgument:
    """Say that an argument has no name."""
    how = f": {entry_point}(**…)" if isinstance(value, Mapping) else ", like severity=…"
    return _wrong(f"{entry_point}({_shown(value)})", f"takes its arguments by name{how}")


def strangers(
    entry_point: str, given: Mapping[str, Any], known: Iterable[str], takers: Iterable[Any]
) -> list[WrongArgument]:
    """Say which arguments none of the classes behind an entry point takes.

    :param known: Its own arguments, which may have been meant.
    """
    from inspect import signature

    taken = {name for taker in takers for name in signature(taker).parameters}
    odd = [name for name in given if name not in taken and not name.startswith("_")]
    return [_unknown(entry_point, name, list(known), list(taken - {"self", "args", "kwargs"})) for name in odd]


def located_error(problems: Iterable[Problem]) -> ConfigurationError:
    """Make an error that shows, as a traceback does, where in the DAG file it is wrong.

    It names the DAG file's line, and where that has left the call to other modules, the nearest ones of these. Airflow
    shows the last two lines of a traceback, which are inside this package.
    """
    from airflow_incident.errors import ConfigurationError

    places = []
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 -- its public name, inspect.currentframe, is the same function
    while frame and (package := str(frame.f_globals.get("__name__")).partition(".")[0]) != "importlib":
        if package not in _BETWEEN:
            places.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}')
        frame = frame.f_back
    wrong = ConfigurationError(problems)
    for place in (*places[_NEAREST:][-1:], *reversed(places[:_NEAREST])):
        wrong.add_note(place)
    return wrong


def _wrong(where: str, what: str) -> WrongArgument:
    from airflow_incident.errors import WrongArgument

    return WrongArgument(where, what)


def _unknown(entry_point: str, name: str, known: list[str], others: Sequence[str] = ()) -> WrongArgument:
    """Say that there is no such argument, and what was meant instead. Its value may be a secret.

    :param known: What the entry point takes itself.
    :param others: What those behind it take.
    """
    from airflow_incident.core.settings import OPTIONS

    near = nearest(name, known) or nearest(name, others)
    option = OPTIONS.get(name)
    if option and "argument" not in option.places:
        places = {"route": "a rule of routes_file", "connection": "the connection"}
        places["config"] = f"[{CONFIG_SECTION}] of airflow.cfg"
        what = f"is no argument; set {name!r} in {' or in '.join(places[place] for place in option.places)}"
    elif option:
        other = "resolve_incident" if name.startswith("resolve") else "open_incident"
        what = f"is no argument of this one; {other} takes {name!r}"
    elif near:
        what = f"there is no argument {name!r}; did you mean {near!r}?"
    else:
        what = f"there is no argument {name!r}; known: {', '.join(known)}"
    return _wrong(f"{entry_point}({name}=…)", what)


def _shown(value: Any) -> str:
    """Show a value that is short and plain; others may hold an address that is new at each parse."""
    shown = repr(value) if isinstance(value, str | int | float | None) else "…"
    return shown if len(shown) <= LONGEST else "…"

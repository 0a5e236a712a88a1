"""What is said of an argument that cannot be used. A DAG file with callbacks that are right never imports this."""

from __future__ import annotations

import sys
from inspect import signature
from typing import TYPE_CHECKING, Any

from airflow_incident.constants import CONFIG_SECTION
from airflow_incident.core.settings import OPTIONS
from airflow_incident.errors import ConfigurationError, WrongArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import FrameType

    from airflow_incident.errors import Problem

_LONGEST = 60
"""Characters of a value that are shown with it."""
_BETWEEN = ("airflow_incident", "airflow", "contextlib")
"""Packages that stand between a DAG file and what is wrong in it."""
_NEAREST = 3
"""Lines of other modules that are shown."""


def unusable(entry_point: str, name: str, value: Any, what: str) -> WrongArgument:
    """Say that the value of an argument cannot be used."""
    return WrongArgument(f"{entry_point}({name}={_shown(value)})", what)


def unnamed(entry_point: str, value: Any) -> WrongArgument:
    """Say that an argument has no name."""
    return WrongArgument(f"{entry_point}({_shown(value)})", "takes its arguments by name, like severity=…")


def unknown(entry_point: str, name: str, known: Iterable[str], others: Iterable[str] = ()) -> WrongArgument:
    """Say that there is no such argument, and what was meant instead. Its value may be a secret.

    :param known: What the entry point takes itself.
    :param others: What those behind it take.
    """
    return WrongArgument(f"{entry_point}({name}=…)", _instead(name, list(known), list(others)))


def _instead(name: str, known: list[str], others: list[str]) -> str:
    from difflib import get_close_matches

    option = OPTIONS.get(name)
    if option and "argument" not in option.places:
        places = {"connection": "the connection", "config": f"[{CONFIG_SECTION}] of airflow.cfg"}
        return f"is no argument; set {name!r} in {' or in '.join(places[place] for place in option.places)}"
    if option:
        other = "resolve_incident" if name.startswith("resolve") else "open_incident"
        return f"is no argument of this one; {other} takes {name!r}"
    for names in (known, others):
        if near := get_close_matches(name.lower(), names, n=1):
            return f"there is no argument {name!r}; did you mean {near[0]!r}?"
    return f"there is no argument {name!r}; known: {', '.join(known)}"


def strangers(
    entry_point: str, given: Mapping[str, Any], known: Iterable[str], takers: Iterable[Any]
) -> list[WrongArgument]:
    """Say which arguments none of the classes behind an entry point takes.

    :param known: Its own arguments, which may have been meant.
    """
    taken = {name for taker in takers for name in signature(taker).parameters}
    odd = [name for name in given if name not in taken and not name.startswith("_")]
    return [unknown(entry_point, name, known, taken - {"self", "args", "kwargs"}) for name in odd]


def error(problems: Iterable[Problem]) -> ConfigurationError:
    """Make an error that shows, as a traceback does, where in the DAG file it is wrong.

    Airflow shows the last two lines of a traceback, which are inside this package.
    """
    wrong = ConfigurationError(problems)
    for place in _places():
        wrong.add_note(place)
    return wrong


def _places() -> list[str]:
    """Name the DAG file's line, and where it has left the call to other modules, the nearest ones of these."""
    places = []
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 -- its public name, inspect.currentframe, is the same function
    while frame and (package := str(frame.f_globals.get("__name__")).partition(".")[0]) != "importlib":
        if package not in _BETWEEN:
            places.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}')
        frame = frame.f_back
    return [*places[_NEAREST:][-1:], *reversed(places[:_NEAREST])]


def _shown(value: Any) -> str:
    """Show a value that is short and plain; others may hold an address that is new at each parse."""
    shown = repr(value) if isinstance(value, str | int | float | None) else "…"
    return shown if len(shown) <= _LONGEST else "…"

"""What the code says of itself, as Markdown: options, connection, airflow.cfg, commands, errors, outcomes, versions."""

import argparse
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_type_hints

from airflow_incident.airflow_bridge.stats import PREFIX
from airflow_incident.cli.main import build_parser
from airflow_incident.constants import CONFIG_SECTION, DEFAULT_CONN_ID
from airflow_incident.core import settings
from airflow_incident.core.account import DEFAULT_BASE_URL
from airflow_incident.core.settings import EVERYWHERE, OPTIONS, Option, options_in
from airflow_incident.delivery.outcome import OUTCOMES
from airflow_incident.errors import APIError, ConfigurationError, IncidentIoError, UnexpectedResponseError
from airflow_incident.provider import get_provider_info
from tools.versions import FEATURES, SHORT, VERSIONS

_STATUSES = (401, 403, 404, 409, 422, 429, 500)
_KINDS = {bool: "true or false", int: "a whole number", dict: "a JSON object", tuple: "globs, with commas between"}


def options() -> str:
    """Show where each option may be set, and what it is for, in one table."""
    rows = (
        [f"[`{o.name}`](#{o.name})", _places(o), _default(o).strip("`"), f"{o.help.partition('. ')[0].rstrip('.')}."]
        for o in OPTIONS.values()
    )
    return _table(["option", "set in", "default", "what it does"], rows)


def options_one_by_one() -> str:
    """Give each option a heading, and under it the words by which it is set in each place."""
    return "\n".join(map(_section, OPTIONS.values()))


def connection() -> str:
    """List the fields of the connection's form, by their labels."""
    form = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
    host = DEFAULT_BASE_URL.removeprefix("https://")
    own = {
        "password": "Key of incident.io's API; its roles say what it may do.",
        "host": f"Where the API is. Default: `{host}`, by https. Plain http goes to this machine only.",
    }
    rows = [[f"*{form['relabeling'][field]}*, `{field}`", told] for field, told in own.items()]
    rows += ([f"*{o.label}*, `{o.name}`", _help(o)] for o in options_in("connection"))
    return _table(["field", "what it does"], rows)


def configuration() -> str:
    """Write the section of airflow.cfg with every option, turned off by a comment sign."""
    lines = [f"[{CONFIG_SECTION}]"]
    for option in options_in("config"):
        told = textwrap.wrap(_help(option).replace("`", ""), 90, initial_indent="# ", subsequent_indent="# ")
        lines += ["", *told, f"# {option.name} = {'' if option.default is None else str(option.default).lower()}"]
    return "```ini\n" + "\n".join(lines) + "\n```\n"


def commands() -> str:
    """Describe every command with its arguments."""
    return "\n".join(_command(parser) for parser in _commands(build_parser()))


def errors() -> str:
    """List the errors, each below its kind: when it comes, whether Airflow tries the task again, what to do."""
    rows = (
        [
            f"`{error.__name__}`",
            f"{_first_sentence(error)}.",
            "yes" if example.retryable else "once fixed" if example.blames_connection else "no",
            example.advice.replace("<", "&lt;"),
        ]
        for error in _below(IncidentIoError)
        for example in [_example(error)]
    )
    return _table(["error", "when", "tried again", "what to do"], rows)


def outcomes() -> str:
    """List what is counted."""
    return _table(["metric", "counts"], ([f"`{PREFIX}{name}`", told] for name, told in OUTCOMES.items()))


def versions() -> str:
    """Show what works on which Airflow, and where that was tested."""
    tested = ["tested with", *(f"{v.airflow}, Python {v.python}" for v in VERSIONS.values())]
    table = _table(["Airflow", *VERSIONS], [tested, *_works()])
    told = "On 3.0 without its FAB provider the form has no field of ours: use `extra`."
    return f"{table}\n{told}\n"


def versions_in_short() -> str:
    """Show what most people want to know of the versions, in a table that fits into the README."""
    return _table(["Airflow", *VERSIONS], _works()[:SHORT])


PARTS: dict[str, Callable[[], str]] = {
    "options": options,
    "options one by one": options_one_by_one,
    "connection": connection,
    "airflow.cfg": configuration,
    "commands": commands,
    "errors": errors,
    "outcomes": outcomes,
    "versions": versions,
    "versions in short": versions_in_short,
}
"""What a page may ask for, by the words between `<!--` and `-->`."""


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _works() -> list[list[str]]:
    return [[feature, *(lacks.get(name, "✓") for name in VERSIONS)] for feature, lacks in FEATURES.items()]


def _places(option: Option) -> str:
    words = {"argument": "argument", "route": "rule", "connection": "connection", "config": "airflow.cfg"}
    return "everywhere" if option.places == EVERYWHERE else ", ".join(words[place] for place in option.places)


def _default(option: Option) -> str:
    return "" if option.default is None else f"`{str(option.default).lower()}`"


def _help(option: Option) -> str:
    choices = ", ".join(f"`{choice}`" for choice in option.choices)
    return f"{option.help} One of: {choices}." if choices else option.help


def _kind(option: Option) -> str:
    if option.choices:
        return "one of " + ", ".join(f"`{choice}`" for choice in option.choices)
    hint = get_type_hints(settings.Settings)[option.name]
    return next((words for kind, words in _KINDS.items() if kind.__name__ in str(hint)), "text")


def _section(option: Option) -> str:
    places = {
        "argument": f"argument `{option.name}`",
        "route": f"`{option.name}` in a [rule](../how-to/routes.md)",
        "connection": f"*{option.label}* in the connection",
        "config": f"`{option.name}` in airflow.cfg, or `AIRFLOW__{CONFIG_SECTION.upper()}__{option.name.upper()}`",
    }
    default = _default(option) or "none"
    facts = [
        f"- value: {_kind(option)}",
        f"- default: {default}",
        *(f"- {places[place]}" for place in option.places),
    ]
    return f"### `{option.name}`\n\n{option.help}\n\n" + "\n".join(facts) + "\n"


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _commands(child)


def _command(parser: argparse.ArgumentParser) -> str:
    rows = [[_spelled(a), _told(a)] for a in parser._actions if a.help != argparse.SUPPRESS and a.dest != "help"]
    table = _table(["argument", "what it does"], rows) if rows else ""
    return f"## `{parser.prog}`\n\n{parser.description}\n\n{table}"


def _spelled(action: argparse.Action) -> str:
    choices = "{" + ",".join(action.choices) + "}" if action.choices else ""
    value = action.metavar or choices or action.dest.upper()
    if action.nargs in {"*", "+"}:
        value = f"{value} …"
    if not action.option_strings:
        return f"`{value}`"
    takes_value = action.nargs != 0
    return ", ".join(f"`{name} {value}`" if takes_value else f"`{name}`" for name in action.option_strings)


def _told(action: argparse.Action) -> str:
    return (action.help or "") % vars(action)


def _below(error: type[IncidentIoError]) -> Iterator[type[IncidentIoError]]:
    for child in error.__subclasses__():
        yield child
        yield from _below(child)


def _example(error: Any) -> IncidentIoError:
    if issubclass(error, UnexpectedResponseError):
        return error(200, "")
    if issubclass(error, APIError):
        return error(next((status for status in _STATUSES if APIError.for_status(status) is error), 400))
    return error([], conn_id=DEFAULT_CONN_ID) if issubclass(error, ConfigurationError) else error("")


def _first_sentence(error: type[IncidentIoError]) -> str:
    return (error.__doc__ or "").partition("\n")[0].rstrip(".")

"""Rules that set options by what failed: read, and matched, the first setter first. No file and no YAML enters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.constants import NEVER_WEAKER
from airflow_incident.core.arguments import ENTRIES, read_argument, right_entries
from airflow_incident.core.reading import nearest
from airflow_incident.core.settings import OPTIONS, ROUTED_TEXTS, read_value, unknown_settings
from airflow_incident.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from airflow_incident.core.failure import Failure

    Loc = tuple[str | int, ...]
    Matcher = Callable[[str], object]

MATCHES = ("dag_id", "tags", "owners", "task_id", "run_type")
"""What a rule may look at."""
OF_THE_RUN = ("channel", "conn_id", "deployment", "scope")
"""What a rule that looks at the task may not set: the DAG's own callback knows no task, and would open another one."""
_KINDS = {"enabled": "bool", "log_lines": "int", "custom_fields": "Mapping[str, Any]", "roles": "Mapping[str, Any]"}
"""The options that are no text, with their types as a signature writes them."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Rule(NamedTuple):
    """One rule, the `number`th of its file: what must be so, and the options that it sets then."""

    number: int
    line: int
    match: Mapping[str, Matcher]
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"rule {self.number}, line {self.line}"

    def holds(self, facts: Mapping[str, Collection[str]]) -> bool:
        """Return whether each thing it looks at has a value that it names."""
        return all(any(map(names, facts[key])) for key, names in self.match.items())


class Routed(NamedTuple):
    """What the rules set for one failure, which rule has set what, and what is wrong with their file."""

    options: Mapping[str, Any] = _NOTHING
    rules: Mapping[str, Rule] = _NOTHING
    file: str = ""
    problems: Sequence[Problem] = ()

    def origin(self, name: str) -> str:
        """Say which rule has set an option."""
        return f"{self.rules[name]} of {self.file}"

    @property
    def warning(self) -> str:
        """Say in one sentence what is wrong with the file; empty if nothing is."""
        more = f" (and {len(self.problems) - 1} more)" if self.problems[1:] else ""
        told = f"{self.file}, {self.problems[0]}; left out{more}" if self.problems else ""
        return told and f"{told}. All of it: airflow-incident routes check"


def route(rules: Sequence[Rule], failure: Failure) -> Routed:
    """Set what each rule that holds sets, unless one before it has. What is not known of a failure matches nothing."""
    facts = facts_of(failure)
    options: dict[str, Any] = {}
    setters: dict[str, Rule] = {}
    for rule in rules:
        if rule.holds(facts):
            for name in rule.options.keys() - options.keys():
                options[name], setters[name] = rule.options[name], rule
    return Routed(options, setters)


_PRIVATE = {"visibility": NEVER_WEAKER["visibility"]}
ALL_PRIVATE = Rule(1, 1, {}, _PRIVATE)
"""What becomes of rules that nobody can read, if they may have meant to make an incident private."""


def facts_of(failure: Failure) -> dict[str, Collection[str]]:
    """Return what rules look at, by its name in a rule."""
    return {
        "dag_id": (failure.dag_id,),
        "tags": failure.tags,
        "owners": failure.owners,
        "task_id": (failure.task_id,) if failure.task_id else (),
        "run_type": (failure.run_type,) if failure.run_type else (),
    }


def read_rules(
    document: Any, lines: Mapping[Loc, int], spoiled: Collection[int] = ()
) -> tuple[list[Rule], list[Problem]]:
    """Read the rules that a file holds, and say what is wrong with it, which costs only itself.

    :param lines: Where in the file things are, by the indexes and keys that lead to them.
    :param spoiled: Rules, by index, of which it is unclear what they look at.
    """
    if document is None:
        return [], []
    if not isinstance(document, list):
        careful = [ALL_PRIVATE] if speaks_of_private(document) else []
        return careful, [problem_at((), "must be a list of rules", lines)]
    rules, problems = [], []
    for index, given in enumerate(document):
        match, options, wrong = _read_rule(given, spoiled=index in spoiled)
        rules.append(Rule(index + 1, lines.get((index,), 0), match, options))
        problems += [problem_at((index, *loc), what, lines) for loc, what in wrong.items()]
    return [rule for rule in rules if rule.options], problems


def _read_rule(given: Any, *, spoiled: bool) -> tuple[dict[str, Matcher], dict[str, Any], dict[Loc, str]]:
    """Read what a rule looks at and what it sets; say what is wrong, by the keys that lead to it.

    Of one that may have meant to look at more, only what shows less to fewer people is kept: it holds for more. So does
    what it may have meant to set.
    """
    if not isinstance(given, Mapping):
        return {}, _PRIVATE if speaks_of_private(given) else {}, {(): SHAPE}
    match: dict[str, Matcher] = {}
    options: dict[str, Any] = {}
    wrong: dict[Loc, str] = {(str(key),): unknown(key, ("match", "set")) for key in given.keys() - {"match", "set"}}
    for key, value in _part(given, "match", wrong).items():
        try:
            match[key] = read_globs(key, value)
        except ValueError as error:
            wrong["match", str(key)] = str(error)
    is_unclear = spoiled or bool(wrong)
    for name, value in _part(given, "set", wrong).items():
        try:
            options[name] = read_setting(name, value, task="task_id" in match)
        except ValueError as error:
            wrong["set", str(name)] = str(error)
            instead = NEVER_WEAKER.get(name) or (right_entries(name, value) if name in ENTRIES else None)
            options |= {name: instead} if instead else {}
    if is_unclear:
        options = {name: value for name, value in options.items() if NEVER_WEAKER.get(name) == value}
    if wrong and speaks_of_private([value for key, value in given.items() if key != "match"]):
        options |= _PRIVATE
    return match, options, wrong


def speaks_of_private(given: Any) -> bool:
    """Return whether what cannot be used may have meant to make an incident private."""
    return "private" in str(given).lower()


def _part(given: Mapping[Any, Any], key: str, wrong: dict[Loc, str]) -> Mapping[Any, Any]:
    part = given.get(key)
    if isinstance(part, Mapping):
        return part
    if key == "set" or part is not None:  # a rule that looks at nothing holds for all
        wrong[key,] = SHAPES[key]
    return {}


SHAPE = "must be a rule, with the keys match and set"
SHAPES = {
    "match": f"must say what to look at: {', '.join(MATCHES)}",
    "set": "must say what to set: options with values",
}


def read_globs(key: Any, value: Any) -> Matcher:
    """Read what one thing that a rule looks at may be: a glob, or several.

    :raises ValueError: saying what is expected instead.
    """
    if key not in MATCHES:
        raise ValueError(unknown(key, MATCHES))
    globs = value if isinstance(value, list) else [value]
    if not globs or not all(isinstance(glob, str) and glob for glob in globs):
        raise ValueError("must be a text or a list of texts; a number, a date, yes and no need quotes")
    names = frozenset(globs)
    patterns = "|".join(translate(glob) for glob in globs if any(sign in glob for sign in "*?["))
    found = re.compile(patterns).match if patterns else names.__contains__
    return lambda text: text in names or found(text)


def read_setting(name: Any, value: Any, *, task: bool = False) -> Any:
    """Read one value that a rule sets.

    :param task: Whether the rule looks at the task.
    :raises ValueError: saying what is expected instead.
    """
    if odd := unknown_settings([str(name)], "route"):
        raise ValueError(odd[0].what)
    if task and name in OF_THE_RUN:
        raise ValueError(
            f"{name} cannot depend on task_id: the DAG's own callback knows no task, and would open another one"
        )
    if value is None or value == "":
        raise ValueError("is empty, and sets nothing")
    try:
        given = read_argument(name, _KINDS.get(name, "str"), value)
        return given if name in ROUTED_TEXTS else read_value(OPTIONS[name], given)
    except ValueError:
        raise
    except Exception as error:  # noqa: BLE001 -- a mapping may be nested without end
        raise ValueError(f"cannot be read ({type(error).__name__})") from None


def unknown(key: Any, known: Sequence[str]) -> str:
    """Say that a key means nothing, with the one that was probably meant."""
    near = nearest(str(key), known)
    return f"is unknown; did you mean {near}?" if near else f"is unknown; known: {', '.join(known)}"


def problem_at(loc: Loc, what: str, lines: Mapping[Loc, int]) -> Problem:
    """Say what is wrong at the end of these indexes and keys: in which line, of which rule, under which key."""
    known = next((lines[loc[:end]] for end in range(len(loc), -1, -1) if loc[:end] in lines), 1)
    rule = [f"rule {int(loc[0]) + 1}"] if loc else []
    key = [".".join(map(str, loc[1:]))] if loc[1:] else []
    return Problem(", ".join([f"line {known}", *rule, *key]), what, str(loc[-1]) if loc else "", "route")


class Routes(NamedTuple):
    """A file's rules, and what is wrong with it."""

    file: str = ""
    rules: Sequence[Rule] = ()
    problems: Sequence[Problem] = ()

    def apply(self, failure: Failure) -> Routed:
        """Say what the rules set for a failure."""
        return route(self.rules, failure)._replace(file=self.file, problems=self.problems)

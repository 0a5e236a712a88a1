"""The one table of options, and the one merge of where they may be set.

Precedence: argument > route > connection > [incident_io] in airflow.cfg > default. What a DAG's tags say becomes
arguments.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_incident.constants import CHOICES, CONFIG_SECTION, NEVER_WEAKER, TAG, Scope
from airflow_incident.core.reading import nearest, read_choice, read_mapping, read_text
from airflow_incident.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

Place = Literal["argument", "route", "connection", "config"]
EVERYWHERE: tuple[Place, ...] = ("argument", "route", "connection", "config")
_PLACES: dict[str, str] = {
    "argument": "as an argument in the DAG file",
    "route": "in a rule of routes_file",
    "connection": "in the connection",
    "config": f"under [{CONFIG_SECTION}] in airflow.cfg",
}

ROUTED_TEXTS = ("name", "summary", "conn_id")
"""What a rule may set besides options: arguments that have no other place."""

_UNSET: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option as people meet it: in an argument, a form field, a line of airflow.cfg, the reference.

    `places` names the nearest place first; `drafted` says that the option is part of what an incident looks like;
    `since` is the version that brought it.
    """

    name: str = ""
    label: str
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()
    places: tuple[Place, ...] = EVERYWHERE
    secret: bool = False
    drafted: bool = False
    parse: Callable[[Any], Any] = read_text
    since: str = "0.1.0"


def _flag(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in {"true", "t", "1", "yes", "on", "false", "f", "0", "no", "off"}:
        raise ValueError("must be true or false")
    return text in {"true", "t", "1", "yes", "on"}


def _globs(value: Any) -> tuple[str, ...]:
    return tuple(glob for part in str(value).split(",") if (glob := part.strip()))


def _count(value: Any) -> int:
    text = str(value).strip()
    if not text.isdecimal():
        raise ValueError("must be a whole number, 0 or more")
    return int(text)


def _option(**about: Any) -> Any:
    option = Option(**about)
    return field(default=option.default, repr=not option.secret, metadata={"option": option})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every option with its merged value."""

    enabled: bool = _option(
        default=True,
        label="Enabled",
        places=("route", "config"),
        parse=_flag,
        help="Whether incidents are opened at all. False turns every failure into one info line.",
    )
    deployment: str | None = _option(
        label="Deployment",
        help="Name of this Airflow installation, part of every idempotency key. Default: the public address of "
        "[api] base_url ([webserver] base_url before Airflow 3).",
    )
    scope: Scope = _option(
        default="run",
        label="Scope",
        places=("argument", "route", "config"),
        help="What one incident stands for: a DAG as long as its incident is open, a run, a task of a run, or a mapped "
        "task instance. Backfill runs count as `dag`, instead of `run`.",
    )
    channel: str = _option(
        default="incident",
        label="Channel",
        places=("argument", "route"),
        help="What a failure becomes: an incident at once, or an alert, which pages people by incident.io's alert "
        "routes and may open an incident there.",
    )
    severity: str | None = _option(label="Severity", drafted=True, help="Name or ID of the severity of new incidents.")
    incident_type: str | None = _option(
        label="Incident type", drafted=True, help="Name or ID of the type of new incidents."
    )
    mode: str | None = _option(
        label="Mode",
        drafted=True,
        help="Whether new incidents are real or a test. Default: incident.io's own, real.",
    )
    visibility: str = _option(
        default="public",
        label="Visibility",
        drafted=True,
        help="Who may see new incidents: everyone in the workspace, or invited people only.",
    )
    status: str | None = _option(
        label="Status",
        drafted=True,
        places=("argument", "route"),
        help="Name or ID of the status that the incident opens in. Default: triage.",
    )
    custom_fields: dict[str, Any] | None = _option(
        label="Custom fields",
        drafted=True,
        parse=read_mapping,
        help='JSON: name or ID of a custom field to its value or list of values, like {"Affected team": "Product"}: an '
        "option's name, a catalog entry's external ID or alias, a text, a link, a number.",
    )
    roles: dict[str, Any] | None = _option(
        label="Roles",
        drafted=True,
        parse=read_mapping,
        help="JSON: name or ID of an incident role to a person, by email address, Slack ID or incident.io ID, like "
        '{"Incident Lead": "bob@example.com"}.',
    )
    slack_team_id: str | None = _option(
        label="Slack team ID", drafted=True, help="Slack workspace to use; needed with Enterprise Grid only."
    )
    alert_source_id: str | None = _option(
        label="Alert source ID",
        places=("connection", "config"),
        help="ID of the HTTP alert source that alerts go to; it stands in the source's URL. For channel `alert`.",
    )
    alert_source_token: str | None = _option(
        label="Alert source token",
        places=("connection",),
        secret=True,
        help="The alert source's own token, which is not the API key. For channel `alert`.",
    )
    runbook: str | None = _option(
        since="0.2.0",
        label="Runbook",
        help="URL of the page that says what to do, or a template of one, like "
        "https://wiki.example.com/{{ dag.dag_id }}. Default: a link named so in the DAG's documentation.",
    )
    log_lines: int = _option(
        since="0.2.0",
        default=0,
        label="Log lines",
        places=("argument", "route", "config"),
        parse=_count,
        help="How many of the last lines of the failed task's own log the incident shows, if that host has it. "
        "0 shows none: a log may hold what not everybody may see.",
    )
    refail: str = _option(
        since="0.2.0",
        default="join",
        label="Refail",
        places=("argument", "route", "config"),
        help="What a run does that was cleared and fails again: join the incident of its earlier attempt, as long as "
        "that is open; or open a new one each time.",
    )
    resolve: str = _option(
        default="if_unclaimed",
        label="Resolve",
        places=("argument", "route", "config"),
        help="What a recovery may close: only what no person has claimed (left triage, or a lead assigned), the others "
        "get a link to the run; or every incident that Airflow has opened.",
    )
    resolved_status: str | None = _option(
        label="Resolved status",
        help="Name or ID of the status that a recovery moves an incident to. Default: the first closed status.",
    )
    exception_detail: str = _option(
        default="message",
        label="Exception detail",
        places=("argument", "route", "config"),
        help="How much of a task's exception the summary holds: its type, also its message (first 500 "
        "characters), or the traceback. Known secrets are redacted in each.",
    )
    journal: bool = _option(
        default=True,
        label="Journal",
        places=("config",),
        parse=_flag,
        help="Whether failures are written down in Airflow's Variables before they are sent, so that none is lost.",
    )
    auto_open: bool = _option(
        default=False,
        label="Auto open",
        places=("config",),
        parse=_flag,
        help="Whether every DAG that has no callback of ours opens incidents, without being edited. The watcher opens "
        "those that no callback has opened, of DAGs with callbacks of ours, too.",
    )
    auto_resolve: bool = _option(
        default=False,
        label="Auto resolve",
        places=("config",),
        parse=_flag,
        help="Whether every DAG that has no callback of ours closes incidents when it recovers, without being edited. "
        "The watcher closes those of every DAG.",
    )
    auto_include: tuple[str, ...] | None = _option(
        label="Auto include",
        places=("config",),
        parse=_globs,
        help="Globs of the DAG IDs that auto_open and auto_resolve are for, with commas between. The watcher "
        "closes incidents of every DAG all the same. Default: all.",
    )
    auto_exclude: tuple[str, ...] | None = _option(
        label="Auto exclude",
        places=("config",),
        parse=_globs,
        help="Globs of the DAG IDs that auto_open and auto_resolve leave alone, also where auto_include names them. "
        "Default: none.",
    )
    import_errors: bool = _option(
        default=False,
        since="0.2.0",
        label="Import errors",
        places=("config",),
        parse=_flag,
        help="Whether the watcher opens an incident for a DAG file that cannot be imported, and closes it when the "
        "file can be imported again.",
    )
    import_error_minutes: int = _option(
        default=5,
        since="0.2.0",
        label="Import error minutes",
        places=("config",),
        parse=_count,
        help="Minutes that a DAG file must be broken before it has an incident.",
    )
    routes_file: str | None = _option(
        since="0.2.0",
        label="Routes file",
        places=("config",),
        help="Path of a YAML file of rules, which set options by DAG, tag, owner, task and run type. One that is not "
        "absolute begins at AIRFLOW_HOME. Default: none.",
    )
    storm_limit: int = _option(
        default=20,
        label="Storm limit",
        places=("connection", "config"),
        parse=_count,
        help="Incidents that a connection may open within ten minutes; further failures are grouped under one. "
        "0 is no limit.",
    )
    storm_limit_per_dag: int = _option(
        default=5,
        label="Storm limit per DAG",
        places=("connection", "config"),
        parse=_count,
        help="The same for one DAG.",
    )
    api_version: str = _option(
        default="auto",
        label="API version",
        places=("connection", "config"),
        help="Version of incident.io's incidents API; `auto` is v1 as long as that is served, then v2.",
    )
    proxy: str | None = _option(
        label="Proxy",
        places=("connection", "config"),
        secret=True,
        help="URL of an HTTP proxy on the way to incident.io. Default: what HTTPS_PROXY, ALL_PROXY and NO_PROXY of the "
        "environment say.",
    )
    ca_bundle: str | None = _option(
        label="CA bundle",
        places=("connection", "config"),
        help="Path of a PEM file with the certificate authorities to trust. Default: what SSL_CERT_FILE or "
        "SSL_CERT_DIR of the environment names, else certifi's.",
    )

    def incident_fields(self) -> dict[str, Any]:
        """Return the options that say what an incident looks like."""
        return {name: getattr(self, name) for name, option in OPTIONS.items() if option.drafted}


OPTIONS: dict[str, Option] = {
    each.name: replace(each.metadata["option"], name=each.name, choices=CHOICES.get(each.name, ()))
    for each in fields(Settings)
}


def options_in(place: Place) -> Iterator[Option]:
    """Yield the options that may be set in a place."""
    return (option for option in OPTIONS.values() if place in option.places)


def merge(
    *,
    arguments: Mapping[str, Any] = _UNSET,
    routes: Mapping[str, Any] = _UNSET,
    connection: Mapping[str, Any] = _UNSET,
    config: Mapping[str, Any] = _UNSET,
) -> tuple[Settings, list[Problem], dict[str, Place]]:
    """Merge what is set where; also return every value that cannot be used, and where each option's value is from.

    None and the empty string mean "not set here", and so does what cannot be used. But what was to be seen by fewer
    people, or to be a test, must not become more by a slip: then no other place is asked.
    """
    sources: dict[Place, Mapping[str, Any]] = {
        "argument": arguments,
        "route": routes,
        "connection": connection,
        "config": config,
    }
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    origins: dict[str, Place] = {}
    for option in OPTIONS.values():
        for place in option.places:
            raw = sources[place].get(option.name)
            if raw is None or raw == "":
                continue
            try:
                values[option.name] = read_value(option, raw)
            except ValueError as error:
                problems.append(Problem(label_of(option, place), str(error), option.name, place))
                if option.name not in NEVER_WEAKER:
                    continue
                values[option.name] = NEVER_WEAKER[option.name]
            origins[option.name] = place
            break
    return Settings(**values), problems, origins


def unknown_settings(names: Iterable[str], place: Place) -> list[Problem]:
    """Tell what is set in a place and means nothing there, with the option that was probably meant."""
    known = [option.name for option in options_in(place)] + list(ROUTED_TEXTS if place == "route" else ())
    problems = []
    for name in names:
        if name in known:
            continue
        if name in OPTIONS:
            others = " or ".join(_PLACES[other] for other in OPTIONS[name].places)
            what = f"has no effect there; {name} is set {others}"
        else:
            near = nearest(name, known)
            what = "is unknown and has no effect" + (f"; did you mean {near}?" if near else "")
        where = {"connection": f"{name!r} in the connection's extra", "route": name}.get(place)
        where = where or f"[{CONFIG_SECTION}] {name}"
        problems.append(Problem(where, what, name, place))
    return problems


def read_value(option: Option, raw: Any) -> Any:
    """Read one value as a form, airflow.cfg or a DAG file holds it.

    :raises ValueError: saying what is expected instead.
    """
    try:
        value = option.parse(raw)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON ({error})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode().strip()  # a lone surrogate cannot travel as JSON
    return read_choice(option.name, value) if option.choices else value


def label_of(option: Option, place: Place) -> str:
    """Name the place as the person who set it knows it."""
    if place == "connection":
        return option.label
    if place == "config":
        return f"{option.label} ([{CONFIG_SECTION}] {option.name} in airflow.cfg)"
    return f"{option.label} (argument {option.name})"


def why_left_out(dag_id: str, settings: Settings) -> str:
    """Say which option keeps zero touch from a DAG; empty if it is included and not excluded."""
    if not matches(dag_id, settings.auto_include or ("*",)):
        return "auto_include does not name it"
    return "auto_exclude names it" if matches(dag_id, settings.auto_exclude or ()) else ""


def matches(dag_id: str, globs: Iterable[str]) -> bool:
    """Return whether one of the globs names a DAG; case counts."""
    return any(fnmatchcase(dag_id, glob) for glob in globs)


class TagOptions(NamedTuple):
    """What the tags of one DAG ask for; `wrong` are those that ask for nothing known."""

    off: bool = False
    severity: str | None = None
    conn_id: str | None = None
    wrong: tuple[str, ...] = ()


def read_tags(tags: Iterable[str]) -> TagOptions:
    """Read `incident:off`, `incident:severity=…` and `incident:conn=…`; the first of its kind holds."""
    values: dict[str, str] = {}
    wrong = []
    ours = sorted(tag for tag in map(str, tags) if tag.startswith(TAG))
    for tag in ours:
        name, equals, value = (part.strip() for part in tag.removeprefix(TAG).partition("="))
        usable = not equals if name == "off" else name in {"severity", "conn"} and value
        if usable and name not in values:
            values[name] = value
        else:
            wrong.append(tag)
    return TagOptions("off" in values, values.get("severity"), values.get("conn"), tuple(wrong))

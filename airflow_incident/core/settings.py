"""The one table of options, and the one merge of where they may be set.

Precedence: argument > connection > [incident_io] in airflow.cfg > default.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_incident.constants import CHOICES, CONFIG_SECTION, NEVER_WEAKER, Scope
from airflow_incident.core.reading import read_choice, read_mapping, read_text
from airflow_incident.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Place = Literal["argument", "connection", "config"]
EVERYWHERE: tuple[Place, ...] = ("argument", "connection", "config")
_PLACES: dict[str, str] = {
    "argument": "as an argument in the DAG file",
    "connection": "in the connection",
    "config": f"under [{CONFIG_SECTION}] in airflow.cfg",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option as people meet it: in an argument, a form field, a line of airflow.cfg, the README's table."""

    name: str = ""
    label: str
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()
    places: tuple[Place, ...] = EVERYWHERE
    secret: bool = False
    parse: Callable[[Any], Any] = read_text


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


def _option(default: Any = None, **about: Any) -> Any:
    option = Option(default=default, **about)
    return field(default=default, repr=not option.secret, metadata={"option": option})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every option with its merged value."""

    enabled: bool = _option(
        True,  # noqa: FBT003 -- the option's default
        label="Enabled",
        places=("config",),
        parse=_flag,
        help="Whether incidents are opened at all. False turns every failure into one info line.",
    )
    deployment: str | None = _option(
        label="Deployment",
        help="Name of this Airflow installation, part of every idempotency key. Default: the public address of "
        "[api] base_url ([webserver] base_url before Airflow 3).",
    )
    scope: Scope = _option(
        "run",
        label="Scope",
        places=("argument", "config"),
        help="What one incident stands for: a DAG as long as its incident is open, a run, a task of a run, or a mapped "
        "task instance. Backfill runs count as `dag`, instead of `run`.",
    )
    channel: str = _option(
        "incident",
        label="Channel",
        places=("argument",),
        help="What a failure becomes: an incident at once, or an alert, which pages people by incident.io's alert "
        "routes and may open an incident there.",
    )
    severity: str | None = _option(label="Severity", help="Name or ID of the severity of new incidents.")
    incident_type: str | None = _option(label="Incident type", help="Name or ID of the type of new incidents.")
    mode: str | None = _option(
        label="Mode",
        help="Whether new incidents are real or a test. Default: incident.io's own, real.",
    )
    visibility: str = _option(
        "public",
        label="Visibility",
        help="Who may see new incidents: everyone in the workspace, or invited people only.",
    )
    status: str | None = _option(
        label="Status",
        places=("argument",),
        help="Name or ID of the status that the incident opens in. Default: triage.",
    )
    custom_fields: dict[str, Any] | None = _option(
        label="Custom fields",
        parse=read_mapping,
        help='JSON: name or ID of a custom field to its value or list of values, like {"Affected team": "Product"}: an '
        "option's name, a catalog entry's external ID or alias, a text, a link, a number.",
    )
    roles: dict[str, Any] | None = _option(
        label="Roles",
        parse=read_mapping,
        help="JSON: name or ID of an incident role to a person, by email address, Slack ID or incident.io ID, like "
        '{"Incident Lead": "bob@example.com"}.',
    )
    slack_team_id: str | None = _option(
        label="Slack team ID", help="Slack workspace to use; needed with Enterprise Grid only."
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
    refail: str = _option(
        "join",
        label="Refail",
        places=("argument", "config"),
        help="What a run does that was cleared and fails again: join the incident of its earlier attempt, as long as "
        "that is open; or open a new one each time.",
    )
    resolve: str = _option(
        "if_unclaimed",
        label="Resolve",
        places=("argument", "config"),
        help="What a recovery may close: only what no person has claimed (left triage, or a lead assigned), the others "
        "get a link to the run; or every incident that Airflow has opened.",
    )
    resolved_status: str | None = _option(
        label="Resolved status",
        help="Name or ID of the status that a recovery moves an incident to. Default: the first closed status.",
    )
    exception_detail: str = _option(
        "message",
        label="Exception detail",
        places=("argument", "config"),
        help="How much of a task's exception the summary holds: its type, also its message (first 500 "
        "characters), or the traceback. Known secrets are redacted in each.",
    )
    journal: bool = _option(
        True,  # noqa: FBT003 -- the option's default
        label="Journal",
        places=("config",),
        parse=_flag,
        help="Whether failures are written down in Airflow's Variables before they are sent, so that none is lost.",
    )
    auto_open: bool = _option(
        False,  # noqa: FBT003 -- the option's default
        label="Auto open",
        places=("config",),
        parse=_flag,
        help="Whether every DAG that has no callback of ours opens incidents, without being edited.",
    )
    auto_resolve: bool = _option(
        False,  # noqa: FBT003 -- the option's default
        label="Auto resolve",
        places=("config",),
        parse=_flag,
        help="Whether every DAG that has no callback of ours closes incidents when it recovers, without being edited.",
    )
    auto_include: tuple[str, ...] | None = _option(
        label="Auto include",
        places=("config",),
        parse=_globs,
        help="Globs of the DAG IDs that auto_open and auto_resolve are for, with commas between. Default: all.",
    )
    auto_exclude: tuple[str, ...] | None = _option(
        label="Auto exclude",
        places=("config",),
        parse=_globs,
        help="Globs of the DAG IDs that auto_open and auto_resolve leave alone, also where auto_include names them. "
        "Default: none.",
    )
    storm_limit: int = _option(
        10,
        label="Storm limit",
        places=("connection", "config"),
        parse=_count,
        help="Incidents that this installation may open within ten minutes; further failures are grouped under one. "
        "0 is no limit.",
    )
    storm_limit_per_dag: int = _option(
        3,
        label="Storm limit per DAG",
        places=("connection", "config"),
        parse=_count,
        help="The same for one DAG.",
    )
    api_version: str = _option(
        "auto",
        label="API version",
        places=("connection", "config"),
        help="Version of incident.io's incidents API; `auto` is v1 as long as that is served, then v2.",
    )
    proxy: str | None = _option(
        label="Proxy",
        places=("connection", "config"),
        secret=True,
        help="URL of an HTTP proxy on the way to incident.io. Default: HTTPS_PROXY of the environment.",
    )
    ca_bundle: str | None = _option(
        label="CA bundle",
        places=("connection", "config"),
        help="Path of a PEM file with the certificate authorities to trust. Default: certifi's.",
    )

    def incident_fields(self) -> dict[str, Any]:
        """Return the options that say what an incident looks like."""
        names = (
            "severity",
            "incident_type",
            "mode",
            "visibility",
            "status",
            "custom_fields",
            "roles",
            "slack_team_id",
        )
        return {name: getattr(self, name) for name in names}


def _table() -> dict[str, Option]:
    def named(name: str, option: Option) -> Option:
        return replace(option, name=name, choices=CHOICES.get(name, ()))

    return {f.name: named(f.name, f.metadata["option"]) for f in fields(Settings)}


OPTIONS: dict[str, Option] = _table()


def options_in(place: Place) -> Iterator[Option]:
    """Yield the options that may be set in a place."""
    return (option for option in OPTIONS.values() if place in option.places)


def merge(
    *, arguments: Mapping[str, Any], connection: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[Settings, list[Problem], dict[str, Place]]:
    """Merge what is set where; also return every value that cannot be used, and where each option's value is from.

    None and the empty string mean "not set here", and so does what cannot be used. But what was to be seen by fewer
    people, or to be a test, must not become more by a slip: then no other place is asked.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    origins: dict[str, Place] = {}
    for option, place, raw in _given({"argument": arguments, "connection": connection, "config": config}):
        if option.name in origins:
            continue
        try:
            values[option.name] = read_value(option, raw)
        except ValueError as error:
            problems.append(Problem(label_of(option, place), str(error), option.name, place))
            if option.name not in NEVER_WEAKER:
                continue
            values[option.name] = NEVER_WEAKER[option.name]
        origins[option.name] = place
    return Settings(**values), problems, origins


def _given(sources: Mapping[Place, Mapping[str, Any]]) -> Iterator[tuple[Option, Place, Any]]:
    """Yield what is set for each option, the place that goes first before the others."""
    for option in OPTIONS.values():
        for place, source in sources.items():
            raw = source.get(option.name) if place in option.places else None
            if raw is not None and raw != "":
                yield option, place, raw


def unknown_settings(names: Iterable[str], place: Place) -> list[Problem]:
    """Tell what is set in a place and means nothing there, with the option that was probably meant."""
    known = [option.name for option in options_in(place)]
    return [_unknown(name, place, known) for name in names if name not in known]


def _unknown(name: str, place: Place, known: Sequence[str]) -> Problem:
    from difflib import get_close_matches  # only where something is wrong

    where = f"{name!r} in the connection's extra" if place == "connection" else f"[{CONFIG_SECTION}] {name}"
    if name in OPTIONS:
        others = " or ".join(_PLACES[other] for other in OPTIONS[name].places)
        return Problem(where, f"has no effect there; {name} is set {others}", name, place)
    near = get_close_matches(name.lower(), known, n=1)
    return Problem(where, "is unknown and has no effect" + (f"; did you mean {near[0]}?" if near else ""), name, place)


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

"""What an installation needs so that incidents open, looked at piece by piece. Opens nothing, sends no alert."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from airflow_incident.airflow_bridge.config import (
    UNNAMED,
    AirflowConfig,
    examine_config,
    read_airflow_config,
    unknown_options,
)
from airflow_incident.api.calls import CallSequence
from airflow_incident.api.client import unreadable_proxy_variables
from airflow_incident.api.closing import closing_status
from airflow_incident.api.endpoints import list_users, show_identity
from airflow_incident.api.names import incident_status_rows, lookup_ids
from airflow_incident.api.submit import is_v1_gone
from airflow_incident.cli.doctor import Finding
from airflow_incident.cli.doctor.auto_callbacks import examine_policy
from airflow_incident.cli.doctor.journal import examine_journal
from airflow_incident.constants import CONFIG_SECTION, CONN_TYPE, VERSION
from airflow_incident.core.settings import OPTIONS, merge, unknown_settings
from airflow_incident.core.timing import CLOCK_ERROR, CLOCK_WARNING, TEST_BUDGET
from airflow_incident.errors import (
    AuthenticationError,
    ConfigurationError,
    IncidentIoError,
    MissingConnectionError,
    Problem,
    TransportError,
    UnreadableConnectionError,
)
from airflow_incident.hooks import HELPFUL_ROLES, NEEDED_ROLE

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from airflow_incident.airflow_bridge.config import ConnectionConfig
    from airflow_incident.api.models import Identity
    from airflow_incident.api.payload import LookupResult
    from airflow_incident.core.settings import Place

_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"
_NAMED = ("severity", "incident_type", "custom_fields", "roles")


def examine(conn_id: str) -> Iterator[Finding]:
    """Look at this installation and at one connection, and yield what is found as it is found."""
    yield _versions()
    airflow_config = read_airflow_config()
    if not airflow_config.enabled:
        yield Finding(
            "warning",
            "enabled",
            "[incident_io] enabled is false: no failure opens an incident",
            "Set it to true, or remove it, where incidents are wanted.",
        )
    yield from _settings(unknown_options(), "airflow.cfg")
    config = yield from _connection(conn_id, airflow_config)
    yield from _deployment(config, airflow_config)
    if config is not None:
        yield from _account(config)
        yield _alert_source(config)
    yield from examine_policy(airflow_config)
    yield from examine_journal(airflow_config)


def _versions() -> Finding:
    from airflow import __version__

    told = f"airflow-incident {VERSION}, Airflow {__version__}, Python {platform.python_version()}"
    return Finding("ok", "versions", told)


def _connection(conn_id: str, airflow_config: AirflowConfig) -> Generator[Finding, None, ConnectionConfig | None]:
    """Read the connection; each field or setting that cannot be used is a finding."""
    config = examine_config(conn_id, airflow_config)
    for problem, note in zip(config.problems, config.warnings, strict=True):
        place = "connection" if problem.place == "connection" else "airflow.cfg"
        yield Finding("error", place, note, "Fix it, or remove it.")
    yield from _settings(unknown_settings(config.unknown, "connection"), "connection")
    if config.unusable:
        problems: Sequence[object] = getattr(config.unusable, "problems", (config.unusable,))
        kept = "" if config.is_absent else " Failures are kept in the journal meanwhile."
        for trouble in problems:
            yield Finding("error", "connection", f"{conn_id!r}, {trouble}", f"{_remedy(config)}{kept}")
        return None
    yield Finding("ok", "connection", f"{conn_id!r} leads to {config.account.base_url}")
    if config.conn_type != CONN_TYPE:
        told = f"{conn_id!r} is of type {config.conn_type!r}: what waits in the journal is not sent with it"
        yield Finding("warning", "connection", told, f"Set its type to {CONN_TYPE}.")
    yield from _proxies(config)
    return config


def _remedy(config: ConnectionConfig) -> str:
    """Say what makes a connection usable; to be sent to this very command would be no help."""
    if isinstance(config.unusable, MissingConnectionError | UnreadableConnectionError):
        return config.unusable.advice
    return "Fix it where it is set; a connection is, for example, under Admin > Connections in Airflow's UI."


def _settings(problems: Sequence[Problem], place: str) -> Iterator[Finding]:
    """Tell each name that means nothing where it is set."""
    for problem in problems:
        yield Finding("warning", place, f"{problem.where} {problem.what}", "Rename it, or remove it.")


def _proxies(config: ConnectionConfig) -> Iterator[Finding]:
    """Tell which of the environment's proxies cannot be read, and are left aside."""
    if why := config.client.connector.ignored_proxies:
        names = ", ".join(unreadable_proxy_variables()) or "the proxies of the environment"
        told = f"{names} cannot be read ({why}), and is left aside"
        yield Finding("warning", "proxy", told, "Fix it where Airflow runs, or set a proxy in the connection.")


def _deployment(config: ConnectionConfig | None, airflow_config: AirflowConfig) -> Iterator[Finding]:
    """Tell how the installation is called, and whether its pages can be linked."""
    name, origin = _deployment_name(config, airflow_config)
    option = airflow_config.base_url_option
    address = airflow_config.base_url
    trouble = f"{option} is {'not set' if not address else 'an address that only this machine knows'}"
    if name is None:
        told = f"this installation has no name: {trouble}"
        advice = f"Set {option}, or deployment in the connection: two without a name may share one incident."
        yield Finding("warning", "deployment", told, advice)
    else:
        where = {"connection": "from the connection", "config": "from airflow.cfg"}
        yield Finding("ok", "deployment", f"{name!r}, {where.get(origin or '', f'from {option}')}")
    if airflow_config.name is None:
        told = f"{trouble}: incidents have no links to runs and logs"
        yield Finding("warning", "base_url", told, f"Set {option} to the address at which people open Airflow.")
    else:
        yield Finding("ok", "base_url", f"incidents link to {airflow_config.name}")


def _deployment_name(config: ConnectionConfig | None, airflow_config: AirflowConfig) -> tuple[str | None, str | None]:
    if config is not None:
        return (None if config.deployment == UNNAMED else config.deployment), config.origins.get("deployment")
    settings, *_ = merge(arguments={}, connection={}, config=airflow_config.config)
    return settings.deployment or airflow_config.name, "config" if settings.deployment else None


def _account(config: ConnectionConfig) -> Iterator[Finding]:
    """Ask incident.io who the key is, and, where it answers, all that depends on it."""
    if config.for_alerts_alone:
        told = 'there is none: only channel="alert" can be used; key, names and network are not looked at'
        advice = "Put one into the connection's password, if failures are to open incidents themselves."
        yield Finding("warning", "API key", told, advice)
        return
    try:
        identity = config.client.call(show_identity(), budget=TEST_BUDGET)
    except IncidentIoError as error:
        yield _unanswered(error, config)
        yield from _clock(config)
        return
    yield Finding("ok", "API key", f"incident.io knows it as {identity.name!r}")
    yield from _roles(identity)
    yield from _clock(config)
    yield from _names(config)
    yield _api_version(config)


def _unanswered(error: IncidentIoError, config: ConnectionConfig) -> Finding:
    where = config.account.base_url
    if isinstance(error, AuthenticationError):
        return Finding("error", "API key", f"{where} does not know it: {error}", error.advice)
    if _CERTIFICATE in str(error):
        advice = (
            "If a proxy of yours signs it, put its authority into the connection's CA bundle; else the address or "
            "the server's certificate is wrong."
        )
        return Finding("error", "certificate", f"{where} cannot prove who it is: {error}", advice)
    told = f"{where} cannot be reached" if isinstance(error, TransportError) else f"{where} does not work"
    return Finding("error", "network", f"{told}: {error}", error.advice)


def _roles(identity: Identity) -> Iterator[Finding]:
    if NEEDED_ROLE in identity.roles:
        yield Finding("ok", "key roles", ", ".join(role.replace("_", " ") for role in identity.roles))
    else:
        told = "the key lacks the role 'incident creator': it cannot open incidents"
        yield Finding("error", "key roles", told, "Give it that role in incident.io under Settings > API keys.")
    for role, loss in HELPFUL_ROLES.items():
        if role not in identity.roles:
            name = role.replace("_", " ")
            told = f"the key lacks the role {name!r}: there is no {loss}"
            yield Finding("warning", "key roles", told, "Give it that role, unless you do without.")


def _clock(config: ConnectionConfig) -> Iterator[Finding]:
    """Compare this machine's clock with the API's, where it has told."""
    ahead = config.client.connector.directory.ahead
    if ahead is None:
        return
    seconds = abs(ahead)
    if seconds < CLOCK_WARNING:
        yield Finding("ok", "clock", "agrees with incident.io's")
        return
    much = f"{seconds:.0f} seconds" if seconds < 2 * 60 else f"{seconds / 60:.0f} minutes"
    told = f"this machine's clock is {much} {'slow' if ahead > 0 else 'fast'}: incidents tell wrong times"
    advice = "Set it by NTP, like: timedatectl set-ntp true"
    yield Finding("error" if seconds >= CLOCK_ERROR else "warning", "clock", told, advice)


def _names(config: ConnectionConfig) -> Iterator[Finding]:
    """Look up each name and ID that the connection or airflow.cfg sets."""
    for name in _NAMED:
        if name not in config.origins:
            continue
        value = getattr(config.settings, name)
        yield _looked_up(name, config, lambda name=name, value=value: _resolution(config, {name: value}))
    if wanted := config.settings.resolved_status:
        yield _looked_up("resolved_status", config, lambda: _status_trouble(config, wanted))


def _looked_up(name: str, config: ConnectionConfig, find: Any) -> Finding:
    """Say whether incident.io knows what an option names; `find` returns what is wrong and what is odd."""
    place = _place(name, config.origins)
    try:
        wrong, odd = find()
    except IncidentIoError as error:
        return Finding("warning", name, f"could not be looked up ({place}): {error}", error.advice)
    if wrong:
        advice = "Incidents open without it. Use a known name or ID; names are matched in any case."
        return Finding("error", name, f"{'; '.join(wrong)} ({place})", advice)
    if odd:
        return Finding("warning", name, f"{odd} ({place})", "Set visibility to private, to say so yourself.")
    value = getattr(config.settings, name)
    told = ", ".join(value) if isinstance(value, dict) else repr(value)
    return Finding("ok", name, f"{told} ({place})")


def _resolution(config: ConnectionConfig, wanted: Mapping[str, Any]) -> tuple[list[str], str]:
    plan: CallSequence[LookupResult] = CallSequence(
        lambda known: lookup_ids(wanted, known, api_version="v2", trust_ids=False)
    )
    found = config.client.call(plan, budget=TEST_BUDGET)
    for error in found.missing.values():
        raise error
    wrong = [problem.what for problem in found.problems]
    for assignment in found.fields.get("incident_role_assignments", ()):
        wrong += _nobody(config, assignment["assignee"])
    public = found.private_only and config.settings.visibility == "public"
    return wrong, "this type is for private incidents only, so incidents are private" if public else ""


def _nobody(config: ConnectionConfig, person: Mapping[str, str]) -> list[str]:
    """Tell if nobody has an email address or a Slack ID; who an ID means is not asked."""
    email, slack_user_id = person.get("email"), person.get("slack_user_id")
    if email is None and slack_user_id is None:
        return []
    found = config.client.call(list_users(email=email, slack_user_id=slack_user_id), budget=TEST_BUDGET)
    return [] if found else [f"nobody is {(email or slack_user_id)!r}"]


def _status_trouble(config: ConnectionConfig, wanted: str) -> tuple[list[str], str]:
    try:
        statuses = config.client.call(incident_status_rows(), budget=TEST_BUDGET)
        closing_status(statuses, wanted)
    except ConfigurationError as error:
        return [problem.what for problem in error.problems], ""
    return [], ""


def _place(name: str, origins: Mapping[str, Place]) -> str:
    in_config = f"[{CONFIG_SECTION}] {name} in airflow.cfg"
    return f"{OPTIONS[name].label} in the connection" if origins.get(name) == "connection" else in_config


def _api_version(config: ConnectionConfig) -> Finding:
    """Tell which version of the incidents API is spoken, and whether v1 is still served."""
    choice = config.settings.api_version
    try:
        gone = config.client.call(CallSequence(is_v1_gone), budget=TEST_BUDGET)
    except IncidentIoError as error:
        return Finding("warning", "api_version", f"it is unknown whether v1 is served: {error}", error.advice)
    if not gone:
        return Finding("ok", "api_version", f"{choice}; v1 is served")
    if choice == "v1":
        advice = "Set api_version to auto or v2 in the connection or in airflow.cfg."
        return Finding("error", "api_version", "v1, which incident.io no longer serves", advice)
    if choice == "auto":
        advice = "Nothing breaks; api_version=v2 in the connection saves the question."
        return Finding("warning", "api_version", "auto; incident.io no longer serves v1, so v2 is spoken", advice)
    return Finding("ok", "api_version", "v2; v1 is no longer served")


def _alert_source(config: ConnectionConfig) -> Finding:
    source, token = config.account.alert_source_id, config.account.alert_source_token
    if source and token:
        return Finding("ok", "alert source", f"{source!r} is set; it is not tried, for that would page somebody")
    if source or token:
        told = f"alerts cannot be sent: its {'token' if source else 'ID'} is missing"
        return Finding("warning", "alert source", told, "Fill in both fields of the connection, or neither.")
    return Finding("ok", "alert source", 'not set; only channel="alert" needs it')

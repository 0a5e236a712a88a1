"""What an installation needs so that incidents open, looked at piece by piece. Opens nothing, sends no alert."""

from __future__ import annotations

import contextlib
import platform
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from airflow_incident.airflow_bridge.config import (
    UNNAMED,
    AirflowConfig,
    examine_config,
    read_airflow_config,
    unknown_options,
)
from airflow_incident.airflow_bridge.routes import read_routes
from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.api.calls import CallSequence
from airflow_incident.api.client import unreadable_proxy_variables
from airflow_incident.api.closing import closing_status
from airflow_incident.api.endpoints import list_users, show_identity
from airflow_incident.api.names import LIST_STATUS_ROWS, lookup_ids
from airflow_incident.api.submit import is_v1_gone
from airflow_incident.cli.auto_callbacks import examine_policy
from airflow_incident.cli.route_checks import examine_connections, examine_file
from airflow_incident.cli.terminal import Finding
from airflow_incident.cli.watch import heartbeat
from airflow_incident.constants import CONFIG_SECTION, CONN_TYPE, VERSION
from airflow_incident.core.account import is_loopback
from airflow_incident.core.settings import OPTIONS, merge, unknown_settings
from airflow_incident.core.timing import CLOCK_ERROR, CLOCK_WARNING, TEST_BUDGET
from airflow_incident.delivery.outcome import FlushResult, problems
from airflow_incident.delivery.record import utc_now
from airflow_incident.delivery.run import list_records
from airflow_incident.errors import (
    AuthenticationError,
    ConfigurationError,
    IncidentIoError,
    JournalError,
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
    from airflow_incident.core.routes import Routes

_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"
_NAMED = ("severity", "incident_type", "custom_fields", "roles")
_PROBE_PREFIX = "incident_io_doctor."
"""Beginning of the name of what is written to see whether one can; it is deleted at once."""
_DATABASE_ADVICE = "Run this where Airflow's database is, migrated and writable; see 'airflow db check'."
_BACKEND_ADVICE = (
    "Keep the backend from Variables: in its backend_kwargs set variables_prefix, or what it calls that, to null."
)
_LOOK_ADVICE = "See: airflow-incident journal list"


def examine(conn_id: str) -> Iterator[Finding]:
    """Look at this installation and at one connection, and yield what is found as it is found."""
    from airflow import __version__

    told = f"airflow-incident {VERSION}, Airflow {__version__}, Python {platform.python_version()}"
    yield Finding("ok", "versions", told)
    airflow_config = read_airflow_config()
    if not airflow_config.enabled:
        told = "[incident_io] enabled is false: no failure opens an incident"
        yield Finding("warning", "enabled", told, "Set it to true, or remove it, where incidents are wanted.")
    yield from _settings(unknown_options(), "airflow.cfg")
    config = yield from _connection(conn_id, airflow_config)
    yield from _deployment(config, airflow_config)
    if config is not None:
        yield from _account(config)
        yield _alert_source(config)
    yield from examine_policy(airflow_config)
    if given := airflow_config.config.get("routes_file"):
        yield from examine_file(given)
        yield from _routed_names(read_routes(given), airflow_config)
    yield from _journal(airflow_config)


def _connection(conn_id: str, airflow_config: AirflowConfig) -> Generator[Finding, None, ConnectionConfig | None]:
    """Read the connection; each field or setting that cannot be used is a finding."""
    config = examine_config(conn_id, airflow_config)
    for problem, note in zip(config.problems, config.warnings, strict=True):
        place = "connection" if problem.place == "connection" else "airflow.cfg"
        yield Finding("error", place, note, "Fix it, or remove it.")
    yield from _settings(unknown_settings(config.unknown, "connection"), "connection")
    if config.unusable:
        # An advice to run this very command would be no help.
        has_advice = isinstance(config.unusable, MissingConnectionError | UnreadableConnectionError)
        where = "Fix it where it is set; a connection is, for example, under Admin > Connections in Airflow's UI."
        kept = "" if config.is_absent else " Failures are kept in the journal meanwhile."
        advice = (config.unusable.advice if has_advice else where) + kept
        for trouble in getattr(config.unusable, "problems", (config.unusable,)):
            yield Finding("error", "connection", f"{conn_id!r}, {trouble}", advice)
        return None
    yield Finding("ok", "connection", f"{conn_id!r} leads to {config.account.base_url}")
    if config.conn_type != CONN_TYPE:
        told = f"{conn_id!r} is of type {config.conn_type!r}: what waits in the journal is not sent with it"
        yield Finding("warning", "connection", told, f"Set its type to {CONN_TYPE}.")
    if why := config.client.connector.ignored_proxies:
        names = ", ".join(unreadable_proxy_variables()) or "the proxies of the environment"
        told = f"{names} cannot be read ({why}), and is left aside"
        yield Finding("warning", "proxy", told, "Fix it where Airflow runs, or set a proxy in the connection.")
    return config


def _settings(problems: Sequence[Problem], place: str) -> Iterator[Finding]:
    """Tell each name that means nothing where it is set."""
    for problem in problems:
        yield Finding("warning", place, f"{problem.where} {problem.what}", "Rename it, or remove it.")


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
    if airflow_config.name is not None:
        yield Finding("ok", "base_url", f"incidents link to {airflow_config.name}")
    elif address and config is not None and is_loopback(urlsplit(config.account.base_url).hostname):
        told = f"incidents link to {address}, which only this machine knows, as it does incident.io's address here"
        yield Finding("ok", "base_url", told)
    else:
        told = f"{trouble}: incidents have no links to runs and logs"
        yield Finding("warning", "base_url", told, f"Set {option} to the address at which people open Airflow.")


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
    names = [name for name in _NAMED if name in config.origins]
    if config.settings.resolved_status:
        names.append("resolved_status")
    checks = [*(partial(_looked_up, name, config) for name in names), partial(_api_version, config)]
    with ThreadPoolExecutor() as pool:  # one after the other they would take seconds
        yield from pool.map(lambda check: check(), checks)


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


def _routed_names(routes: Routes, airflow_config: AirflowConfig) -> Iterator[Finding]:
    """Tell which connections that rules name cannot be used, and which names incident.io does not know."""
    asked: set[tuple[str, ...]] = set()
    for found in examine_connections(routes, airflow_config):
        if isinstance(found, Finding):
            yield found
            continue
        for name in (*_NAMED, "resolved_status"):
            question = found.conn_id, name, str(getattr(found.settings, name))
            is_new = found.origins.get(name) == "route" and not asked & {question, (found.conn_id,)}
            if not is_new or found.for_alerts_alone or "{{" in question[-1] or "{%" in question[-1]:
                continue
            asked.add(question)
            finding = _looked_up(name, found)
            if finding.level == "warning":
                asked.add((found.conn_id,))  # it does not answer; one line says so
            if finding.level != "ok":
                yield finding


def _looked_up(name: str, config: ConnectionConfig) -> Finding:
    """Say whether incident.io knows the name or ID to which the connection, airflow.cfg or a rule sets an option."""
    origin = config.origins[name]
    place = f"[{CONFIG_SECTION}] {name} in airflow.cfg"
    if origin == "connection":
        place = f"{OPTIONS[name].label} in the connection"
    elif config.routed and origin == "route":
        place = config.routed.origin(name)
    value = getattr(config.settings, name)
    try:
        wrong, odd = _unknown_status(config, value) if name == "resolved_status" else _unknown(config, {name: value})
    except IncidentIoError as error:
        return Finding("warning", name, f"could not be looked up ({place}): {error}", error.advice)
    if wrong:
        advice = "Incidents open without it. Use a known name or ID; names are matched in any case."
        return Finding("error", name, f"{'; '.join(wrong)} ({place})", advice)
    if odd:
        return Finding("warning", name, f"{odd} ({place})", "Set visibility to private, to say so yourself.")
    told = ", ".join(value) if isinstance(value, dict) else repr(value)
    return Finding("ok", name, f"{told} ({place})")


def _unknown(config: ConnectionConfig, wanted: Mapping[str, Any]) -> tuple[list[str], str]:
    """Tell what incident.io does not know of an option's names, and what is odd about them."""
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


def _unknown_status(config: ConnectionConfig, wanted: str) -> tuple[list[str], str]:
    try:
        closing_status(config.client.call(LIST_STATUS_ROWS, budget=TEST_BUDGET), wanted)
    except ConfigurationError as error:
        return [problem.what for problem in error.problems], ""
    return [], ""


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


def _journal(airflow_config: AirflowConfig) -> Iterator[Finding]:
    """Write a Variable, read it back, delete it, and count what waits."""
    settings, *_ = merge(arguments={}, connection={}, config=airflow_config.config)
    if not settings.journal:
        told = "[incident_io] journal is false: a failure that cannot be sent at once is lost"
        yield Finding("warning", "journal", told, "Set it to true, or remove it.")
        return
    yield from _backends()
    if trouble := _journal_trouble():
        yield trouble
        return
    yield Finding("ok", "journal", "can be written, read and listed")
    yield from _waiting()
    yield heartbeat()


def _backends() -> Iterator[Finding]:
    """Tell what is asked before Airflow's database is.

    https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/index.html
    """
    from airflow_incident.airflow_bridge.compat import conf

    for section, option in (("secrets", "backend"), ("workers", "secrets_backend")):
        if backend := conf.get(section, option, fallback=""):
            told = f"[{section}] {option} is {backend}, which is asked for each record before the database"
            yield Finding("warning", "journal", told, _BACKEND_ADVICE)
    if conf.getboolean("secrets", "use_cache", fallback=False):
        yield Finding("ok", "journal", "[secrets] use_cache is on; the journal is read past that cache")


def _journal_trouble() -> Finding | None:
    """Tell what keeps a Variable from being written, read back, listed or deleted."""
    store, name = Variables(), f"{_PROBE_PREFIX}{uuid4().hex}"
    step = "written"
    try:
        store.set(name, name)
        step = "read"
        text = store.get(name)
        step = "listed"
        listed = name in store.names(_PROBE_PREFIX)
        step = "deleted"
        store.delete(name)
    except Exception as error:  # noqa: BLE001 -- a store raises whatever its backend raises
        with contextlib.suppress(Exception):
            store.delete(name)
        told = f"it cannot be {step} ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        return Finding("error", "journal", told, _DATABASE_ADVICE)
    if text != name or not listed:
        told = "what is written is not what is read: a secrets backend or another database stands between"
        return Finding("error", "journal", told, _BACKEND_ADVICE)
    return None


def _waiting() -> Iterator[Finding]:
    """Count what waits and what was refused."""
    try:
        records, unreadable = list_records()
    except JournalError as error:
        yield Finding("error", "journal", str(error).partition(chr(10))[0], _DATABASE_ADVICE)
        return
    pending, dead = ([r for r in records if r.state == state] for state in ("pending", "dead"))
    states = f"{len(pending) or 'nothing'} waiting, {len(dead) or 'nothing'} refused, {len(records)} records in all"
    concern = problems(FlushResult(pending=pending, dead=dead), utc_now())
    yield Finding("warning" if concern else "ok", "journal", states, f"{concern}. {_LOOK_ADVICE}" if concern else "")
    if unreadable:
        told = f"{len(unreadable)} of its names hold something else, which is left alone"
        yield Finding("warning", "journal", told, _LOOK_ADVICE)

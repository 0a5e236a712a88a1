"""Connection, airflow.cfg, routes and arguments as one value, merged once, and the client of its account.

No verb enters.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from airflow_incident.airflow_bridge.compat import AirflowNotFoundException, conf, redact
from airflow_incident.airflow_bridge.connections import aread_connection, read_connection
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.constants import CONFIG_SECTION, CONN_TYPE, DEFAULT_CONN_ID, NEVER_WEAKER, SWITCHES
from airflow_incident.core.account import Account, Fields, is_loopback, read_account, read_fields
from airflow_incident.core.failure import with_pages
from airflow_incident.core.settings import (
    OPTIONS,
    Place,
    Settings,
    label_of,
    merge,
    options_in,
    read_value,
    unknown_settings,
)
from airflow_incident.core.text import safe_str
from airflow_incident.core.timing import BATCH_SECONDS, BATCH_SHARE, LONGEST_REPORT, OVERTIME, RESERVE, SHORTEST_REPORT
from airflow_incident.errors import (
    ConfigurationError,
    IncidentIoError,
    MissingConnectionError,
    Problem,
    UnreadableConnectionError,
    UnusableConnectionError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_incident.api.client import AsyncClient, Client
    from airflow_incident.core.failure import Failure, Level
    from airflow_incident.core.routes import Routed
    from airflow_incident.core.text import Redact

UNNAMED = "unnamed"
_SHORTEST_KNOWN = 4
"""Letters of a password that is looked for by itself; a shorter one is in every text."""

log = logging.getLogger(__name__)


class AirflowConfig(NamedTuple):
    """What airflow.cfg says: where Airflow's pages are, and for how many seconds a callback may run.

    `report_seconds` is the time of one report. `task_seconds` is that of all callbacks of a task together, less a
    reserve; `batch_seconds` that of all reports of one DAG-processor process. `config` is the section [incident_io],
    with what is set there.
    """

    base_url: str | None = None
    major: int = 3
    enabled: bool = True
    report_seconds: float = LONGEST_REPORT
    task_seconds: float = OVERTIME - RESERVE
    batch_seconds: float = BATCH_SECONDS * BATCH_SHARE
    config: Mapping[str, str] = MappingProxyType({})

    def __repr__(self) -> str:
        """Leave out what airflow.cfg says, which may be a token or a proxy's password."""
        return f"AirflowConfig({self.base_url!r})"

    @property
    def name(self) -> str | None:
        """The installation's public address as a name; none if others cannot reach it.

        Port and path belong to it: several installations may live on one host.
        """
        parts = urlsplit(self.base_url or "")
        if is_loopback(parts.hostname) or not parts.hostname:
            return None
        return f"{parts.netloc.rpartition('@')[2].lower()}{parts.path.rstrip('/')}"

    @property
    def base_url_option(self) -> str:
        """Where airflow.cfg has the address of Airflow's pages: the web server became an API server in 3.0."""
        return f"[{'api' if self.major >= 3 else 'webserver'}] base_url"  # noqa: PLR2004 -- the version is a name

    @property
    def unnamed_note(self) -> str:
        """What to tell whoever sets up an installation that has no name."""
        return (
            "This Airflow installation has no name: set deployment (in the connection or under [incident_io] in "
            f"airflow.cfg) or a public {self.base_url_option}, or two installations may share one incident."
        )


def read_airflow_config() -> AirflowConfig:
    """Read airflow.cfg and its environment variables.

    https://airflow.apache.org/docs/apache-airflow/stable/configurations-ref.html
    """
    from airflow import __version__

    major = int(__version__.split(".", 1)[0])
    pages, processor = ("api", "dag_processor") if major >= 3 else ("webserver", "core")  # noqa: PLR2004
    named = _named()
    config = {}
    for option in OPTIONS.values():
        # Airflow takes a millisecond to say of each of thirty that it is not set.
        if "config" in option.places and any(name.startswith(option.name) for name in named):
            config[option.name] = _configured(option.name)
    try:
        enabled = bool(read_value(OPTIONS["enabled"], config.get("enabled") or True))
    except ValueError:
        enabled = True  # a value that cannot be read does not silence failures
    overtime = _seconds(conf.get("core", "task_success_overtime", fallback=""), default=OVERTIME)
    batch_timeout = _seconds(conf.get(processor, "dag_file_processor_timeout", fallback=""), default=BATCH_SECONDS)
    return AirflowConfig(
        base_url=_address(conf.get(pages, "base_url", fallback="")),
        major=major,
        enabled=enabled,
        report_seconds=max(SHORTEST_REPORT, min(LONGEST_REPORT, overtime - RESERVE)),
        task_seconds=overtime - RESERVE,
        batch_seconds=batch_timeout * BATCH_SHARE,
        config={name: value for name, value in config.items() if value},
    )


def _configured(name: str) -> str:
    """Read an option; one that cannot be read, as when the command of a `…_cmd` fails, costs itself.

    What shows an incident to fewer people, or makes it a real one, is taken for set then.
    """
    try:
        return str(conf.get(CONFIG_SECTION, name, fallback="") or "")
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a command or a secrets backend may raise anything
        instead = NEVER_WEAKER.get(name, "")
        became = f"taken as {instead!r}" if instead else "left out"
        why = type(error).__name__
        log.warning("incident.io: [%s] %s cannot be read (%s); %s", CONFIG_SECTION, name, why, became)
        return instead


def read_routed(context: Any, airflow_config: AirflowConfig, *, level: Level | None = None) -> Routed | None:
    """Say what the rules set for what a context describes; None where there is no file of rules. Never raises.

    :param level: As for `read_failure`.
    """
    if not (file := airflow_config.config.get("routes_file")):
        return None
    from airflow_incident.airflow_bridge.routes import routed  # most have none

    return routed(file, context, level=level)


def why_disabled(airflow_config: AirflowConfig, routed: Routed | None) -> str:
    """Say what turns incidents off; empty if nothing does."""
    if routed and "enabled" in routed.options:
        return "" if routed.options["enabled"] else f"{routed.origin('enabled')} sets enabled to false"
    return "" if airflow_config.enabled else f"[{CONFIG_SECTION}] enabled is false"


def unknown_options() -> list[Problem]:
    """Tell what our section of airflow.cfg has, or its environment variables name, and no option is called."""
    options = {option.name for option in options_in("config")}
    by_command = {f"{name}{ending}" for name in options for ending in ("_cmd", "_secret")}
    return unknown_settings(sorted(_named() - by_command), "config")


def _named() -> set[str]:
    """Return what is set in our section, also as `<option>_cmd` or `<option>_secret`."""
    prefix = f"AIRFLOW__{CONFIG_SECTION.upper()}__"
    named = {name.removeprefix(prefix).lower() for name in os.environ if name.startswith(prefix)}
    return named.union(conf.options(CONFIG_SECTION)) if conf.has_section(CONFIG_SECTION) else named


def _seconds(text: str, *, default: float) -> float:
    """Read a limit of Airflow's; one that makes no sense must not cost the report that it bounds."""
    try:
        seconds = float(text)
    except ValueError:
        return default
    return seconds if seconds > 0 else default


def _address(text: str) -> str | None:
    """Read the address of Airflow's pages, which goes into links: without user, password, query or fragment.

    One that is malformed, or a path only, leads nowhere, nor does one of which nobody can say where its password ends.
    """
    text = text.strip()
    if "://" not in text and not text.startswith("//"):
        text = f"//{text}"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    if not parts.hostname:
        return None
    scheme = parts.scheme or ("http" if is_loopback(parts.hostname) else "https")
    netloc = parts.netloc.rpartition("@")[2]
    address = parts._replace(scheme=scheme, netloc=netloc, query="", fragment="").geturl()
    return None if "@" in address else address


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionConfig:
    """A connection, merged with arguments and airflow.cfg: everything that an entry point needs to know.

    `deployment` is the installation's name in keys and texts. `redact` replaces every secret that Airflow or this
    connection knows, and what looks like one. `origins` says where each option is set that is set at all. `problems`
    are the values that cannot be used, which count as not set, and `warnings` say of each what becomes of it. `notes`
    is what whoever sets it up must know: these, and `unnamed_notes`, which say that the installation has no
    name. `unusable` is why no request can be made; `is_absent` says that nobody has set incident.io up here (the
    default connection is not there, and no other was named), `is_read` that the connection's options are known all the
    same. `unknown` are the names in its extra that mean nothing there. `routed` is what rules have set.
    """

    conn_id: str
    conn_type: str
    account: Account
    settings: Settings
    airflow_config: AirflowConfig
    deployment: str
    redact: Redact = field(repr=False)
    origins: Mapping[str, Place]
    problems: Sequence[Problem]
    warnings: Sequence[str]
    notes: Sequence[str]
    unnamed_notes: Sequence[str]
    unusable: IncidentIoError | None
    is_absent: bool
    is_read: bool
    unknown: Sequence[str]
    routed: Routed | None

    @property
    def own_fields(self) -> tuple[str, ...]:
        """What an incident looks like by arguments and rules alone, whatever the connection says."""
        names = ("deployment", *self.settings.incident_fields())
        return tuple(name for name in names if self.origins.get(name) in {"argument", "route"})

    def templates(self, given: Mapping[str, str | None]) -> dict[str, str | None]:
        """Return the templates of an incident's texts: those of the arguments, else those of the rules."""
        by_rules = self.routed.options if self.routed else {}
        return {name: by_rules.get(name) if template is None else template for name, template in given.items()}

    @property
    def for_alerts_alone(self) -> bool:
        """Whether it can only send alerts, for it has no API key."""
        return not self.account.api_key

    @property
    def client(self) -> Client:
        """The client of this account. The first of several threads that build it wins.

        No lock: one that is held while Airflow forks would never be released.

        :raises UnusableConnectionError: if the CA bundle or the proxy cannot be used.
        :raises IncidentIoError: if no request can be made with this connection.
        """
        if self.unusable:
            raise self.unusable
        known = (os.getpid(), self.account)
        if known in PROCESS.clients:
            return PROCESS.clients[known]
        from airflow_incident.api.client import Client, Connector

        try:
            client = Client(Connector(**self.account._asdict()))
        except ConfigurationError as error:
            raise UnusableConnectionError(_placed(error.problems, self.origins), conn_id=self.conn_id) from None
        return PROCESS.clients.setdefault(known, client)

    def with_client(self) -> ConnectionConfig:
        """Build the client; where that fails, no request can be made."""
        if not self.unusable:
            try:
                _ = self.client
            except UnusableConnectionError as error:
                return replace(self, unusable=error)
        return self

    @property
    def async_client(self) -> AsyncClient:
        """The client of this account for coroutines."""
        from airflow_incident.api.client import AsyncClient

        return AsyncClient(self.client.connector)

    def with_pages(self, failure: Failure) -> Failure:
        """Add the addresses of Airflow's pages, where the reader can open them."""
        return with_pages(
            failure,
            base_url=self.airflow_config.base_url,
            airflow=self.airflow_config.major,
            local=is_loopback(urlsplit(self.account.base_url).hostname),
        )


def read_config(
    conn_id: str, airflow_config: AirflowConfig | None = None, routed: Routed | None = None, **arguments: Any
) -> ConnectionConfig:
    """Read a connection and merge it with arguments, rules and airflow.cfg, for whoever can be told of a mistake.

    :param conn_id: The connection; empty for the one that the rules name, or the default.
    :raises UnusableConnectionError: if no request can be made with it, naming everything that is wrong.
    :raises ConfigurationError: naming every argument that cannot be used.
    """
    return _checked(read_lenient_config(conn_id, airflow_config, routed, **arguments))


async def aread_config(
    conn_id: str, airflow_config: AirflowConfig | None = None, routed: Routed | None = None, **arguments: Any
) -> ConnectionConfig:
    """Async version of `read_config`."""
    return _checked(await aread_lenient_config(conn_id, airflow_config, routed, **arguments))


def read_lenient_config(
    conn_id: str, airflow_config: AirflowConfig | None = None, routed: Routed | None = None, **arguments: Any
) -> ConnectionConfig:
    """Read what can be read, for a failure that must not be lost: what is wrong is in the result, nothing raises."""
    conn_id = _conn_id(conn_id, routed)
    try:
        connection = read_connection(conn_id)
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a secrets backend may raise anything
        connection = error
    return _merged(conn_id, connection, airflow_config, routed, arguments)


async def aread_lenient_config(
    conn_id: str, airflow_config: AirflowConfig | None = None, routed: Routed | None = None, **arguments: Any
) -> ConnectionConfig:
    """Async version of `read_lenient_config`."""
    conn_id = _conn_id(conn_id, routed)
    try:
        connection = await aread_connection(conn_id)
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a secrets backend may raise anything
        connection = error
    return _merged(conn_id, connection, airflow_config, routed, arguments)


def _conn_id(given: str, routed: Routed | None) -> str:
    return given or (routed.options.get("conn_id") if routed else None) or DEFAULT_CONN_ID


def examine_config(
    conn_id: str, airflow_config: AirflowConfig | None = None, routed: Routed | None = None, **arguments: Any
) -> ConnectionConfig:
    """Read a connection for whoever looks at it: one without an API key may be for alerts alone."""
    config = read_lenient_config(conn_id, airflow_config, routed, **arguments)
    if not config.unusable or isinstance(config.unusable, MissingConnectionError):
        return config.with_client()
    for_alerts = read_lenient_config(conn_id, airflow_config, routed, **arguments | {"channel": "alert"}).with_client()
    is_for_alerts = for_alerts.account.alert_source_token and not for_alerts.account.api_key
    return for_alerts if is_for_alerts or not for_alerts.unusable else config


def _checked(config: ConnectionConfig) -> ConnectionConfig:
    """Raise what a callback would leave out or keep a failure for."""
    if isinstance(config.unusable, ConfigurationError):
        raise type(config.unusable)((*config.unusable.problems, *config.problems), conn_id=config.conn_id)
    if config.unusable:
        raise config.unusable
    if any(problem.place == "argument" for problem in config.problems):
        raise ConfigurationError(config.problems, conn_id=config.conn_id)
    return config


def _merged(
    conn_id: str,
    connection: Any,
    airflow_config: AirflowConfig | None,
    routed: Routed | None,
    arguments: Mapping[str, Any],
) -> ConnectionConfig:
    """Read and merge everything first, so that one error can name all that is wrong.

    :param connection: Airflow's, or why it cannot be read.
    """
    from airflow_incident.core.redaction import redact_secrets  # a success that asks for nothing needs none

    airflow_config = airflow_config or read_airflow_config()
    extra: dict[str, Any] = {}
    wrong: list[Problem] = []
    fields, unusable = Fields(), None
    if isinstance(connection, BaseException):
        unusable = _why_unread(conn_id, connection)
    else:
        fields = read_fields(connection)
        extra, wrong = _read_extra(connection.extra)
    is_read = not unusable and not wrong
    if fields.conn_type not in {CONN_TYPE, "generic"}:
        wrong.append(Problem("Connection type", f"is {fields.conn_type!r}; it must be {CONN_TYPE!r}"))
    routes = routed.options if routed else {}
    settings, problems, origins = merge(
        arguments=arguments, routes=routes, connection=extra, config=airflow_config.config
    )
    account, bad = read_account(fields, settings)
    wrong += bad
    if wrong and not unusable:
        unusable = UnusableConnectionError(_placed(wrong, origins), conn_id=conn_id)
    # Zero touch says who calls, not what becomes of it; the policy and the doctor tell of that.
    problems = [problem for problem in problems if problem.option not in SWITCHES]
    warnings = [f"{problem}; {_instead(problem)}." for problem in problems]
    deployment = settings.deployment or airflow_config.name or UNNAMED
    unnamed_notes = [airflow_config.unnamed_note] if deployment == UNNAMED else []
    secrets = [account.api_key, account.alert_source_token, *(_proxy_secrets(account.proxy) if account.proxy else ())]
    return ConnectionConfig(
        conn_id=conn_id,
        conn_type=fields.conn_type,
        account=account,
        settings=settings,
        airflow_config=airflow_config,
        deployment=deployment,
        redact=partial(redact_secrets, known=secrets, mask=redact),
        origins=origins,
        problems=problems,
        warnings=warnings,
        notes=[*warnings, *unnamed_notes],
        unnamed_notes=unnamed_notes,
        unusable=unusable,
        is_absent=conn_id == DEFAULT_CONN_ID and isinstance(unusable, MissingConnectionError),
        is_read=is_read,
        unknown=[str(name) for name in extra if name not in OPTIONS or "connection" not in OPTIONS[name].places],
        routed=routed,
    )


def _why_unread(conn_id: str, error: BaseException) -> IncidentIoError:
    if isinstance(error, AirflowNotFoundException):
        return MissingConnectionError([Problem("Connection", "is not defined, or not readable")], conn_id=conn_id)
    if isinstance(error, IncidentIoError):
        return error
    what = f"cannot be read ({type(error).__name__}: {safe_str(error)})"
    return UnreadableConnectionError([Problem("Connection", what)], conn_id=conn_id)


def _placed(problems: Sequence[Problem], origins: Mapping[str, Place]) -> list[Problem]:
    """Name airflow.cfg where that has set what is wrong with the way to incident.io."""
    in_config = {option.label: option for option in options_in("config") if origins.get(option.name) == "config"}
    return [
        Problem(label_of(in_config[problem.where], "config"), problem.what) if problem.where in in_config else problem
        for problem in problems
    ]


def _instead(problem: Problem) -> str:
    """Say what a value that cannot be used counts as."""
    if instead := NEVER_WEAKER.get(problem.option):
        return f"taken as {instead}"
    return "taken as true" if OPTIONS[problem.option].default is True else "left out"


def _read_extra(text: str | None) -> tuple[dict[str, Any], list[Problem]]:
    """Decode the extra ourselves: Airflow logs a traceback and goes on when it is malformed."""
    try:
        extra = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        return {}, [Problem("Extra", f"is not valid JSON ({error})")]
    if not isinstance(extra, dict):
        return {}, [Problem("Extra", "must be a JSON object")]
    return extra, []


def _proxy_secrets(proxy: str) -> list[str]:
    """Return a proxy's URL, and its password as the URL has it and as it is."""
    try:
        password = urlsplit(proxy).password or ""
    except ValueError:  # no URL at all; where its password is, nobody can say
        return [proxy]
    return [proxy, password, unquote(password)] if len(password) >= _SHORTEST_KNOWN else [proxy]

"""An Airflow connection, merged with arguments and airflow.cfg, and the client of its account. No verb enters."""

from __future__ import annotations

import json
import os
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from airflow_incident.airflow_bridge.airflow_cfg import UNNAMED, AirflowConfig, read_airflow_config
from airflow_incident.airflow_bridge.compat import AirflowNotFoundException, redact
from airflow_incident.airflow_bridge.connections import aread_connection, read_connection
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.constants import CONN_TYPE, DEFAULT_CONN_ID, NEVER_WEAKER, SWITCHES
from airflow_incident.core.account import Account, is_loopback, read_account, read_fields
from airflow_incident.core.failure import with_pages
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.core.settings import OPTIONS, Place, Settings, label_of, merge, options_in
from airflow_incident.core.text import safe_str
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
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.text import Redact


class ConnectionConfig(NamedTuple):
    """A connection, merged with arguments and airflow.cfg: everything that an entry point needs to know.

    `origins` says where each option is set that is set at all. `problems` are the values that cannot be used, which
    count as not set. `unusable` is why no request can be made; `is_read` says that the connection's options are known
    all the same. `unknown` are the names in its extra that mean nothing there.
    """

    conn_id: str
    account: Account
    settings: Settings
    airflow_config: AirflowConfig
    problems: tuple[Problem, ...] = ()
    conn_type: str = CONN_TYPE
    origins: Mapping[str, Place] = MappingProxyType({})
    unusable: IncidentIoError | None = None
    is_read: bool = True
    unknown: tuple[str, ...] = ()

    @property
    def is_absent(self) -> bool:
        """Whether nobody has set incident.io up here: the default connection is not there, and no other was named."""
        return self.conn_id == DEFAULT_CONN_ID and isinstance(self.unusable, MissingConnectionError)

    @property
    def own_fields(self) -> tuple[str, ...]:
        """What an incident looks like by the arguments alone, whatever the connection says."""
        names = ("deployment", *self.settings.incident_fields())
        return tuple(name for name in names if self.origins.get(name) == "argument")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say of each value that cannot be used what becomes of it."""
        return tuple(f"{problem}; {_instead(problem)}." for problem in self.problems)

    @property
    def for_alerts_alone(self) -> bool:
        """Whether it can only send alerts, for it has no API key."""
        return not self.account.api_key

    @property
    def deployment(self) -> str:
        """The installation's name in keys and texts."""
        return self.settings.deployment or self.airflow_config.named

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know about this set-up."""
        return (*self.warnings, *self.unnamed_notes)

    @property
    def unnamed_notes(self) -> tuple[str, ...]:
        """Say that the installation has no name, if it has none."""
        return (self.airflow_config.unnamed_note,) if self.deployment == UNNAMED else ()

    @property
    def client(self) -> Client:
        """The client of this account.

        :raises UnusableConnectionError: if the CA bundle or the proxy cannot be used.
        :raises IncidentIoError: if no request can be made with this connection.
        """
        if self.unusable:
            raise self.unusable
        try:
            return _client(self.account)
        except ConfigurationError as error:
            raise UnusableConnectionError(_placed(error.problems, self.origins), conn_id=self.conn_id) from None

    def with_client(self) -> ConnectionConfig:
        """Build the client; where that fails, no request can be made."""
        if self.unusable:
            return self
        try:
            _ = self.client
        except UnusableConnectionError as error:
            return self._replace(unusable=error)
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

    @property
    def redact(self) -> Redact:
        """What replaces every secret that Airflow or this connection knows, and what looks like one."""
        account = self.account
        secrets = (account.api_key, account.alert_source_token, account.proxy or "", *_proxy_password(account.proxy))
        return partial(redact_secrets, known=secrets, mask=redact)


_IN_CONNECTION = frozenset(option.name for option in options_in("connection"))
_SHORTEST_KNOWN = 4
"""Letters of a password that is looked for by itself; a shorter one is in every text."""


def _proxy_password(proxy: str | None) -> tuple[str, ...]:
    """Return a proxy's password, as its URL has it and as it is."""
    try:
        password = urlsplit(proxy or "").password or ""
    except ValueError:  # no URL at all; where its password is, nobody can say
        return ()
    return (password, unquote(password)) if len(password) >= _SHORTEST_KNOWN else ()


def read_config(conn_id: str, airflow_config: AirflowConfig | None = None, **arguments: Any) -> ConnectionConfig:
    """Read a connection and merge it with arguments and airflow.cfg, for whoever can be told of a mistake.

    :raises UnusableConnectionError: if no request can be made with it, naming everything that is wrong.
    :raises ConfigurationError: naming every argument that cannot be used.
    """
    return _checked(read_lenient_config(conn_id, airflow_config, **arguments))


async def aread_config(conn_id: str, airflow_config: AirflowConfig | None = None, **arguments: Any) -> ConnectionConfig:
    """Async version of `read_config`."""
    return _checked(await aread_lenient_config(conn_id, airflow_config, **arguments))


def read_lenient_config(
    conn_id: str, airflow_config: AirflowConfig | None = None, **arguments: Any
) -> ConnectionConfig:
    """Read what can be read, for a failure that must not be lost: what is wrong is in the result, nothing raises."""
    try:
        connection = read_connection(conn_id)
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a secrets backend may raise anything
        return _unread(conn_id, airflow_config, arguments, error)
    return _merged(conn_id, connection, airflow_config, arguments)


async def aread_lenient_config(
    conn_id: str, airflow_config: AirflowConfig | None = None, **arguments: Any
) -> ConnectionConfig:
    """Async version of `read_lenient_config`."""
    try:
        connection = await aread_connection(conn_id)
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a secrets backend may raise anything
        return _unread(conn_id, airflow_config, arguments, error)
    return _merged(conn_id, connection, airflow_config, arguments)


def examine_config(conn_id: str, airflow_config: AirflowConfig | None = None, **arguments: Any) -> ConnectionConfig:
    """Read a connection for whoever looks at it: one without an API key may be for alerts alone."""
    config = read_lenient_config(conn_id, airflow_config, **arguments)
    if not config.unusable or isinstance(config.unusable, MissingConnectionError):
        return config.with_client()
    for_alerts = read_lenient_config(conn_id, airflow_config, **arguments | {"channel": "alert"}).with_client()
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


def _unread(
    conn_id: str, airflow_config: AirflowConfig | None, arguments: Mapping[str, Any], error: BaseException
) -> ConnectionConfig:
    """Make a configuration of what is known without the connection."""
    airflow_config = airflow_config or read_airflow_config()
    settings, problems, origins = merge(arguments=arguments, connection={}, config=airflow_config.config)
    return ConnectionConfig(
        conn_id=conn_id,
        account=Account(alert_source_id=settings.alert_source_id),
        settings=settings,
        airflow_config=airflow_config,
        problems=_worth_telling(problems),
        origins=origins,
        unusable=_why_unread(conn_id, error),
        is_read=False,
    )


def _why_unread(conn_id: str, error: BaseException) -> IncidentIoError:
    if isinstance(error, AirflowNotFoundException):
        return MissingConnectionError([Problem("Connection", "is not defined, or not readable")], conn_id=conn_id)
    if isinstance(error, IncidentIoError):
        return error
    what = f"cannot be read ({type(error).__name__}: {safe_str(error)})"
    return UnreadableConnectionError([Problem("Connection", what)], conn_id=conn_id)


def _merged(
    conn_id: str, connection: Any, airflow_config: AirflowConfig | None, arguments: Mapping[str, Any]
) -> ConnectionConfig:
    """Read and merge everything first, so that one error can name all that is wrong."""
    airflow_config = airflow_config or read_airflow_config()
    extra, wrong = _read_extra(connection.extra)
    is_read = not wrong
    fields = read_fields(connection)
    if fields.conn_type not in {CONN_TYPE, "generic"}:
        wrong.append(Problem("Connection type", f"is {fields.conn_type!r}; it must be {CONN_TYPE!r}"))
    settings, problems, origins = merge(arguments=arguments, connection=extra, config=airflow_config.config)
    account, bad = read_account(fields, settings)
    wrong += bad
    return ConnectionConfig(
        conn_id=conn_id,
        account=account,
        settings=settings,
        airflow_config=airflow_config,
        problems=_worth_telling(problems),
        conn_type=fields.conn_type,
        origins=origins,
        unusable=UnusableConnectionError(_placed(wrong, origins), conn_id=conn_id) if wrong else None,
        is_read=is_read,
        unknown=tuple(str(name) for name in extra if name not in _IN_CONNECTION),
    )


def _placed(problems: Sequence[Problem], origins: Mapping[str, Place]) -> list[Problem]:
    """Name airflow.cfg where that has set what is wrong with the way to incident.io."""
    in_config = {option.label: option for option in options_in("config") if origins.get(option.name) == "config"}
    return [
        Problem(label_of(in_config[problem.where], "config"), problem.what) if problem.where in in_config else problem
        for problem in problems
    ]


def _worth_telling(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Leave out zero touch, which says who calls, not what becomes of it; the policy and the doctor tell of that."""
    return tuple(problem for problem in problems if problem.option not in SWITCHES)


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


def _client(account: Account) -> Client:
    """Get the account's client, or build it. The first of several threads wins.

    No lock: one that is held while Airflow forks would never be released.
    """
    from airflow_incident.api.client import Client, Connector

    known = (os.getpid(), account)
    if known in PROCESS.clients:
        return PROCESS.clients[known]
    connector = Connector(
        base_url=account.base_url,
        api_key=account.api_key,
        alert_source_id=account.alert_source_id,
        alert_source_token=account.alert_source_token,
        proxy=account.proxy,
        ca_bundle=account.ca_bundle,
    )
    return PROCESS.clients.setdefault(known, Client(connector))

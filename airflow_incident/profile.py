"""An Airflow connection, merged with arguments and airflow.cfg, and the client of its account. No verb enters."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, redact

from airflow_incident.core.account import Account, read_account
from airflow_incident.core.pages import with_pages
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.core.settings import CONN_TYPE, OPTIONS, SWITCHES, Place, Settings, merge, origins
from airflow_incident.errors import ConfigurationError, MissingConnectionError, Problem
from airflow_incident.frozen import Frozen
from airflow_incident.installation import UNNAMED, Installation, read_installation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_incident.api.client import AsyncClient, Client
    from airflow_incident.core.failure import Failure


class Profile(Frozen):
    """A connection, merged with arguments and airflow.cfg: everything that a door needs to know.

    `origins` says where each option is set that is set at all.
    """

    conn_id: str
    account: Account
    settings: Settings
    installation: Installation
    warnings: tuple[str, ...] = ()
    conn_type: str = CONN_TYPE
    origins: Mapping[str, Place] = MappingProxyType({})

    @property
    def for_alerts_alone(self) -> bool:
        """Whether it can only send alerts, for it has no API key."""
        return not self.account.api_key

    @property
    def deployment(self) -> str:
        """The installation's name in keys and texts."""
        return self.settings.deployment or self.installation.name or UNNAMED

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know about this set-up."""
        return (*self.warnings, self.installation.unnamed_note) if self.deployment == UNNAMED else self.warnings

    def prepare_client(self) -> None:
        """Begin to load the client's trust store on a thread, while a failure is read."""
        if self.account.is_encrypted:
            from airflow_incident.api.trust import begin  # noqa: PLC0415 -- law 5

            begin(self.account.ca_bundle)

    @property
    def client(self) -> Client:
        """The client of this account.

        :raises ConfigurationError: if the CA bundle or the proxy cannot be used.
        """
        try:
            return _client(self.account)
        except ConfigurationError as error:
            raise ConfigurationError(error.problems, conn_id=self.conn_id) from None

    @property
    def async_client(self) -> AsyncClient:
        """The client of this account for coroutines."""
        from airflow_incident.api.client import AsyncClient  # noqa: PLC0415 -- law 5

        return AsyncClient(self.client.connector)

    def with_pages(self, failure: Failure) -> Failure:
        """Add the addresses of Airflow's pages, where the reader can open them."""
        return with_pages(
            failure,
            base_url=self.installation.base_url,
            airflow=self.installation.major,
            local=self.account.is_local,
        )

    def redact(self, text: str) -> str:
        """Replace every secret that Airflow or this connection knows, and what looks like one."""
        known = redact(text)
        account = self.account
        secrets = (account.api_key, account.alert_source_token, account.proxy or "", *_proxy_password(account.proxy))
        return redact_secrets(known if isinstance(known, str) else text, known=secrets)


_SHORTEST_KNOWN = 4
"""Letters of a password that is looked for by itself; a shorter one is in every text."""


def _proxy_password(proxy: str | None) -> tuple[str, ...]:
    """Return a proxy's password, as its URL has it and as it is."""
    password = urlsplit(proxy or "").password or ""
    return (password, unquote(password)) if len(password) >= _SHORTEST_KNOWN else ()


_SUPERVISOR = "airflow.sdk.execution_time.supervisor"
"""What a process has loaded that Airflow 3 has begun for a task or for callbacks: it is a fork of its supervisor."""


def prepare_any_client(installation: Installation) -> None:
    """Begin to load the store that most connections need, where to read one is to wait for the supervisor's answer."""
    if _SUPERVISOR in sys.modules and not _clients:
        from airflow_incident.api.trust import begin  # noqa: PLC0415 -- law 5

        begin(installation.config.get("ca_bundle"))


def read_profile(conn_id: str, installation: Installation | None = None, **arguments: Any) -> Profile:
    """Read a connection and merge it with arguments and airflow.cfg.

    :raises MissingConnectionError: if there is no such connection.
    :raises ConfigurationError: naming every setting that cannot be used.
    """
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise _missing(conn_id) from None
    return _merged(conn_id, connection, installation or read_installation(), arguments)


def read_any_profile(conn_id: str, installation: Installation | None = None, **arguments: Any) -> Profile:
    """Do as `read_profile` does, for whoever looks at a connection: one without an API key may be for alerts alone.

    :raises ConfigurationError: naming every setting that cannot be used for incidents.
    """
    try:
        return read_profile(conn_id, installation, **arguments)
    except MissingConnectionError:
        raise
    except ConfigurationError as error:
        with suppress(ConfigurationError):
            return read_profile(conn_id, installation, **arguments | {"channel": "alert"})
        raise error from None


async def aread_profile(conn_id: str, installation: Installation | None = None, **arguments: Any) -> Profile:
    """Do as `read_profile` does, from a coroutine."""
    from airflow.providers.common.compat.connection import get_async_connection  # noqa: PLC0415 -- tasks need none

    try:
        connection = await get_async_connection(conn_id)
    except AirflowNotFoundException:
        raise _missing(conn_id) from None
    return _merged(conn_id, connection, installation or read_installation(), arguments)


def _missing(conn_id: str) -> MissingConnectionError:
    return MissingConnectionError([Problem("Connection", "is not defined, or not readable")], conn_id=conn_id)


def _merged(conn_id: str, connection: Any, installation: Installation, arguments: Mapping[str, Any]) -> Profile:
    """Read and merge everything first, so that one error can name all that is wrong."""
    extra, problems = _read_extra(connection.extra)
    if connection.conn_type not in {CONN_TYPE, "generic", "", None}:
        problems.append(Problem("Connection type", f"is {connection.conn_type!r}; it must be {CONN_TYPE!r}"))
    settings, wrong = merge(arguments=arguments, connection=extra, config=installation.config)
    # Not worth losing a failure for: what cannot be read does not turn incidents off.
    odd = [problem for problem in wrong if problem.where.startswith(OPTIONS["enabled"].label)]
    # Zero touch says who calls, not what becomes of it; the policy and the doctor tell what is wrong with it.
    aside = tuple(OPTIONS[name].label for name in SWITCHES)
    wrong = [problem for problem in wrong if problem not in odd and not problem.where.startswith(aside)]
    account, bad = read_account(
        password=connection.password,
        host=connection.host,
        schema=connection.schema,
        port=connection.port,
        settings=settings,
    )
    if problems := [*problems, *bad, *wrong]:
        raise ConfigurationError(problems, conn_id=conn_id)
    return Profile(
        conn_id=conn_id,
        account=account,
        settings=settings,
        installation=installation,
        conn_type=connection.conn_type or CONN_TYPE,
        origins=origins(arguments=arguments, connection=extra, config=installation.config),
        warnings=tuple(f"{problem}; taken as true." for problem in odd),
    )


def _read_extra(text: str | None) -> tuple[dict[str, Any], list[Problem]]:
    """Decode the extra ourselves: Airflow logs a traceback and goes on when it is malformed."""
    try:
        extra = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        return {}, [Problem("Extra", f"is not valid JSON ({error})")]
    if not isinstance(extra, dict):
        return {}, [Problem("Extra", "must be a JSON object")]
    return extra, []


_clients: dict[tuple[int, Account], Client] = {}
"""One client per account and process: it keeps connections open, and a fork must not share sockets."""


def _client(account: Account) -> Client:
    """Get the account's client, or build it. The first of several threads wins, without a lock: see api/trust.py."""
    from airflow_incident.api.client import Client, Connector  # noqa: PLC0415 -- law 5

    known = (os.getpid(), account)
    if known in _clients:
        return _clients[known]
    connector = Connector(
        base_url=account.base_url,
        api_key=account.api_key,
        alert_source_id=account.alert_source_id,
        alert_source_token=account.alert_source_token,
        proxy=account.proxy,
        ca_bundle=account.ca_bundle,
    )
    return _clients.setdefault(known, Client(connector))

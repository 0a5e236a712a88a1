"""Credentials and HTTP for Airflow: the connection becomes an account, the account a client."""

from __future__ import annotations

import json
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, redact

from airflow_incident.api import endpoints
from airflow_incident.api.verbs import BUDGET, Asked, Verbs
from airflow_incident.core.account import Account, read_account
from airflow_incident.core.pages import with_pages
from airflow_incident.core.settings import CONN_TYPE, DEFAULT_CONN_ID, OPTIONS, Place, Settings, merge, origins
from airflow_incident.core.text import redact_secrets
from airflow_incident.errors import ConfigurationError, IncidentIoError, MissingConnectionError, Problem
from airflow_incident.installation import UNNAMED, UNNAMED_NOTE, Installation, read_installation
from airflow_incident.provider import form_fields, form_layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_incident.api.client import AsyncClient, Client
    from airflow_incident.api.closing import Resolution
    from airflow_incident.api.endpoints import Plan
    from airflow_incident.api.models import Incident
    from airflow_incident.core.failure import Failure

T = TypeVar("T")

HOOK_BUDGET = BUDGET
"""Seconds that one verb may take with all its retries, unless the caller says otherwise."""
TEST_BUDGET = 10.0
"""Seconds that "Test connection" may take."""

NEEDED_ROLE = "incident_creator"
HELPFUL_ROLES = {
    "viewer": "looking up names, showing and listing incidents, or closing those of runs that recovered",
    "incident_editor": "closing incidents of runs that recovered, or attaching links",
}
"""What a key without a role cannot do. https://docs.incident.io/api-reference/introduction"""


class Profile(NamedTuple):
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
    def deployment(self) -> str:
        """The installation's name in keys and texts."""
        return self.settings.deployment or self.installation.name or UNNAMED

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know about this set-up."""
        return (*self.warnings, UNNAMED_NOTE) if self.deployment == UNNAMED else self.warnings

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
        secrets = (self.account.api_key, self.account.alert_source_token, self.account.proxy or "")
        return redact_secrets(known if isinstance(known, str) else text, known=secrets)


class IncidentHook(Verbs, BaseHook):
    """Talk to incident.io with the key of an Airflow connection.

    Every method has an async twin with an `a` before its name. Each ends within `budget` seconds, default 60, with all
    its retries and pages, and raises an IncidentIoError if it fails.

    :param conn_id: The connection, of type `incident_io`.
    """

    conn_name_attr = "conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONN_TYPE
    hook_name = "incident.io"

    def __init__(self, conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def profile(self, installation: Installation | None = None, **arguments: Any) -> Profile:
        """Read the connection and merge it with arguments and airflow.cfg.

        :raises MissingConnectionError: if there is no such connection.
        :raises ConfigurationError: naming every setting that cannot be used.
        """
        try:
            connection = self.get_connection(self.conn_id)
        except AirflowNotFoundException:
            raise self._missing() from None
        return self._profile(connection, installation or read_installation(), arguments)

    async def aprofile(self, installation: Installation | None = None, **arguments: Any) -> Profile:
        """Do as `profile` does, from a coroutine."""
        try:
            connection = await get_async_connection(self.conn_id, hook=self)
        except AirflowNotFoundException:
            raise self._missing() from None
        return self._profile(connection, installation or read_installation(), arguments)

    def get_conn(self) -> Client:
        """Return the client, for calls that have no method here.

        :raises ConfigurationError: if the connection cannot be used.
        """
        return self.profile().client

    def create_incident(self, *, idempotency_key: str, budget: float = HOOK_BUDGET, **fields: Any) -> Incident:
        """Open an incident, or get the one that the key opened before.

        :param idempotency_key: Unique per incident; the same key never opens two.
        :param budget: Seconds for all attempts together.
        :param fields: `name`, `summary`, `source_message_channel_id`, `source_message_timestamp`, and the options
            of the README's table, like `severity`; the connection and airflow.cfg stand in for those not given.
        :raises ConfigurationError: naming every field that cannot be used.
        :raises IncidentIoError: if the incident could not be opened.
        """
        profile = self.profile(**_options(fields))
        return profile.client.call(_submission(profile, idempotency_key, fields), budget=budget)

    async def acreate_incident(self, *, idempotency_key: str, budget: float = HOOK_BUDGET, **fields: Any) -> Incident:
        """Do as `create_incident` does, from a coroutine."""
        profile = await self.aprofile(**_options(fields))
        return await profile.async_client.call(_submission(profile, idempotency_key, fields), budget=budget)

    def resolve_incident(
        self,
        incident_id: str,
        *,
        status: str | None = None,
        note: str | None = None,
        url: str | None = None,
        always: bool = False,
        budget: float = HOOK_BUDGET,
    ) -> Resolution:
        """Close an incident; one that a person has taken only gets the link, unless `always` is set.

        :param status: Name or ID of the status to move to. Default: `resolved_status` of the connection or of
            airflow.cfg, then the account's first closed status.
        :param note: Title of the link that is attached.
        :param url: Address of that link; without it, none is attached.
        :param budget: Seconds for all requests together.
        :returns: What became of it: its `kind` is `closed`, `over` (it was closed before) or `taken`.
        :raises NotFoundError: if there is no such incident.
        :raises IncidentIoError: if it could not be closed.
        """
        profile = self.profile(resolved_status=status)
        plan = _resolution(profile, incident_id, note=note, url=url, always=always)
        return _closed(profile.client.call(plan, budget=budget))

    async def aresolve_incident(
        self,
        incident_id: str,
        *,
        status: str | None = None,
        note: str | None = None,
        url: str | None = None,
        always: bool = False,
        budget: float = HOOK_BUDGET,
    ) -> Resolution:
        """Do as `resolve_incident` does, from a coroutine."""
        profile = await self.aprofile(resolved_status=status)
        plan = _resolution(profile, incident_id, note=note, url=url, always=always)
        return _closed(await profile.async_client.call(plan, budget=budget))

    def test_connection(self) -> tuple[bool, str]:
        """Ask incident.io who the key is; nothing is opened. Only what keeps incidents from opening fails it."""
        try:
            profile = self.profile()
            identity = profile.client.call(endpoints.show_identity(), budget=TEST_BUDGET)
        except IncidentIoError as error:
            return False, f"{error} {error.advice}"
        if NEEDED_ROLE not in identity.roles:
            return (
                False,
                f"The API key {identity.name!r} lacks the role 'incident creator'; it cannot open incidents.",
            )
        gaps = [
            f"Without the role {role.replace('_', ' ')!r} there is no {loss}."
            for role, loss in HELPFUL_ROLES.items()
            if role not in identity.roles
        ]
        told = [f"Connected to incident.io as {identity.name!r}, deployment {profile.deployment!r}.", *gaps]
        return True, " ".join([*told, *_alert_source_words(profile.account), *profile.notes])

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Build the form of Airflow before 3.2; newer ones read it from the provider's declaration."""
        return form_fields()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Label and hide the form's own fields, on Airflow before 3.2."""
        return form_layout()

    def _answer(self, asked: Asked[T]) -> T:
        profile = self.profile()
        answer: T = profile.client.call(asked.through(profile.settings.api_version), budget=asked.budget)
        return answer

    async def _aanswer(self, asked: Asked[T]) -> T:
        profile = await self.aprofile()
        answer: T = await profile.async_client.call(asked.through(profile.settings.api_version), budget=asked.budget)
        return answer

    def _missing(self) -> MissingConnectionError:
        return MissingConnectionError([Problem("Connection", "is not defined")], conn_id=self.conn_id)

    def _profile(self, connection: Any, installation: Installation, arguments: Mapping[str, Any]) -> Profile:
        """Read and merge everything first, so that one error can name all that is wrong."""
        extra, problems = _read_extra(connection.extra)
        if connection.conn_type not in {CONN_TYPE, "generic", "", None}:
            problems.append(Problem("Connection type", f"is {connection.conn_type!r}; it must be {CONN_TYPE!r}"))
        settings, wrong = merge(arguments=arguments, connection=extra, config=installation.config)
        # Not worth losing a failure for: what cannot be read does not turn incidents off.
        odd = [problem for problem in wrong if problem.where.startswith(OPTIONS["enabled"].label)]
        wrong = [problem for problem in wrong if problem not in odd]
        account, bad = read_account(
            password=connection.password,
            host=connection.host,
            schema=connection.schema,
            port=connection.port,
            settings=settings,
        )
        if problems := [*problems, *bad, *wrong]:
            raise ConfigurationError(problems, conn_id=self.conn_id)
        return Profile(
            conn_id=self.conn_id,
            account=account,
            settings=settings,
            installation=installation,
            conn_type=connection.conn_type or CONN_TYPE,
            origins=origins(arguments=arguments, connection=extra, config=installation.config),
            warnings=tuple(f"{problem}; taken as true." for problem in odd),
        )


def _alert_source_words(account: Account) -> list[str]:
    """Say what is set about alerts; to try the source would page somebody."""
    source, token = account.alert_source_id, account.alert_source_token
    if source and token:
        return [f"Alerts go to source {source!r}, which is not tried, for that would send one."]
    if source or token:
        return [f"Alerts cannot be sent: the alert source's {'token' if source else 'ID'} is missing."]
    return []


def _options(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in OPTIONS}


def _submission(profile: Profile, idempotency_key: str, fields: Mapping[str, Any]) -> Plan[Incident]:
    from airflow_incident.api.payload import create_draft  # noqa: PLC0415 -- law 5
    from airflow_incident.api.submit import Terms, submission  # noqa: PLC0415 -- law 5
    from airflow_incident.core.text import with_notes  # noqa: PLC0415 -- law 5

    own = {name: value for name, value in fields.items() if name not in OPTIONS}
    choice: Any = profile.settings.api_version
    try:
        draft = create_draft(idempotency_key=idempotency_key, **profile.settings.incident_fields(), **own)
    except ConfigurationError as error:
        raise ConfigurationError(error.problems, conn_id=profile.conn_id) from None
    return submission(draft, Terms(choice, with_notes, strict=True, read=endpoints.read_incident))


def _resolution(
    profile: Profile, incident_id: str, *, note: str | None, url: str | None, always: bool
) -> Plan[Resolution]:
    from airflow_incident.api.closing import Wish, resolution  # noqa: PLC0415 -- law 5
    from airflow_incident.core.text import one_line  # noqa: PLC0415 -- law 5

    title = one_line(note or "") or "Resolved by Airflow"
    return resolution(incident_id, Wish(title, url, always=always, status=profile.settings.resolved_status))


def _closed(became: Resolution) -> Resolution:
    if became.error:
        raise became.error
    return became


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


def _client(account: Account) -> Client:
    """Keep one client per account and process: a trust store takes long to load, a fork must not share sockets."""
    from airflow_incident.api.client import Client, Connector  # noqa: PLC0415 -- law 5

    known = (os.getpid(), account)
    if known not in _clients:
        connector = Connector(
            base_url=account.base_url,
            api_key=account.api_key,
            alert_source_id=account.alert_source_id,
            alert_source_token=account.alert_source_token,
            proxy=account.proxy,
            ca_bundle=account.ca_bundle,
        )
        # The first of several threads wins. No lock: one held while Airflow forks would never be released.
        return _clients.setdefault(known, Client(connector))
    return _clients[known]

"""Joins a connection, the journal and the driver: how a report is written down and sent, and how a flush runs."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_incident.airflow_bridge.channel import LAST_ANSWER, left
from airflow_incident.airflow_bridge.config import read_config
from airflow_incident.airflow_bridge.stats import count
from airflow_incident.airflow_bridge.variables import Variables, async_store
from airflow_incident.api.calls import is_for_alert_source
from airflow_incident.api.exchange import BUDGET
from airflow_incident.api.payload import create_usable_draft
from airflow_incident.api.submit import submission
from airflow_incident.constants import CONN_TYPE
from airflow_incident.core.key import ALERT_MARK
from airflow_incident.delivery.budget import MIN_SECONDS, Breaker
from airflow_incident.delivery.driver import AsyncDriver, Driver, run_all
from airflow_incident.delivery.flush import drop, flush, read_all
from airflow_incident.delivery.record import PREFIX, utc_now
from airflow_incident.delivery.reporter import DeliveryPolicy, deliver, keep
from airflow_incident.errors import (
    AirflowTimeoutError,
    AmbiguousDeliveryError,
    IncidentIoError,
    Problem,
    RateLimitError,
    UnusableConnectionError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_incident.airflow_bridge.config import ConnectionConfig
    from airflow_incident.delivery.driver import Anything
    from airflow_incident.delivery.flushed import Flushed
    from airflow_incident.delivery.record import Record
    from airflow_incident.delivery.report import Outcome, Report


CATCH_UP_SECONDS = 6.0
"""Seconds that must be left of a report's time to deliver what waits as well."""


@lru_cache(maxsize=1)
def _breaker() -> Breaker:
    return Breaker(time.monotonic)


def write_and_send(report: Report, config: ConnectionConfig, *, seconds: float, may_wait: bool = False) -> Outcome:
    """Write a report down, send it, and write down what became of it.

    :param seconds: What it may take in all; with too little for a try it is only written down.
    :param may_wait: Whether it is to be sent even during an outage that this process has met.
    """
    if is_hurried() or config.unusable:
        policy = policy_of(config, send=False)
        effects = keep(report, policy) if is_hurried() else deliver(report, policy)
        return run_all(effects, Variables(), _RefusingClient(config.unusable).refuse)
    seconds = to_ask(seconds)
    send = may_wait or (seconds >= MIN_SECONDS and may_ask(config))
    first = submission(report.draft, report.terms)
    driver = Driver(Variables(), config.client, key=report.key.removeprefix(ALERT_MARK), first=first, seconds=seconds)
    policy = policy_of(config, send=send)._replace(has_time=lambda: driver.left > CATCH_UP_SECONDS)
    outcome = driver.run(deliver(report, policy))
    note_outage(outcome.error, config)
    return outcome


async def awrite_and_send(report: Report, config: ConnectionConfig, *, seconds: float) -> Outcome:
    """Async version of `write_and_send`."""
    driver = AsyncDriver(
        async_store(Variables()),
        client_of(config),
        seconds=to_ask(seconds),
        key=report.key.removeprefix(ALERT_MARK),
        first=None if config.unusable else submission(report.draft, report.terms),
    )
    policy = policy_of(config, send=may_ask(config))
    outcome = await driver.run(keep(report, policy) if is_hurried() else deliver(report, policy))
    note_outage(outcome.error, config)
    return outcome


class _RefusingClient:
    """Stands where no request can be made, and answers each with why."""

    def __init__(self, why: IncidentIoError | None) -> None:
        self._why = why or AirflowTimeoutError("Airflow took all the time that a callback has")

    def refuse(self, _: Anything, __: str) -> NoReturn:
        """Answer from ordinary code."""
        raise self._why

    async def call(self, _: Anything, *, budget: float) -> NoReturn:  # noqa: ARG002 -- a client's signature
        """Answer from a coroutine."""
        raise self._why


def client_of(config: ConnectionConfig) -> Any:
    """Return the client for a coroutine; where no request can be made, one that says so."""
    return _RefusingClient(config.unusable) if config.unusable else config.async_client


def is_hurried() -> bool:
    """Return whether a callback has no time left but for its last write."""
    remains = left()
    return remains is not None and remains <= 0


def to_ask(seconds: float) -> float:
    """Leave of a callback's time what it takes to write down the answer."""
    remains = left(LAST_ANSWER)
    return seconds if remains is None else min(seconds, remains)


def policy_of(config: ConnectionConfig, *, send: bool) -> DeliveryPolicy:
    """Say how reports of a connection are handled.

    :param send: Whether incident.io is to be asked now.
    """
    return DeliveryPolicy(
        now=utc_now,
        deployment=config.deployment,
        conn_id=config.conn_id,
        send=send,
        storm_dag=config.settings.storm_limit_per_dag,
        storm_deployment=config.settings.storm_limit,
        v1_gone=not config.unusable and config.client.connector.directory.v1_gone,
        unusable=config.unusable,
        own_fields=None if config.is_read else config.own_fields,
    )


def note_outage(error: IncidentIoError | None, config: ConnectionConfig) -> None:
    """Trip the breaker when incident.io did not answer; a rate limit is an answer, and so is the end of v1."""
    if config.unusable or error is None or isinstance(error, RateLimitError | AmbiguousDeliveryError):
        return
    if error.retryable:
        _breaker().trip(config.account.base_url)


def may_ask(config: ConnectionConfig) -> bool:
    """Return whether incident.io can be asked and is worth it: this process has met no outage of it a moment ago."""
    return not config.unusable and not _breaker().is_open(config.account.base_url)


def flush_journal(*, prefix: str = PREFIX, also_dead: bool = False, most: int | None = None) -> Flushed:
    """Deliver what waits in the journal, each record with the key of its own connection.

    :raises JournalError: if the journal cannot be listed.
    """
    effects = flush(utc_now, prefix=prefix, also_dead=also_dead, most=most)
    flushed = run_all(effects, Variables(), _send_as, complete=_completed)
    count("replayed", len(flushed.opened))
    count("dead", len(flushed.refused))
    for settled in flushed.settled:
        count(settled.outcome)
    return flushed


def list_journal(prefix: str = PREFIX) -> tuple[list[Record], dict[str, str]]:
    """Read every record; and the names that hold something else, with why.

    :param prefix: Only records whose name begins with it.
    :raises JournalError: if the journal cannot be listed.
    """
    return run_all(read_all(prefix), Variables(), _send_as)


def drop_from_journal(names: Sequence[str]) -> None:
    """Delete what is under these names, whatever it is.

    :raises JournalError: if the journal cannot be written.
    """
    run_all(drop(names), Variables(), _send_as)


def _send_as(call: Anything, conn_id: str) -> Any:
    """Make a call with a connection; a record may name only one of our type, never a host or a key."""
    channel = "alert" if is_for_alert_source(call) else "incident"
    return _profile_of(conn_id, channel=channel).client.call(call, budget=BUDGET)


def _completed(record: Record) -> Record:
    """Add to a record's draft what its connection says; where that names the deployment, it has another key, too.

    :raises UnusableConnectionError: if the connection still cannot be read.
    """
    config = _profile_of(record.conn_id)
    draft = record.draft or {}
    kept = {name: draft[name] for name in ("name", "summary", *(record.own_fields or ())) if name in draft}
    if "deployment" in config.origins and "deployment" not in (record.own_fields or ()) and record.level != "storm":
        record = record.of_deployment(config.deployment)
    completed, _ = create_usable_draft(idempotency_key=record.sent_key, **config.settings.incident_fields() | kept)
    return record._replace(draft=completed, own_fields=None)


def _profile_of(conn_id: str, **arguments: Any) -> ConnectionConfig:
    config = read_config(conn_id, **arguments)
    if config.conn_type != CONN_TYPE:
        problem = Problem("Connection type", f"must be {CONN_TYPE!r} for a flush")
        raise UnusableConnectionError([problem], conn_id=conn_id)
    return config

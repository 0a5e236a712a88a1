"""Joins a connection, the journal and the courier: how a report is written down and sent, and how a flush runs."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_incident.airflow_bridge.channel import LAST_ANSWER, left
from airflow_incident.airflow_bridge.config import read_profile
from airflow_incident.airflow_bridge.stats import count
from airflow_incident.airflow_bridge.variables import Variables, async_store
from airflow_incident.api.calls import is_for_alert_source
from airflow_incident.api.exchange import BUDGET
from airflow_incident.api.payload import create_usable_draft
from airflow_incident.api.submit import submission
from airflow_incident.constants import CONN_TYPE
from airflow_incident.core.key import ALERT_MARK
from airflow_incident.delivery.budget import LEAST_SHARE, Breaker
from airflow_incident.delivery.driver import AsyncCourier, Courier, carry_all
from airflow_incident.delivery.flush import drop, flush, read_all
from airflow_incident.delivery.record import PREFIX, utc_now
from airflow_incident.delivery.reporter import Rules, deliver, keep
from airflow_incident.errors import (
    AirflowTimeoutError,
    IncidentIoError,
    Problem,
    RateLimitError,
    UnsettledError,
    UnusableConnectionError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_incident.airflow_bridge.config import Profile
    from airflow_incident.delivery.driver import Anything
    from airflow_incident.delivery.flushed import Flushed
    from airflow_incident.delivery.record import Record
    from airflow_incident.delivery.report import Outcome, Report


SPARE = 6.0
"""Seconds that must be left of a report's time to deliver what waits as well."""


@lru_cache(maxsize=1)
def _breaker() -> Breaker:
    return Breaker(time.monotonic)


def write_and_send(report: Report, profile: Profile, *, seconds: float, may_wait: bool = False) -> Outcome:
    """Write a report down, send it, and write down what became of it.

    :param seconds: What it may take in all; with too little for a try it is only written down.
    :param may_wait: Whether it is to be sent even during an outage that this process has met.
    """
    if is_hurried() or profile.unusable:
        rules = rules_of(profile, send=False)
        steps = keep(report, rules) if is_hurried() else deliver(report, rules)
        return carry_all(steps, Variables(), _NoClient(profile.unusable).refuse)
    seconds = to_ask(seconds)
    send = may_wait or (seconds >= LEAST_SHARE and may_ask(profile))
    first = submission(report.draft, report.terms)
    courier = Courier(
        Variables(), profile.client, key=report.key.removeprefix(ALERT_MARK), first=first, seconds=seconds
    )
    rules = rules_of(profile, send=send)._replace(has_time=lambda: courier.left > SPARE)
    outcome = courier.carry(deliver(report, rules))
    note_outage(outcome.error, profile)
    return outcome


async def awrite_and_send(report: Report, profile: Profile, *, seconds: float) -> Outcome:
    """Do as `write_and_send` does, from a coroutine."""
    courier = AsyncCourier(
        async_store(Variables()),
        client_of(profile),
        seconds=to_ask(seconds),
        key=report.key.removeprefix(ALERT_MARK),
        first=None if profile.unusable else submission(report.draft, report.terms),
    )
    rules = rules_of(profile, send=may_ask(profile))
    outcome = await courier.carry(keep(report, rules) if is_hurried() else deliver(report, rules))
    note_outage(outcome.error, profile)
    return outcome


class _NoClient:
    """Stands where no request can be made, and answers each with why."""

    def __init__(self, why: IncidentIoError | None) -> None:
        self._why = why or AirflowTimeoutError("Airflow took all the time that a callback has")

    def refuse(self, _: Anything, __: str) -> NoReturn:
        """Answer from ordinary code."""
        raise self._why

    async def call(self, _: Anything, *, budget: float) -> NoReturn:  # noqa: ARG002 -- a client's signature
        """Answer from a coroutine."""
        raise self._why


def client_of(profile: Profile) -> Any:
    """Return the client for a coroutine; where no request can be made, one that says so."""
    return _NoClient(profile.unusable) if profile.unusable else profile.async_client


def is_hurried() -> bool:
    """Tell whether a callback has no time left but for its last write."""
    remains = left()
    return remains is not None and remains <= 0


def to_ask(seconds: float) -> float:
    """Leave of a callback's time what it takes to write down the answer."""
    remains = left(LAST_ANSWER)
    return seconds if remains is None else min(seconds, remains)


def rules_of(profile: Profile, *, send: bool) -> Rules:
    """Say how reports of a connection are handled.

    :param send: Whether incident.io is to be asked now.
    """
    return Rules(
        now=utc_now,
        deployment=profile.deployment,
        conn_id=profile.conn_id,
        send=send,
        storm_dag=profile.settings.storm_limit_per_dag,
        storm_deployment=profile.settings.storm_limit,
        v1_gone=not profile.unusable and profile.client.connector.directory.v1_gone,
        unusable=profile.unusable,
        own_fields=None if profile.is_read else profile.own_fields,
    )


def note_outage(error: IncidentIoError | None, profile: Profile) -> None:
    """Trip the breaker when incident.io did not answer; a rate limit is an answer, and so is the end of v1."""
    if profile.unusable or error is None or isinstance(error, RateLimitError | UnsettledError):
        return
    if error.retryable:
        _breaker().trip(profile.account.base_url)


def may_ask(profile: Profile) -> bool:
    """Tell whether incident.io can be asked and is worth it: this process has met no outage of it a moment ago."""
    return not profile.unusable and not _breaker().is_open(profile.account.base_url)


def flush_journal(*, prefix: str = PREFIX, also_dead: bool = False, most: int | None = None) -> Flushed:
    """Deliver what waits in the journal, each record with the key of its own connection.

    :raises JournalError: if the journal cannot be listed.
    """
    steps = flush(utc_now, prefix=prefix, also_dead=also_dead, most=most)
    flushed = carry_all(steps, Variables(), _send_as, complete=_completed)
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
    return carry_all(read_all(prefix), Variables(), _send_as)


def drop_from_journal(names: Sequence[str]) -> None:
    """Delete what is under these names, whatever it is.

    :raises JournalError: if the journal cannot be written.
    """
    carry_all(drop(names), Variables(), _send_as)


def _send_as(call: Anything, conn_id: str) -> Any:
    """Make a call with a connection; a record may name only one of our type, never a host or a key."""
    channel = "alert" if is_for_alert_source(call) else "incident"
    return _profile_of(conn_id, channel=channel).client.call(call, budget=BUDGET)


def _completed(record: Record) -> Record:
    """Add to a record's draft what its connection says; where that names the deployment, it has another key, too.

    :raises UnusableConnectionError: if the connection still cannot be read.
    """
    profile = _profile_of(record.conn_id)
    draft = record.draft or {}
    kept = {name: draft[name] for name in ("name", "summary", *(record.own_fields or ())) if name in draft}
    if "deployment" in profile.origins and "deployment" not in (record.own_fields or ()) and record.level != "storm":
        record = record.of_deployment(profile.deployment)
    completed, _ = create_usable_draft(idempotency_key=record.sent_key, **profile.settings.incident_fields() | kept)
    return record.changed(draft=completed, own_fields=None)


def _profile_of(conn_id: str, **arguments: Any) -> Profile:
    profile = read_profile(conn_id, **arguments)
    if profile.conn_type != CONN_TYPE:
        problem = Problem("Connection type", f"must be {CONN_TYPE!r} for a flush")
        raise UnusableConnectionError([problem], conn_id=conn_id)
    return profile

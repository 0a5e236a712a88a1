"""Reports, recoveries and flushes, carried out: the only place that has the store, the client and the time budget.

What a success or a flush needs is imported where it is used: a failure loads neither.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_incident.airflow_bridge.channel import left
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.airflow_bridge.variables import Variables, async_store
from airflow_incident.api.submit import submission
from airflow_incident.constants import CONN_TYPE
from airflow_incident.core.key import ALERT_MARK, own_keys, scope_of
from airflow_incident.core.timing import CATCH_UP_SECONDS, LAST_ANSWER, MIN_REQUEST_SECONDS, MIN_SECONDS, STORE_PATIENCE
from airflow_incident.delivery.driver import AsyncDriver, Driver, run_all, store_patience
from airflow_incident.delivery.effects import Ask, Get, StoreFailed
from airflow_incident.delivery.outcome import ReportResult
from airflow_incident.delivery.record import PREFIX, UnreadableRecordError, read_record, record_name, utc_now
from airflow_incident.delivery.report import DeliveryPolicy
from airflow_incident.delivery.reporter import deliver, keep
from airflow_incident.errors import (
    AmbiguousDeliveryError,
    IncidentIoError,
    Problem,
    RateLimitError,
    UnusableConnectionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from airflow_incident.airflow_bridge.config import ConnectionConfig
    from airflow_incident.api.calls import PreparedCreate
    from airflow_incident.api.closing import CloseOptions
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.settings import Settings
    from airflow_incident.delivery.driver import Anything
    from airflow_incident.delivery.effects import Effect
    from airflow_incident.delivery.outcome import FlushResult, RecoveryResult
    from airflow_incident.delivery.record import Record
    from airflow_incident.delivery.recovery import Recovery
    from airflow_incident.delivery.report import Report


def report(report: Report, config: ConnectionConfig, *, seconds: float, may_wait: bool = False) -> ReportResult:
    """Write a report down, send it, and write down what became of it; with the journal off, only send it.

    :param seconds: What it may take in all; with too little for a try it is only written down.
    :param may_wait: Whether it is to be sent even during an outage that this process has met.
    """
    config = config.with_client()
    if not config.settings.journal or config.unusable or _is_hurried():
        return run_all(_effects(report, config), Variables(), _Client(config, seconds).call)
    seconds = _before_last_answer(seconds)
    send = may_wait or (seconds >= MIN_SECONDS and _may_ask(config))
    first = submission(report.draft, report.terms)
    driver = Driver(Variables(), config.client, key=report.key.removeprefix(ALERT_MARK), first=first, seconds=seconds)
    policy = _policy(config, send=send)._replace(has_time=lambda: driver.left > CATCH_UP_SECONDS)
    outcome = driver.run(deliver(report, policy))
    _note_outage(outcome.error, config)
    return outcome


async def areport(report: Report, config: ConnectionConfig, *, seconds: float) -> ReportResult:
    """Async version of `report`."""
    config = config.with_client()
    may_send = config.settings.journal and not config.unusable
    driver = AsyncDriver(
        async_store(Variables()),
        _AsyncClient(config),
        seconds=_before_last_answer(seconds) if config.settings.journal else seconds,
        key=report.key.removeprefix(ALERT_MARK),
        first=submission(report.draft, report.terms) if may_send else None,
    )
    outcome = await driver.run(_effects(report, config))
    _note_outage(outcome.error if config.settings.journal else None, config)
    return outcome


def _effects(report: Report, config: ConnectionConfig) -> Generator[Effect, Any, ReportResult]:
    """Choose what is done about a report: sent only, kept only, or both."""
    if not config.settings.journal:
        return _send_only(report, config.conn_id)
    if _is_hurried():
        return keep(report, _policy(config, send=_may_ask(config)))
    return deliver(report, _policy(config, send=_may_ask(config)))


def _send_only(report: Report, conn_id: str) -> Generator[Effect, Any, ReportResult]:
    sent: list[PreparedCreate] = []
    answer = yield Ask(submission(report.draft, report.terms._replace(note=sent.append)), conn_id)
    opened = not isinstance(answer, IncidentIoError)
    return ReportResult.of(report, answer, kept=False, creation=sent[-1] if sent and opened else None)


def recover(recovery: Recovery, config: ConnectionConfig, *, seconds: float, may_wait: bool = False) -> RecoveryResult:
    """Close what a recovery may close.

    :param seconds: What it may take in all; with too little for a try it is only written down.
    :param may_wait: Whether incident.io is to be asked even during an outage that this process has met.
    """
    from airflow_incident.delivery.recovery import close_run

    config = config.with_client()
    seconds = _before_last_answer(seconds)
    send = may_wait or (seconds >= MIN_SECONDS and _may_ask(config))
    effects = close_run(recovery, _policy(config, send=send))
    return _noted(run_all(effects, Variables(), _Client(config, seconds).call, patience=store_patience()), config)


async def arecover(recovery: Recovery, config: ConnectionConfig, *, seconds: float) -> RecoveryResult:
    """Async version of `recover`."""
    from airflow_incident.delivery.recovery import close_run

    config = config.with_client()
    driver = AsyncDriver(async_store(Variables()), _AsyncClient(config), seconds=_before_last_answer(seconds))
    return _noted(await driver.run(close_run(recovery, _policy(config, send=_may_ask(config)))), config)


def _noted(recovered: RecoveryResult, config: ConnectionConfig) -> RecoveryResult:
    """Remember an outage that was met; say why nothing was asked of incident.io, where nothing could be."""
    _note_outage(recovered.error, config)
    if not config.unusable:
        return recovered
    settled = tuple(s._replace(error=s.error or config.unusable) if s.kind == "kept" else s for s in recovered.settled)
    return recovered._replace(settled=settled)


def has_open(success: Failure, settings: Settings, deployment: str) -> bool | StoreFailed:
    """Return whether callbacks of the attempt that succeeded have left anything to close, as the journal says."""
    nobody: Any = None
    return run_all(_look(success, settings, deployment), Variables(), nobody, patience=STORE_PATIENCE)


async def ahas_open(success: Failure, settings: Settings, deployment: str) -> bool | StoreFailed:
    """Async version of `has_open`."""
    nobody: Any = None
    driver = AsyncDriver(async_store(Variables()), nobody, seconds=STORE_PATIENCE)
    return await driver.run(_look(success, settings, deployment))


def _look(success: Failure, settings: Settings, deployment: str) -> Generator[Effect, Any, bool | StoreFailed]:
    mark = ALERT_MARK if settings.channel == "alert" else ""
    for key in own_keys(success, deployment=deployment, scope=scope_of(success, settings.scope)):
        found = yield Get(record_name(success.dag_id, mark + key))
        if isinstance(found, StoreFailed):
            return found
        if isinstance(found, str) and _needs_closing(success, mark + key, found, always=settings.resolve == "always"):
            return True
    return False


def _needs_closing(success: Failure, key: str, text: str, *, always: bool) -> bool:
    """Return whether a recovery would act on the record in a text; what a step opened on purpose stays."""
    try:
        record = read_record(record_name(success.dag_id, key), text)
    except UnreadableRecordError:
        return False
    return record.level != "operator" and not record.is_settled(always=always)


def flush(*, prefix: str = PREFIX, also_dead: bool = False, goes_on: Callable[[], bool] = lambda: True) -> FlushResult:
    """Deliver what waits in the journal, each record with the key of its own connection.

    :param prefix: Only records whose name begins with it.
    :param also_dead: Also what incident.io has refused.
    :param goes_on: Says whether there is time for another record, as in `flush_all`. Default: there is.
    :raises JournalError: if the journal cannot be listed.
    """
    from airflow_incident.airflow_bridge.stats import count
    from airflow_incident.delivery.flush import flush_all

    effects = flush_all(utc_now, prefix=prefix, also_dead=also_dead, goes_on=goes_on)
    flushed = run_all(effects, Variables(), _call_as, complete=_completed)
    count("replayed", len(flushed.opened))
    count("dead", len(flushed.refused))
    for settled in flushed.settled:
        count(settled.outcome)
    return flushed


def close_records(closings: Sequence[tuple[Record, str]], *, goes_on: Callable[[], bool]) -> RecoveryResult:
    """Close what is open for these records, each with its own connection, or leave it to whoever has claimed it.

    :param closings: Each with what its run, or its file, has done since.
    :param goes_on: Says before each record whether there is time for it.
    """
    from airflow_incident.delivery.recovery import close_each

    ways = {record.conn_id: _close_options(record.conn_id) for record, _ in closings}
    return run_all(close_each(closings, ways, utc_now, goes_on), Variables(), _call_as, complete=_completed)


def _close_options(conn_id: str) -> CloseOptions:
    """Say how a connection closes incidents; one that cannot be read leaves it to airflow.cfg."""
    from airflow_incident.airflow_bridge.config import read_lenient_config
    from airflow_incident.delivery.recovery import close_options

    return close_options(read_lenient_config(conn_id).settings, title="")


def list_records(prefix: str = PREFIX) -> tuple[list[Record], dict[str, str]]:
    """Read every record; and the names that hold something else, with why.

    :param prefix: Only records whose name begins with it.
    :raises JournalError: if the journal cannot be listed.
    """
    from airflow_incident.delivery.flush import read_all

    return run_all(read_all(prefix), Variables(), _call_as)


def drop_records(names: Sequence[str]) -> None:
    """Delete what is under these names, whatever it is.

    :raises JournalError: if the journal cannot be written.
    """
    from airflow_incident.delivery.flush import drop

    run_all(drop(names), Variables(), _call_as)


def _call_as(call: Anything, conn_id: str) -> Any:
    """Make a call with a connection; a record may name only one of our type, never a host or a key."""
    from airflow_incident.api.calls import is_for_alert_source
    from airflow_incident.core.timing import BUDGET

    channel = "alert" if is_for_alert_source(call) else "incident"
    return _config_of(conn_id, channel=channel).client.call(call, budget=BUDGET)


def _completed(record: Record) -> Record:
    """Add to a record's draft what its connection says; where that names the deployment, it has another key, too.

    :raises UnusableConnectionError: if the connection still cannot be read.
    """
    from airflow_incident.api.payload import create_usable_draft

    config = _config_of(record.conn_id)
    draft = record.draft or {}
    kept = {name: draft[name] for name in ("name", "summary", *(record.own_fields or ())) if name in draft}
    if "deployment" in config.origins and "deployment" not in (record.own_fields or ()) and record.level != "storm":
        record = record.of_deployment(config.deployment)
    completed, _ = create_usable_draft(idempotency_key=record.sent_key, **config.settings.incident_fields() | kept)
    return record._replace(draft=completed, own_fields=None)


def _config_of(conn_id: str, **arguments: Any) -> ConnectionConfig:
    from airflow_incident.airflow_bridge.config import read_config

    config = read_config(conn_id, **arguments)
    if not conn_id or config.conn_type != CONN_TYPE:  # nothing stands for a connection that a record does not name
        problem = Problem("Connection type", f"must be {CONN_TYPE!r} for a flush")
        raise UnusableConnectionError([problem], conn_id=conn_id)
    return config


class _Client:
    """A connection's client with the time that is left; where no request can be made, it says why."""

    def __init__(self, config: ConnectionConfig, seconds: float) -> None:
        self._config = config
        self._deadline = time.monotonic() + seconds

    def call(self, call: Anything, _: str) -> Any:
        """Make a call, in whatever connection's name: there is only this one."""
        if self._config.unusable:
            raise self._config.unusable
        return self._config.client.call(call, budget=max(MIN_REQUEST_SECONDS, self._deadline - time.monotonic()))


class _AsyncClient:
    """The same for coroutines."""

    def __init__(self, config: ConnectionConfig) -> None:
        self._config = config

    async def call(self, call: Anything, *, budget: float) -> Any:
        """Make a call."""
        if self._config.unusable:
            raise self._config.unusable
        return await self._config.async_client.call(call, budget=budget)


def _is_hurried() -> bool:
    """Return whether a callback has no time left but for its last write."""
    remains = left()
    return remains is not None and remains <= 0


def _before_last_answer(seconds: float) -> float:
    """Leave of a callback's time what it takes to write down the answer."""
    remains = left(LAST_ANSWER)
    return seconds if remains is None else min(seconds, remains)


def _policy(config: ConnectionConfig, *, send: bool) -> DeliveryPolicy:
    """Say how reports of a connection are handled.

    :param send: Whether incident.io is to be asked now.
    """
    return DeliveryPolicy(
        now=utc_now,
        deployment=config.deployment,
        conn_id=config.conn_id,
        send=send,
        storm_dag=config.settings.storm_limit_per_dag,
        storm_connection=config.settings.storm_limit,
        v1_gone=not config.unusable and config.client.connector.directory.v1_gone,
        unusable=config.unusable,
        own_fields=None if config.is_read else config.own_fields,
    )


def _note_outage(error: IncidentIoError | None, config: ConnectionConfig) -> None:
    """Trip the breaker when incident.io did not answer; a rate limit is an answer, and so is the end of v1."""
    if config.unusable or error is None or isinstance(error, RateLimitError | AmbiguousDeliveryError):
        return
    if error.retryable:
        PROCESS.breaker.trip(config.account.base_url)


def _may_ask(config: ConnectionConfig) -> bool:
    """Return whether incident.io can be asked and is worth it: this process has met no outage of it a moment ago."""
    return not config.unusable and not PROCESS.breaker.is_open(config.account.base_url)

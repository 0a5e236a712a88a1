"""Joins a connection, the journal and a recovery: how what a run has opened is closed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_incident.airflow_bridge.variables import Variables, async_store
from airflow_incident.api.closing import CloseOptions
from airflow_incident.core.key import scope_of
from airflow_incident.core.text import one_line
from airflow_incident.delivery.budget import MIN_SECONDS
from airflow_incident.delivery.driver import AsyncDriver, run_all, store_patience
from airflow_incident.delivery.recovery import Recovery, RecoveryResult, recover
from airflow_incident.delivery.run import client_of, may_ask, note_outage, policy_of, to_ask

if TYPE_CHECKING:
    from airflow_incident.airflow_bridge.config import ConnectionConfig
    from airflow_incident.core.failure import Failure
    from airflow_incident.delivery.driver import Anything

SHORTEST = 0.1
"""Seconds that a request gets at the least, however long those before it took."""


def recovery_of(
    success: Failure, config: ConnectionConfig, *, note: str | None = None, key_name: str | None = None
) -> Recovery:
    """Decide what a success closes, and what it says.

    :param note: Title of the link that is attached. Default: what recovered.
    """
    success = config.with_pages(success)
    scope = scope_of(success, config.settings.scope)
    what = f"Task {success.dag_id}.{success.task_label}" if success.level == "task" else f"DAG {success.dag_id}"
    text = (note or "").strip() or f"{what} recovered in Airflow, run {success.run_id}"
    handled = f"{what} succeeded all the same, run {success.run_id}"
    return Recovery(
        success,
        scope,
        CloseOptions(
            title=one_line(config.redact(text)),
            url=success.run_url,
            always=config.settings.resolve == "always",
            status=config.settings.resolved_status,
        ),
        key_name,
        alerts=config.settings.channel == "alert",
        # While a step runs nobody knows yet how its run will end.
        all_the_same=None if success.level == "operator" else one_line(config.redact(handled)),
    )


def recover_run(
    recovery: Recovery, config: ConnectionConfig, *, seconds: float, may_wait: bool = False
) -> RecoveryResult:
    """Close what a recovery may close.

    :param seconds: What it may take in all; with too little for a try it is only written down.
    :param may_wait: Whether incident.io is to be asked even during an outage that this process has met.
    """
    config = config.with_client()
    seconds = to_ask(seconds)
    deadline = time.monotonic() + seconds

    def call(call: Anything, _: str) -> Any:
        return config.client.call(call, budget=max(SHORTEST, deadline - time.monotonic()))

    send = may_wait or (seconds >= MIN_SECONDS and may_ask(config))
    steps = recover(recovery, policy_of(config, send=send))
    return _noted(run_all(steps, Variables(), call, patience=store_patience()), config)


async def arecover_run(recovery: Recovery, config: ConnectionConfig, *, seconds: float) -> RecoveryResult:
    """Async version of `recover_run`."""
    config = config.with_client()
    driver = AsyncDriver(async_store(Variables()), client_of(config), seconds=to_ask(seconds))
    steps = recover(recovery, policy_of(config, send=may_ask(config)))
    return _noted(await driver.run(steps), config)


def _noted(recovered: RecoveryResult, config: ConnectionConfig) -> RecoveryResult:
    """Remember an outage that was met; say why nothing was asked of incident.io, where nothing could be."""
    note_outage(recovered.error, config)
    if not config.unusable:
        return recovered
    settled = tuple(s._replace(error=s.error or config.unusable) if s.kind == "kept" else s for s in recovered.settled)
    return recovered._replace(settled=settled)

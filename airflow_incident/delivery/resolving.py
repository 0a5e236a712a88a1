"""Joins a connection, the journal and a recovery: how what a run has opened is closed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_incident.airflow_bridge.variables import Variables, async_store
from airflow_incident.api.closing import Wish
from airflow_incident.core.key import scope_of
from airflow_incident.core.text import one_line
from airflow_incident.delivery.budget import LEAST_SHARE
from airflow_incident.delivery.driver import AsyncCourier, carry_all, store_patience
from airflow_incident.delivery.recovery import Recovered, Recovery, recover
from airflow_incident.delivery.run import client_of, may_ask, note_outage, rules_of, to_ask

if TYPE_CHECKING:
    from airflow_incident.airflow_bridge.config import Profile
    from airflow_incident.core.failure import Failure
    from airflow_incident.delivery.driver import Anything

SHORTEST = 0.1
"""Seconds that a request gets at the least, however long those before it took."""


def recovery_of(
    success: Failure, profile: Profile, *, note: str | None = None, key_name: str | None = None
) -> Recovery:
    """Decide what a success closes, and what it says.

    :param note: Title of the link that is attached. Default: what recovered.
    """
    success = profile.with_pages(success)
    scope = scope_of(success, profile.settings.scope)
    what = f"Task {success.dag_id}.{success.task_label}" if success.level == "task" else f"DAG {success.dag_id}"
    text = (note or "").strip() or f"{what} recovered in Airflow, run {success.run_id}"
    handled = f"{what} succeeded all the same, run {success.run_id}"
    return Recovery(
        success,
        scope,
        Wish(
            title=one_line(profile.redact(text)),
            url=success.run_url,
            always=profile.settings.resolve == "always",
            status=profile.settings.resolved_status,
        ),
        key_name,
        alerts=profile.settings.channel == "alert",
        # While a step runs nobody knows yet how its run will end.
        all_the_same=None if success.level == "operator" else one_line(profile.redact(handled)),
    )


def recover_run(recovery: Recovery, profile: Profile, *, seconds: float, may_wait: bool = False) -> Recovered:
    """Close what a recovery may close.

    :param seconds: What it may take in all; with too little for a try it is only written down.
    :param may_wait: Whether incident.io is to be asked even during an outage that this process has met.
    """
    profile = profile.with_client()
    seconds = to_ask(seconds)
    deadline = time.monotonic() + seconds

    def call(call: Anything, _: str) -> Any:
        return profile.client.call(call, budget=max(SHORTEST, deadline - time.monotonic()))

    send = may_wait or (seconds >= LEAST_SHARE and may_ask(profile))
    steps = recover(recovery, rules_of(profile, send=send))
    return _noted(carry_all(steps, Variables(), call, patience=store_patience()), profile)


async def arecover_run(recovery: Recovery, profile: Profile, *, seconds: float) -> Recovered:
    """Do as `recover_run` does, from a coroutine."""
    profile = profile.with_client()
    courier = AsyncCourier(async_store(Variables()), client_of(profile), seconds=to_ask(seconds))
    steps = recover(recovery, rules_of(profile, send=may_ask(profile)))
    return _noted(await courier.carry(steps), profile)


def _noted(recovered: Recovered, profile: Profile) -> Recovered:
    """Remember an outage that was met; say why nothing was asked of incident.io, where nothing could be."""
    note_outage(recovered.error, profile)
    if not profile.unusable:
        return recovered
    settled = tuple(s._replace(error=s.error or profile.unusable) if s.kind == "kept" else s for s in recovered.settled)
    return recovered._replace(settled=settled)

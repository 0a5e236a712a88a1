"""What a flush found and did, and how that is said."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from airflow_incident.core.text import format_time
from airflow_incident.delivery.messages import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_incident.delivery.record import Record
    from airflow_incident.delivery.recovery import RecordResult

OVERDUE = timedelta(hours=1)
"""How long a failure may wait before somebody should look."""


class Flushed(NamedTuple):
    """What a flush found and did: records by what became of them, and names of records that it left alone.

    `dead` is all that was ever refused, `refused` what this flush sent of it. `settled` are runs that have recovered.
    """

    opened: Sequence[Record] = ()
    pending: Sequence[Record] = ()
    dead: Sequence[Record] = ()
    unreadable: Mapping[str, str] = {}
    pruned: int = 0
    stopped: str | None = None
    refused: Sequence[Record] = ()
    settled: Sequence[RecordResult] = ()

    @property
    def recovered(self) -> Sequence[Record]:
        """What was closed because its run recovered."""
        return [settled.record for settled in self.settled if settled.outcome == "recovered"]

    @property
    def oldest_pending(self) -> datetime | None:
        """When the oldest failure that still waits was written down."""
        return min((record.written_at for record in self.pending), default=None)


def summary_line(flushed: Flushed) -> str:
    """Count what a flush did and left."""
    waiting, refused, unreadable = len(flushed.pending), len(flushed.dead), len(flushed.unreadable)
    why = f" ({clean(flushed.stopped)})" if flushed.stopped else ""
    counts = {
        f"{len(flushed.opened)} delivered": len(flushed.opened),
        f"{waiting} waiting{why}": waiting,
        f"{refused} refused": refused,
        f"{len(flushed.recovered)} closed because the run recovered": len(flushed.recovered),
    }
    told = [text for text, count in counts.items() if count] or ["nothing waits"]
    return ", ".join([*told, *([f"{unreadable} left alone (not readable as ours)"] if unreadable else [])])


def problems(flushed: Flushed, now: datetime) -> str | None:
    """Say what somebody should look at: what was refused, and what has waited too long."""
    told = []
    if flushed.dead:
        told.append(f"{len(flushed.dead)} refused; fix the cause, then run: airflow-incident journal retry")
    oldest = flushed.oldest_pending
    if oldest is not None and now - oldest > OVERDUE:
        why = f": {clean(flushed.stopped)}" if flushed.stopped else ""
        told.append(f"{len(flushed.pending)} waiting, the oldest since {format_time(oldest)}{why}")
    return "; ".join(told) or None

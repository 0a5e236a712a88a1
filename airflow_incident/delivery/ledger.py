"""What the reports of one deployment and connection tell one another, in one Variable.

Openings, storms, what waits, v1's end, and which incidents the DAGs had before.
"""

from __future__ import annotations

import json
from datetime import timedelta
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.api.incident import incident_label
from airflow_incident.constants import DEFAULT_CONN_ID
from airflow_incident.core.account import is_incident_page
from airflow_incident.core.timing import EARLIER_FOR, SETTLE_SECONDS, STORM_AGAIN
from airflow_incident.delivery.record import (
    Reader,
    UnreadableRecordError,
    encode,
    read_fields,
    read_key,
    read_moment,
    read_record,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from airflow_incident.delivery.record import OpenIncident

PREFIX = "incident_io_storm."
"""Beginning of a ledger's name; the rest is a digest of deployment and connection."""
MOST_WAITING = 50
"""Failures that a ledger remembers as waiting; a flush finds the others."""
MOST_EARLIER, _MOST_REMEMBERED = 3, 100
"""Earlier incidents that a ledger remembers: of one DAG, and in all."""


class Opening(NamedTuple):
    """An incident that was asked for not long ago."""

    at: datetime
    dag_id: str
    key: str


class Earlier(NamedTuple):
    """An incident that a DAG had. Its page is known once its record, of this name, was read.

    One that is private, or of which that is not known, is named only in others that are private.
    """

    dag_id: str
    at: datetime
    record: str
    label: str = ""
    page: str = ""
    visibility: str = ""

    def seen(self, text: str) -> Earlier:
        """Return it with what its record, of this text, knows of the incident."""
        try:
            incident = read_record(self.record, text).incident
        except UnreadableRecordError:
            return self
        return self.of(incident) if incident else self

    def of(self, incident: OpenIncident) -> Earlier:
        """Return it with an incident's page."""
        page, visibility = incident.permalink or "", incident.visibility or ""
        return self._replace(label=incident_label(incident), page=page, visibility=visibility)

    def may_be_named(self, *, private: bool) -> bool:
        """Return whether an incident's text may lead to it, which is private itself or is not."""
        return is_incident_page(self.page) and (private or self.visibility == "public")


class Ledger(NamedTuple):
    """What the reports of one deployment and connection tell one another.

    The latest openings, the storm that goes on, if one does, what waits, by DAG and key, when incident.io was found to
    serve v1 no more, and the DAGs' earlier incidents, the newest last. A connection has a ledger of its own because its
    incidents may be for other eyes. Counted without locks: two processes at once may each miss the other's opening.
    """

    openings: tuple[Opening, ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()
    storm_key: str | None = None
    storm_at: datetime | None = None
    v1_gone_at: datetime | None = None
    earlier: tuple[Earlier, ...] = ()

    @staticmethod
    def name(deployment: str, conn_id: str) -> str:
        """Name the ledger of a deployment and a connection; the default one's has the name that 0.1.0 gave all."""
        owner = deployment if conn_id == DEFAULT_CONN_ID else json.dumps([deployment, conn_id])
        return PREFIX + sha256(owner.encode()).hexdigest()[:32]

    @classmethod
    def read(cls, text: Any) -> Ledger:
        """Decode a ledger; what cannot be read counts as empty, for it only saves requests."""
        try:
            return cls(**read_fields(json.loads(text or "{}"), _FIELDS))
        except Exception:  # noqa: BLE001 -- it may hold anything
            return cls()

    def text(self) -> str:
        """Encode the ledger."""
        return encode(self._asdict())

    def around(self, now: datetime, window: timedelta) -> Ledger:
        """Forget what is older than a window, and what a wrong clock wrote from further ahead."""
        storm_goes_on = self.storm_at is not None and abs(now - self.storm_at) <= window
        return self._replace(
            openings=tuple(o for o in self.openings if abs(now - o.at) <= window),
            storm_key=self.storm_key if storm_goes_on else None,
            storm_at=self.storm_at if storm_goes_on else None,
        )

    def with_opening(self, opening: Opening, *, most: int) -> Ledger:
        """Add an opening, and keep the latest ones only."""
        others = tuple(o for o in self.openings if o.key != opening.key)
        return self._replace(openings=(*others, opening)[-most:])

    def with_waiting(self, dag_id: str, key: str) -> Ledger:
        """Note a failure that waits, so that a later report of its DAG can deliver it; the oldest are forgotten."""
        others = tuple(w for w in self.waiting if w != (dag_id, key))
        return self._replace(waiting=(*others, (dag_id, key))[-MOST_WAITING:])

    def without_waiting(self, keys: Collection[str]) -> Ledger:
        """Forget failures that wait no longer."""
        return self._replace(waiting=tuple(w for w in self.waiting if w[1] not in keys))

    def with_earlier(self, entry: Earlier) -> Ledger:
        """Remember an incident of a DAG; the oldest are forgotten."""
        others = [e for e in self.earlier if e.record != entry.record]
        of_dag = [e for e in others if e.dag_id == entry.dag_id]
        forgotten = of_dag[: max(0, len(of_dag) + 1 - MOST_EARLIER)]
        kept = sorted((*(e for e in others if e not in forgotten), entry), key=lambda e: e.at)
        return self._replace(earlier=tuple(kept[-_MOST_REMEMBERED:]))

    def earlier_of(self, dag_id: str, now: datetime) -> list[Earlier]:
        """Return the earlier incidents of a DAG, the newest first."""
        return [e for e in reversed(self.earlier) if e.dag_id == dag_id and abs(now - e.at) <= EARLIER_FOR]

    def tells_v1_is_gone(self, now: datetime) -> bool:
        """Return whether v2 can be asked at once: whoever began before the note has had time to say what it sends."""
        return self.v1_gone_at is not None and abs(now - self.v1_gone_at) >= timedelta(seconds=SETTLE_SECONDS)

    def is_in_storm(self, now: datetime) -> bool:
        """Return whether a storm goes on, as was noted not long ago."""
        return self.storm_at is not None and abs(now - self.storm_at) <= STORM_AGAIN

    def in_storm(self, key: str, at: datetime) -> Ledger:
        """Note that a storm goes on."""
        return self._replace(storm_key=key, storm_at=at)


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    return tuple((str(dag_id), read_key(key)) for dag_id, key in value)


_FIELDS: Mapping[str, Reader] = MappingProxyType(
    {
        "openings": lambda value: tuple(Opening(read_moment(at), str(dag), read_key(key)) for at, dag, key in value),
        "waiting": _pairs,
        "storm_key": read_key,
        "storm_at": read_moment,
        "v1_gone_at": read_moment,
        "earlier": lambda value: tuple(
            # A later version may know more of each.
            Earlier(str(dag), read_moment(at), *map(str, more[: len(Earlier._fields) - 2]))
            for dag, at, *more in value
        ),
    }
)
"""How each field is read."""

"""What the reports of one deployment tell one another, in one Variable: openings, storms, what waits, v1's end."""

from __future__ import annotations

import json
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.delivery.record import Reader, encode, read_fields, read_key, read_moment

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime, timedelta

PREFIX = "incident_io_storm."
"""Beginning of a ledger's name; the rest is a digest of the deployment."""
MOST_WAITING = 50
"""Failures that a ledger remembers as waiting; a flush finds the others."""


class Opening(NamedTuple):
    """An incident that was asked for not long ago."""

    at: datetime
    dag_id: str
    key: str


class Ledger(NamedTuple):
    """What the reports of one deployment tell one another.

    The latest openings, the storm that goes on, if one does, what waits, by DAG and key, and whether incident.io has
    stopped serving v1. Counted without locks: two processes at once may each miss the other's opening.
    """

    openings: tuple[Opening, ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()
    storm_key: str | None = None
    storm_at: datetime | None = None
    v1_gone: bool = False

    @staticmethod
    def name(deployment: str) -> str:
        """Name the ledger of a deployment."""
        return PREFIX + sha256(deployment.encode()).hexdigest()[:32]

    @classmethod
    def read(cls, text: str | None) -> Ledger:
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
        return Ledger(
            openings=tuple(o for o in self.openings if abs(now - o.at) <= window),
            waiting=self.waiting,
            storm_key=self.storm_key if storm_goes_on else None,
            storm_at=self.storm_at if storm_goes_on else None,
            v1_gone=self.v1_gone,
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
        "v1_gone": bool,
    }
)
"""How each field is read."""

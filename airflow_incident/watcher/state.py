"""What watchers remember from one round to the next, in one Variable: their heartbeat among it."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.airflow_bridge.database import File
from airflow_incident.core.timing import LOOK_BACK, OVERDUE
from airflow_incident.delivery.record import Reader, encode, read_fields, read_moment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

NAME = "incident_io_watcher"
_FIELDS: Mapping[str, Reader] = MappingProxyType(
    dict.fromkeys(("opens_since", "off_since", "last_round"), read_moment)
    | dict.fromkeys(("seconds", "every"), float)
    | {"broken": lambda rows: {File(str(path), str(bundle)): read_moment(since) for path, bundle, since in rows}}
    | {"left_out": lambda rows: {int(run): read_moment(ended_at) for run, ended_at in rows}}
)
MOST_LEFT_OUT = 1_000
"""Runs that are remembered as left out; of more, the oldest are looked at again."""


class State(NamedTuple):
    """`opens_since` is when failed runs were first to be looked for: what failed before is left alone.

    `off_since` is since when rounds have not looked for them: maybe one `watch --once` beside a watcher that does.
    `last_round` is when the last round ended, which took `seconds`, and `every` how many seconds apart they are.
    `broken` says since when each file is known to be broken, `left_out` when each run ended whose failure was to have
    no incident, by its ID: it has none either once the rule is gone that said so.
    """

    opens_since: datetime | None = None
    off_since: datetime | None = None
    last_round: datetime | None = None
    seconds: float = 0.0
    every: float = 0.0
    broken: Mapping[File, datetime] = MappingProxyType({})
    left_out: Mapping[int, datetime] = MappingProxyType({})

    def looking(self, now: datetime) -> State:
        """Return it for a round that looks for failed runs: what failed while that was turned off is left alone."""
        was_off = self.off_since and self.last_round and self.last_round - self.off_since >= OVERDUE
        return self._replace(opens_since=now if was_off else self.opens_since or now, off_since=None)

    def not_looking(self, now: datetime) -> State:
        """Return it for a round that does not: what another watcher remembers stays."""
        return self._replace(off_since=self.off_since or now)

    def leaving_out(self, runs: Mapping[int, datetime], now: datetime) -> State:
        """Add runs that are left out; what is too old to be looked for is forgotten."""
        recent = {run: ended_at for run, ended_at in self.left_out.items() if ended_at > now - LOOK_BACK}
        return self._replace(left_out=dict([*recent.items(), *runs.items()][-MOST_LEFT_OUT:]))

    def text(self) -> str:
        """Encode it."""
        broken = [[*file, since] for file, since in self.broken.items()]
        left_out = list(self.left_out.items())
        return encode(self._asdict() | {"broken": broken, "left_out": left_out, "seconds": round(self.seconds, 3)})


def read_state(text: str | None) -> State:
    """Decode it; what cannot be read is as good as not there."""
    try:
        values = json.loads(text or "{}")
        known: dict[str, Any] = read_fields(values, _FIELDS)
        return State(**known)
    except Exception:  # noqa: BLE001 -- whatever another version or a person wrote
        return State()

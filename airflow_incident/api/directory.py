"""What this process has learnt of one account: the lists for looking up names, its clock, whether v1 is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Rows = Sequence[Row]

STALE_SECONDS = 600.0
"""A list older than this is looked up once more for a name that it lacks."""


class Directory:
    """The lists of one account, as far as they have been looked up; threads and coroutines may share it.

    It has no lock: two that look up the same list at once do it twice, and the first answer stays. `v1_gone` says that
    the end of the API's first version was met; `ahead` by how many seconds the API's clock was ahead of this machine's,
    when it last told.
    """

    def __init__(self, clock: Callable[[], float] = float) -> None:
        self.v1_gone = False
        self.ahead: float | None = None
        self._clock = clock
        self._lists: dict[str, tuple[Rows, float]] = {}

    def rows(self, key: str) -> Rows | None:
        """Return a list, if it was looked up."""
        kept = self._lists.get(key)
        return kept[0] if kept else None

    def is_stale(self, key: str) -> bool:
        """Return whether a list is old enough to lack something new."""
        kept = self._lists.get(key)
        return kept is not None and self._clock() - kept[1] > STALE_SECONDS

    def keep(self, key: str, rows: Rows) -> Rows:
        """Keep a list that was looked up, and return the one that everybody shall use."""
        if self.is_stale(key):
            self._lists[key] = (rows, self._clock())
        return self._lists.setdefault(key, (rows, self._clock()))[0]

"""`airflow-incident doctor`: checks of the set-up, each with what to do."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warning", "error"]


class Finding(NamedTuple):
    """One thing that was looked at: how it is, and what to do about it."""

    level: Level
    check: str
    text: str
    advice: str = ""

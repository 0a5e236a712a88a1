"""Zero touch, decided: which DAGs an installation covers, and what a DAG's tags ask for."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from airflow_incident.constants import TASK_SCOPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_incident.core.settings import Settings

TAG = "incident:"
"""What a tag that is meant for this package begins with."""


@dataclass(frozen=True, slots=True)
class AutoCallbackRules:
    """What `[incident_io]` in airflow.cfg says about DAGs that nobody edits."""

    settings: Settings

    @property
    def on(self) -> bool:
        """Whether anything is asked for."""
        return self.opens or self.resolves

    @property
    def opens(self) -> bool:
        """Whether their failures open incidents."""
        return self.settings.auto_open

    @property
    def resolves(self) -> bool:
        """Whether their recoveries close incidents."""
        return self.settings.auto_resolve

    @property
    def resolves_tasks(self) -> bool:
        """Whether also a task's recovery closes something: only where an incident stands for a task."""
        return self.resolves and self.settings.scope in TASK_SCOPES

    def why_not(self, dag_id: str) -> str:
        """Say which option leaves a DAG out; empty if it is included and not excluded."""
        if not matches(dag_id, self.settings.auto_include or ("*",)):
            return "auto_include does not name it"
        return "auto_exclude names it" if matches(dag_id, self.settings.auto_exclude or ()) else ""


class TagOptions(NamedTuple):
    """What the tags of one DAG ask for; `wrong` are those that ask for nothing known."""

    off: bool = False
    severity: str | None = None
    conn_id: str | None = None
    wrong: tuple[str, ...] = ()


def read_tags(tags: Iterable[str]) -> TagOptions:
    """Read `incident:off`, `incident:severity=…` and `incident:conn=…`; the first of its kind holds."""
    values: dict[str, str] = {}
    wrong = []
    ours = sorted(tag for tag in map(str, tags) if tag.startswith(TAG))
    for tag in ours:
        name, equals, value = (part.strip() for part in tag.removeprefix(TAG).partition("="))
        usable = not equals if name == "off" else name in {"severity", "conn"} and value
        if usable and name not in values:
            values[name] = value
        else:
            wrong.append(tag)
    return TagOptions("off" in values, values.get("severity"), values.get("conn"), tuple(wrong))


def matches(dag_id: str, globs: Iterable[str]) -> bool:
    """Return whether one of the globs names a DAG; case counts."""
    return any(fnmatchcase(dag_id, glob) for glob in globs)

"""The IDs that are tried, and the runs of each; also known to the DAG files, so no heavy import here."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import NamedTuple

MOST = 250
"""Characters that Airflow takes for an ID."""
LONGEST = MOST - len("DAG Run:") if version("apache-airflow").startswith("2.") else MOST
"""Characters that are tried: Airflow 2 keeps an ID with that before it in a column of the same width."""
IDS = {"twin": "rec_u", "umlaut": "rec_ü", "kanji": "日本", "long": "x" * LONGEST, "quotes": "a b/c'\""}
"""A file's name, which is ASCII always, and the ID of what it holds."""
LEVELS = ("both", "task", "dag", "deadline")
"""Who tells of a failure; the recommended way is both, and that DAG has the bare ID."""


class Scenario(NamedTuple):
    """One trouble: which DAGs of each ID are run in it, and how often; `waits` for the word before a task fails."""

    name: str
    level: str
    runs: int = 1
    waits: bool = False


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("task", "task"),
        Scenario("dag", "dag"),
        Scenario("deadline", "deadline", runs=2, waits=True),
        Scenario("outage-task", "task"),
        Scenario("outage-dag", "dag"),
        Scenario("server", "both", waits=True),
        Scenario("database", "both", waits=True),
    )
}


class Run(NamedTuple):
    """A run to come; its ID says what it is for, and no other's begins or ends with it."""

    scenario: str
    name: str
    dag_id: str
    run_id: str


def dag_id(name: str, level: str) -> str:
    """Name the DAG of an ID that tells at a level."""
    suffix = "" if level == "both" else f".{level}"
    return IDS[name][: LONGEST - len(suffix)] + suffix


def runs_of(scenario: Scenario, names: list[str]) -> Iterator[Run]:
    """Name the runs of a scenario, one of each ID after the other."""
    for number in range(scenario.runs):
        for name in names:
            yield Run(scenario.name, name, dag_id(name, scenario.level), f"e2e.{scenario.name}.{name}.{number}.")

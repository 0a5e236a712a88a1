"""The one table of Airflow versions: the newest patch of each, its day, the matrix's Python, and what works there."""

from typing import NamedTuple


class Version(NamedTuple):
    """One supported Airflow; `bounds` are those of its own dependencies that it does not declare.

    `released` is the day of its release: what was the newest of everything then is what its users have.
    """

    airflow: str
    python: str
    released: str
    bounds: tuple[str, ...] = ()


VERSIONS = {
    "2.11": Version("2.11.2", "3.12", "2026-03-14"),  # has no Python 3.13
    # Its API fails with newer ones.
    "3.0": Version("3.0.6", "3.11", "2025-08-29", ("cadwyn<6", "fastapi<0.118", "pyjwt<2.11")),
    "3.1": Version("3.1.8", "3.12", "2026-03-11"),
    "3.2": Version("3.2.2", "3.13", "2026-05-29", ("fastapi<0.137", "svcs<26")),  # the same
    "3.3": Version("3.3.2", "3.13", "2026-09-17"),
}
LOWEST = Version("2.11.0", "3.11", "2025-05-20")
"""The oldest Airflow that pyproject.toml allows; the lowest bounds of everything else are tried on it."""
OLDEST, *_, NEWEST = VERSIONS

NO = "no"
_UNTIL_3_3 = dict.fromkeys(("3.0", "3.1", "3.2"), NO)
FEATURES: dict[str, dict[str, str]] = {
    "callbacks, operators, sensor, recovery, names, alerts": {},
    "journal, commands, metrics, zero touch, button": {},
    "delivery later by the watcher or `airflow-incident journal flush`": {},
    "delivery later by the flush DAG": _UNTIL_3_3,
    "deadline alerts": {"2.11": NO, "3.0": NO},
    "a DAG's callback lists the tasks that failed": {"3.0": NO},
    "the sensor knows what earlier runs of its DAG have opened": _UNTIL_3_3,
    "a command's deliveries are counted in Airflow's metrics": {"3.2": NO},
    "the connection's form offers the choices": {"2.11": "in the help", "3.0": NO, "3.1": "in the help"},
    "`airflow dags test` passes the exception on": _UNTIL_3_3,
}
"""What works where: a feature, and the Airflows that have it not, or not wholly."""
SHORT = 6
"""How many of them, from the top, the README shows."""

"""The one table of Airflow versions: each with its newest patch, the Python of the matrix, and what works there."""

from typing import NamedTuple


class Version(NamedTuple):
    """One supported Airflow; `bounds` are those of its own dependencies that it does not declare."""

    airflow: str
    python: str
    bounds: tuple[str, ...] = ()


VERSIONS = {
    "2.11": Version("2.11.2", "3.12"),  # has no Python 3.13
    "3.0": Version("3.0.6", "3.11", ("cadwyn<6", "fastapi<0.118", "pyjwt<2.11")),  # its API fails with newer ones
    "3.1": Version("3.1.8", "3.12"),
    "3.2": Version("3.2.2", "3.13", ("fastapi<0.137", "svcs<26")),  # the same
    "3.3": Version("3.3.2", "3.13"),
}
OLDEST, *_, NEWEST = VERSIONS

NO = "no"
_UNTIL_3_3 = dict.fromkeys(("3.0", "3.1", "3.2"), NO)
FEATURES: dict[str, dict[str, str]] = {
    "callbacks, operators, sensor, recovery, names, alerts": {},
    "journal, commands, metrics, zero touch, button": {},
    "the flush DAG; elsewhere `airflow-incident journal flush`": _UNTIL_3_3,
    "the sensor knows what earlier runs of its DAG have opened": _UNTIL_3_3,
    "a DAG's callback lists the tasks that failed": {"3.0": NO},
    "deadline alerts": {"2.11": NO, "3.0": NO},
    "a command's deliveries are counted in Airflow's metrics": {"3.2": NO},
    "the connection's form offers the choices": {"2.11": "told", "3.0": NO, "3.1": "told"},
    "`airflow dags test` tells the exception": _UNTIL_3_3,
}
"""What works where: a feature, and the Airflows that have it not, or not wholly."""

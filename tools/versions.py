"""The one table of Airflow versions: the newest patch of each, and the Python that `make test-matrix` takes for it."""

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

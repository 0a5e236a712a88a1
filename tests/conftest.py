"""A clean, throw-away Airflow and a fresh sandbox for every test that asks for them."""

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_incident.constants import VERSION

ROOT = Path(__file__).parents[1]

# Before anything imports airflow: an Airflow of our own, and nothing of the caller's.
for _name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[_name]
_HOME = tempfile.TemporaryDirectory(prefix="airflow-incident-", ignore_cleanup_errors=True)
os.environ |= {
    "AIRFLOW_HOME": _HOME.name,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(Path(_HOME.name, "dags")),
    "AIRFLOW__INCIDENT_IO__DEPLOYMENT": "tests",
    # Tests of the journal turn it on; the others need no database.
    "AIRFLOW__INCIDENT_IO__JOURNAL": "False",
    "NO_PROXY": "127.0.0.1,localhost",
    # On 3.2 `dag.test()` does not run without one.
    "AIRFLOW__API_AUTH__JWT_SECRET": "only-for-tests-and-long-enough-for-hs512-which-asks-for-64-bytes!!",
}

with contextlib.suppress(ImportError):  # `make oldest` runs with pytest and nothing else
    from hypothesis import HealthCheck, settings

    # How long an example takes, on whatever machine, proves nothing.
    settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("tests")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are cores, for many tests wait; but few, for many measure time."""
    return min((os.cpu_count() or 1) + 1, 4)


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """Return the home of the tests' own Airflow."""
    return Path(_HOME.name)


@pytest.fixture(scope="session")
def airflow_db(airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the tests' own Airflow its database, which the first of the processes that test migrates."""
    settings = sys.modules.get("airflow.settings")
    if getattr(settings, "engine", None) is not None:
        settings.engine.dispose()  # whoever looked for a connection before has opened an empty one
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    empty = shared / "empty.db"
    with (shared / "empty.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not empty.exists():
            command = [sys.executable, "-m", "airflow", "db", "migrate"]
            subprocess.run(command, check=True, capture_output=True, timeout=300)
            _copy_database(airflow_home / "airflow.db", empty)
    _copy_database(empty, airflow_home / "airflow.db")
    shutil.copy(empty, airflow_home / "empty.db")
    return airflow_home


def _copy_database(source: Path, target: Path) -> None:
    """Copy what SQLite knows, not the file alone: what is not yet written back stands in another one."""
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(target)) as new:
        old.backup(new)


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    """Install the entry points that this checkout declares, before whatever is installed; to be put on PYTHONPATH."""
    folder = tmp_path_factory.mktemp("site")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    info = folder / f"airflow_incident-{VERSION}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: airflow-incident\nVersion: {VERSION}\n")
    lines = [
        line
        for group, points in declared.items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def sandbox() -> Iterator[object]:
    """Serve a fresh local incident.io."""
    from airflow_incident.sandbox.server import Sandbox

    with Sandbox() as box:
        yield box


@pytest.fixture
def connect(monkeypatch):
    """Define the default connection, with what is given instead of the defaults."""

    def define(host: str, *, conn_id: str = "incident_io_default", **fields: object) -> None:
        fields = {"conn_type": "incident_io", "password": "sandbox-key", "host": host} | fields
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    return define


@pytest.fixture
def connected(sandbox, connect):
    """Serve a sandbox and define the default connection to it."""
    connect(sandbox.url)
    return sandbox


@pytest.fixture
def brisk(monkeypatch):
    """Make the pauses between two attempts short, where they are not what is tested."""
    monkeypatch.setattr("airflow_incident.api.exchange.BACKOFF_SECONDS", 0.02)


@pytest.fixture
def alone(monkeypatch):
    """Give other processes little time to finish what they have begun, where there are none."""
    from airflow_incident.delivery import flush, sending

    monkeypatch.setitem(sending.send.__kwdefaults__, "patience", 0.3)
    monkeypatch.setattr(flush, "SETTLE_SECONDS", 0.3)


@pytest.fixture(autouse=True)
def _nothing_left_over():
    """Let the process have no past: no client, outage or time spent, and nothing that Airflow's masker has learned."""
    yield
    homes = (
        "airflow.sdk._shared.secrets_masker",
        "airflow.sdk.execution_time.secrets_masker",
        "airflow.utils.log.secrets_masker",
    )
    for name in homes:
        find = getattr(sys.modules.get(name), "_secrets_masker", None)
        if find:
            find().patterns, find().replacer = set(), None
    process = sys.modules.get("airflow_incident.airflow_bridge.process")
    if process:
        process.PROCESS.reset()

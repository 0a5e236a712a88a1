"""A whole Airflow for tests: scheduler, DAG processor, triggerer and api-server, on this machine only."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from tests.airflow_versions import AIRFLOW

COMPONENTS = {
    "api-server": ["--apps", "all"],
    "scheduler": ["--skip-serve-logs"],
    "dag-processor": [],
    "triggerer": ["--skip-serve-logs"],
}
if AIRFLOW < (3, 0):
    COMPONENTS = {name: COMPONENTS[name] for name in ("scheduler", "triggerer")}  # the scheduler has what is missing
LOCKED = 10
"""How often a request is made again, a second apart, that found SQLite locked."""


class RunningAirflow:
    """Four processes over one home: `with RunningAirflow(home) as airflow: ...`.

    :param home: AIRFLOW_HOME, with a migrated database and the DAGs.
    :param settings: Variables of the environment that go before those that every test has.
    """

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self._settings = settings
        self.url = f"http://127.0.0.1:{_free_port()}"
        self.output = home / "output"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        self.output.mkdir()
        try:
            for name, arguments in COMPONENTS.items():
                self._start(name, arguments)
            if AIRFLOW < (3, 0):
                return self  # its API is not there; whoever starts it looks at what its DAGs leave behind
            self.wait_until_healthy()
            token = self._client.get("/auth/token").raise_for_status().json()["access_token"]
            self._client.headers["Authorization"] = f"Bearer {token}"
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process, and what it started."""
        for process in self._processes.values():
            _signal(process, signal.SIGCONT)
            _signal(process, signal.SIGTERM)
        patience = time.monotonic() + 3
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, patience - time.monotonic()))
            _signal(process, signal.SIGKILL)
            process.wait()
        self._client.close()

    def call(self, method: str, path: str, **body: Any) -> Any:
        """Ask Airflow's public API, or the UI's own with a path from the root."""
        path = path if path[0] == "/" else f"/api/v2/{path}"
        answer = self._client.request(method, path, json=body or None)
        for _ in range(LOCKED):
            if not answer.is_server_error:
                break
            time.sleep(1)
            answer = self._client.request(method, path, json=body or None)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def trigger(self, dag_id: str, run_id: str = "first") -> None:
        """Start a run of a DAG, once Airflow knows it; SQLite may be locked meanwhile, which answers 500."""
        path = f"/api/v2/dags/{dag_id}"
        self.wait(lambda: self._client.get(path).is_success, 60, f"DAG {dag_id}")
        body = {"dag_run_id": run_id, "logical_date": None}
        started = {httpx.codes.OK, httpx.codes.CONFLICT}
        self.wait(
            lambda: self._client.post(f"{path}/dagRuns", json=body).status_code in started, 20, f"run of {dag_id}"
        )

    def state(self, dag_id: str, run_id: str = "first") -> str:
        """Return a run's state."""
        return str(self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def wait_for_state(self, state: str, dag_id: str, run_id: str = "first", *, task_id: str = "") -> None:
        """Wait until a run, or one of its tasks, is in this state."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}" + (f"/taskInstances/{task_id}" if task_id else "")

        def look() -> bool:
            answer = self._client.get(path)
            found = answer.json()["state"] if answer.is_success else None
            assert found != "failed" or state in {"failed", "up_for_retry"}, (
                f"{path} has failed\n{self._ends_of_logs()}"
            )
            return found == state

        self.wait(look, 60, f"{state} {dag_id} {run_id} {task_id}")

    def wait(self, until: Callable[[], Any], seconds: float, what: str) -> Any:
        """Return what comes true in time; else fail with the ends of all logs."""
        end = time.monotonic() + seconds
        while True:
            if found := until():
                return found
            dead = [name for name, process in self._processes.items() if process.poll() is not None]
            if dead or time.monotonic() > end:
                why = f"{', '.join(dead)} ended" if dead else f"not within {seconds} s"
                raise AssertionError(f"no {what}: {why}\n{self._ends_of_logs()}")
            time.sleep(0.1)

    def send(self, *requests: Any) -> None:
        """Leave callback requests where the scheduler leaves them; one transaction, so one batch."""
        from airflow.models.db_callback_request import DbCallbackRequest

        with self.session() as session:
            session.add_all(DbCallbackRequest(callback=request, priority_weight=1) for request in requests)
            session.commit()

    def session(self) -> Any:
        """Open the database, as the scheduler has it; closed, it leaves no connection behind."""
        from sqlalchemy import create_engine
        from sqlalchemy.orm import Session
        from sqlalchemy.pool import NullPool

        return Session(create_engine(f"sqlite:///{self.home}/airflow.db", poolclass=NullPool))

    def pause(self, component: str) -> None:
        """Stop the clock of one component; what is for it piles up.

        Never while it holds SQLite's lock, which would stop everybody.
        """
        for _ in range(50):
            _signal(self._processes[component], signal.SIGSTOP)
            if self._can_write():
                return
            self.resume(component)
            time.sleep(0.05)
        raise AssertionError(f"{component} holds the database")

    def _can_write(self) -> bool:
        """Return whether nobody who sleeps holds SQLite's lock."""
        try:
            with contextlib.closing(sqlite3.connect(self.home / "airflow.db", timeout=1, isolation_level=None)) as base:
                base.execute("BEGIN IMMEDIATE")
                base.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
        return True

    def resume(self, component: str) -> None:
        """Let it go on."""
        _signal(self._processes[component], signal.SIGCONT)

    def restart(self, component: str) -> None:
        """Kill one component, as a lost machine would, and start another in its place."""
        self.kill(component)
        self.start(component)

    def start(self, component: str) -> None:
        """Start one component that was killed."""
        self._start(component, COMPONENTS[component])

    def wait_until_healthy(self) -> None:
        """Wait until every component says that it is well."""
        self.wait(self._healthy, 120, "a healthy Airflow")

    def kill(self, component: str) -> None:
        """Kill one component, and all that it started."""
        process = self._processes[component]
        _signal(process, signal.SIGKILL)
        process.wait()

    def _start(self, name: str, arguments: list[str]) -> None:
        with (self.output / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", name, *arguments],
                env=self._environment(),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "AIRFLOW_HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": self.url.rpartition(":")[2],
            "AIRFLOW__API__SECRET_KEY": "only-for-tests",
            "AIRFLOW__API_AUTH__JWT_SECRET": "only-for-tests-and-long-enough-for-hs512-which-asks-for-64-bytes!!",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__FERNET_KEY": "",
            "AIRFLOW__CORE__PARALLELISM": "10",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            # 3.0 takes DAGs whose file ran a callback, instead of being parsed, for deleted.
            "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "100000",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "12",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            **self._settings,
        }

    def _healthy(self) -> bool:
        try:
            parts = self._client.get("/api/v2/monitor/health").json()
        except (httpx.HTTPError, ValueError):
            return False
        return all(parts[part]["status"] == "healthy" for part in ("scheduler", "dag_processor", "triggerer"))

    def _ends_of_logs(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in self.output.iterdir())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Tell a component and all that it started; each leads a process group."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return

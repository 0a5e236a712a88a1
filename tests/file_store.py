"""A journal in a folder: a store that processes share, and processes that come and go."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from airflow_incident.api.client import Client, Connector
from airflow_incident.api.submit import submission
from airflow_incident.core.failure import Failure
from airflow_incident.core.settings import Settings
from airflow_incident.delivery.driver import Driver, run_all
from airflow_incident.delivery.flush import flush_all
from airflow_incident.delivery.outcome import FlushResult, ReportResult
from airflow_incident.delivery.record import PREFIX, Record, read_record, utc_now
from airflow_incident.delivery.report import DeliveryPolicy, IncidentContent, Report, prepare
from airflow_incident.delivery.reporter import deliver


class FileStore:
    """One file per name; a write is whole or not at all, as in a database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> str | None:
        try:
            return self._file(name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def set(self, name: str, text: str) -> None:
        draft = self.folder / f".{os.getpid()}"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self._file(name))

    def delete(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)

    def names(self, prefix: str) -> list[str]:
        found = (unquote(file.name) for file in self.folder.iterdir() if not file.name.startswith("."))
        return sorted(name for name in found if name.startswith(prefix))

    def read_all(self, prefix: str) -> dict[str, str]:
        return {name: self.get(name) or "" for name in self.names(prefix)}

    def records(self) -> list[Record]:
        """Read every record."""
        return [read_record(name, self.get(name) or "") for name in self.names(PREFIX)]

    def _file(self, name: str) -> Path:
        return self.folder / quote(name, safe="")


class Dying(FileStore):
    """A store whose process is killed before or after its n-th write."""

    def __init__(self, folder: Path, *, write: int, after: bool) -> None:
        super().__init__(folder)
        self.write = write
        self.after = after
        self.writes = 0

    def set(self, name: str, text: str) -> None:
        self.writes += 1
        if self.writes == self.write and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        super().set(name, text)
        if self.writes == self.write and self.after:
            os.kill(os.getpid(), signal.SIGKILL)


def report_of(run: str, dag: str = "orders", **facts: object) -> Report:
    """Prepare the report of a failure."""
    failure = Failure(dag_id=dag, run_id=run, **facts)
    return prepare(failure, Settings(), IncidentContent(), deployment="tests", redact=str)


def client_of(url: str) -> Client:
    """Build the client of a process; a socket is never shared."""
    return Client(Connector(base_url=url, api_key="sandbox-key"))


def report_to(
    url: str, store: object, report: Report, *, client: Client | None = None, **policy: object
) -> ReportResult:
    """Report as a process does, with nothing but the store simulated."""
    options = {"now": utc_now, "deployment": "tests", "conn_id": "c", "storm_dag": 0, "storm_connection": 0}
    seconds = float(policy.pop("seconds", 5.0))
    own = client or client_of(url)
    try:
        driver = Driver(store, own, key=report.key, first=submission(report.draft, report.terms), seconds=seconds)
        return driver.run(deliver(report, DeliveryPolicy(**(options | policy))))
    finally:
        if client is None:
            own.close()


def flush_to(url: str, store: object, *, budget: float = 10.0) -> FlushResult:
    """Flush as a process does."""
    client = client_of(url)
    try:
        return run_all(flush_all(utc_now), store, lambda call, _: client.call(call, budget=budget))
    finally:
        client.close()


def fork(work: Callable[[], object]) -> int:
    """Do work in a process of its own, which leaves nothing behind; return its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def wait_for(*pids: int) -> list[int]:
    """Wait until processes have ended; return their exit codes, negative for a signal."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


@contextlib.contextmanager
def ended(pids: list[int]) -> Iterator[None]:
    """Leave no process behind, whatever fails."""
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

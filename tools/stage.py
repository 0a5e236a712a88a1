"""A folder, ports and processes, each with a log of its own: the demo's sandbox and real Airflow."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import psutil

from tools import keeper
from tools.loopback import API_KEY
from tools.watch import Trouble, Watch

if TYPE_CHECKING:
    from tools.wire import Wire

ROOT = Path(__file__).resolve().parent.parent
# All that the processes see of the caller's environment: its Airflow settings, proxies and paths are not ours.
INHERITED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "LD_LIBRARY_PATH")

AIRFLOW = tuple(int(part) for part in version("apache-airflow").split(".")[:2])
IS_AIRFLOW_2 = AIRFLOW < (3, 0)
TASKS_CAN_LIST = IS_AIRFLOW_2 or AIRFLOW >= (3, 3)
"""Whether a task can list Variables, as the flush DAG must."""
WEB = "webserver" if IS_AIRFLOW_2 else "api-server"
# With SQLite, Airflow 2's scheduler reads the DAGs itself.
PROCESSOR = "scheduler" if IS_AIRFLOW_2 else "dag-processor"
COMPONENTS = dict.fromkeys((WEB, "scheduler", PROCESSOR))

START_LIMIT = 180
"""Seconds for anything to start, or an errand to be done."""
# What has done its work when it ends; everything else should run.
ERRANDS = {"migrate", "journal", "initdb", "connections"}


def copy_dags(folder: Path) -> Path:
    """Copy the example DAGs; Airflow 2 has no airflow.sdk, so there they import the same names from elsewhere."""
    shutil.copytree(ROOT / "dags", folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in folder.glob("*.py") if IS_AIRFLOW_2 else ():
        file.write_text(file.read_text().replace("airflow.sdk", "airflow.providers.common.compat.sdk"))
    return folder


class Stage:
    """Holds the folder, reserves ports and starts processes; when the block ends, all of them are gone.

    :param name: what is staged; the folder is called so, too.
    :param copies: whether Airflow reads a copy of the example DAGs, as Airflow 2 always does.
    """

    def __init__(self, name: str = "demo", *, copies: bool = False) -> None:
        self.name = name
        self._copies = copies or IS_AIRFLOW_2
        self.home = ROOT / f".{name}"
        self.wire: Wire | None = None
        self._locks: list[int] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        if not self._lock(self.home):
            raise Trouble(f"another {self.name} is running in this checkout, or still stopping")
        for path in self.home.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.home / "tmp").mkdir()
        if IS_AIRFLOW_2:  # it lets everybody in
            (self.home / "webserver_config.py").write_text('AUTH_ROLE_PUBLIC = "Admin"\n')
        self.dags = self._dags()
        self.reserve()
        # It inherits the locks: they are free again when the last process is gone, not before.
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "tools.keeper"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=self._locks,
        )
        return self

    def reserve(self) -> None:
        """Choose the ports, before there is any process."""
        self.airflow = f"http://127.0.0.1:{self.port(8080)}"
        self.sandbox = f"http://127.0.0.1:{self.port(8910)}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._keeper.wait()

    @property
    def _pipe(self) -> IO[bytes]:
        if self._keeper.stdin is None:
            raise RuntimeError("the keeper was started without a pipe")
        return self._keeper.stdin

    def _lock(self, path: Path) -> bool:
        """Hold a file or folder as long as this process or its keeper lives."""
        with contextlib.suppress(OSError):
            opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(opened)
            else:
                self._locks.append(opened)
                return True
        return False

    def port(self, preferred: int) -> int:
        """Choose the preferred port if it is free and no other demo is about to take it, else any."""
        mine = self._lock(Path(tempfile.gettempdir(), f"airflow-incident-demo-{preferred}.lock"))
        for wanted in (preferred, 0) if mine else (0,):
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", wanted)) as probe:
                return int(probe.getsockname()[1])
        raise Trouble("no free port on 127.0.0.1")

    def environment(self, _name: str) -> dict[str, str]:
        """Say all that a process is told: the caller's basics, Airflow's settings, the connection."""
        host = self.wire.url if self.wire else self.sandbox
        connection = {"conn_type": "incident_io", "password": API_KEY, "host": host}
        settings = {
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.airflow}/execution/",
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__PARALLELISM": "4",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "API__HOST": "127.0.0.1",
            "API__PORT": self.airflow.rpartition(":")[2],
            "API__BASE_URL": self.airflow,
            # A new file is read soon; the default is five minutes.
            "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "INCIDENT_IO__DEPLOYMENT": "demo",
            "INCIDENT_IO__IMPORT_ERRORS": "True",
            "INCIDENT_IO__IMPORT_ERROR_MINUTES": "0",
            # Airflow 2: the same, in its words. Its SequentialExecutor would take seconds for each task.
            "CORE__EXECUTOR": "LocalExecutor",
            "SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
            "WEBSERVER__BASE_URL": self.airflow,
            "WEBSERVER__CONFIG_FILE": str(self.home / "webserver_config.py"),
            "WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
            "WEBSERVER__WEB_SERVER_PORT": self.airflow.rpartition(":")[2],
            "WEBSERVER__WORKERS": "1",
            # Airflow notices some tasks' end only when it wakes for the next heartbeat; the default is 5 s.
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        }
        return self.told(self.home, settings) | {"AIRFLOW_CONN_INCIDENT_IO_DEFAULT": json.dumps(connection)}

    def told(self, airflow_home: Path, settings: dict[str, str]) -> dict[str, str]:
        """Return the environment of a process that knows these settings of Airflow, and no others."""
        caller = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return (
            caller
            | {f"AIRFLOW__{name}": value for name, value in settings.items()}
            | {
                "AIRFLOW_HOME": str(airflow_home),
                "PYTHONPATH": str(ROOT),
                "TMPDIR": str(self.home / "tmp"),
                "NO_PROXY": "*",
                # Airflow forks; macOS otherwise ends a fork that touches what its parent has loaded.
                "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",
                "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
            }
        )

    def _dags(self) -> Path:
        """Tell where the DAGs are."""
        return copy_dags(self.home / "dags") if self._copies else ROOT / "dags"

    def log(self, name: str) -> Path:
        """Tell where a process writes."""
        return self.home / f"{name}.log"

    def start(self, name: str, *command: str) -> None:
        """Start a Python."""
        self.run(name, sys.executable, *command)

    def run(self, name: str, *command: str | Path, end: int = signal.SIGTERM, **options: Any) -> None:
        """Start a process in a session of its own, which the keeper will end.

        :param end: the signal that asks it to stop.
        :param options: what `Popen` takes.
        """
        options = {"cwd": self.home} | options
        environment = options.pop("env", None) or self.environment(name)
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        self._pipe.write(b"%d %d\n" % (process.pid, end))
        self._pipe.flush()
        self.processes[name] = process

    def kill(self, name: str) -> None:
        """Kill a process and all that it started at one moment, as when a machine is lost."""
        lost = keeper.find([self.processes.pop(name).pid])
        # Stopped first, none sees another one end, and tells Airflow.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in lost:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)

    def end(self, name: str, number: int) -> None:
        """Send a process a signal, and wait for its end."""
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait()

    def start_ours(self, name: str, *arguments: str) -> None:
        """Start `airflow-incident`."""
        self.start(name, str(Path(sys.executable).with_name("airflow-incident")), name, *arguments)

    def start_sandbox(self) -> None:
        """Start the local incident.io."""
        self.start_ours("sandbox", "--port", self.sandbox.rpartition(":")[2])

    def start_watcher(self) -> None:
        """Start what compares Airflow's database with the journal."""
        self.start_ours("watch", "--interval", "1")

    def start_airflow(self, *extra: str) -> None:
        """Start Airflow's components: `airflow standalone`, when ended by a signal, leaves them all behind."""
        for name in (*COMPONENTS, *extra):
            # The log servers would listen on every interface; here the logs are files that all can read.
            quiet = ["--skip-serve-logs"] if name in {"scheduler", "triggerer"} else []
            self.start(name, "-m", "airflow", name, *quiet)

    def ended(self, name: str) -> bool | None:
        """Return whether a process has done its work; None while it runs."""
        code = self.processes[name].poll()
        if code:
            raise Trouble(f"{name} failed (exit {code})", self.log(name))
        return None if code is None else True

    def check(self) -> None:
        """Raise Trouble if a process that should run has ended."""
        for name, process in self.processes.items():
            if name not in ERRANDS and process.poll() is not None:
                raise Trouble(f"{name} ended by itself (exit {process.returncode})", self.log(name))

    def await_errand(self, watch: Watch, name: str, text: str) -> None:
        """Wait until a process has done its work."""
        watch.until(lambda: (text, self.ended(name)), seconds=START_LIMIT, log=self.log(name))

    def await_words(self, watch: Watch, name: str, words: str) -> None:
        """Wait until a process has said something."""

        def look() -> tuple[str, bool | None]:
            self.check()
            return f"{name} is starting", True if words in self.log(name).read_text(errors="replace") else None

        watch.until(look, seconds=START_LIMIT, log=self.log(name))
